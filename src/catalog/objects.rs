//! The OIDs of the extension's own objects in this database.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Oid};

use super::invalidation;
use crate::error::{Error, Result};

/// A table and the index by which it is read.
#[derive(Clone, Copy)]
pub struct Indexed {
    pub table: Oid,
    pub index: Oid,
}

/// The OIDs, valid until the next change of the catalog.
#[derive(Clone, Copy)]
pub struct Objects {
    pub account: Indexed,
    pub account_key: Indexed,
    pub account_key_by_account: Indexed,
    pub field: Indexed,
    pub field_by_handle: Indexed,
    pub field_by_id: Indexed,
    pub access_grant: Indexed,
    pub key_use: Indexed,
    pub path: Indexed,
    pub root_key: Indexed,
    pub encrypted_text: Oid,
    pub encrypted_text_array: Oid,
    pub encrypted_jsonb: Oid,
    /// `T = T` and `T <> T`, with their functions.
    pub equal: Operator,
    pub not_equal: Operator,
    /// `T = text`, `T <> text` and `text = T`, `text <> T`.
    pub equal_text: Operator,
    pub not_equal_text: Operator,
    pub text_equal: Operator,
    pub text_not_equal: Operator,
    /// The casts from text, varchar, char and name, and the length coercion.
    pub casts: [Oid; 4],
    pub coerce: Oid,
    pub search_tokens: Oid,
    pub search_tokens_in_transit: Oid,
    pub probe: Oid,
    pub probe_text: Oid,
    pub probe_array: Oid,
    pub probe_text_array: Oid,
    pub schema: Oid,
    readable: [Readable; 2],
    /// `reveal(jsonb)` and `reveal(jsonb, encrypted_jsonb)`.
    pub reveal_document: Oid,
    pub reveal_merged: Oid,
    /// The row trigger of protected documents.
    pub seal_document: Oid,
}

/// What transparent reads need to know of an encrypted type.
#[derive(Clone, Copy)]
pub struct Readable {
    pub oid: Oid,
    pub native: Oid,
    pub native_array: Oid,
    /// `reveal(T)`, which returns the native type.
    pub reveal: Oid,
}

/// An operator and its function.
#[derive(Clone, Copy)]
pub struct Operator {
    pub oid: Oid,
    pub function: Oid,
}

thread_local! {
    static OBJECTS: RefCell<Option<(u64, Objects)>> = const { RefCell::new(None) };
}

impl Objects {
    /// The objects of this database.
    pub fn get() -> Result<Self> {
        let generation = invalidation::generation();
        let cached = OBJECTS.with_borrow(|cached| *cached);
        if let Some((_, objects)) = cached.filter(|(seen, _)| *seen == generation) {
            return Ok(objects);
        }
        let objects = Self::look_up()?;
        OBJECTS.set(Some((generation, objects)));
        Ok(objects)
    }

    fn look_up() -> Result<Self> {
        // SAFETY: the name is NUL-terminated; a missing schema gives 0
        let schema = unsafe { pg_sys::get_namespace_oid(c"fieldcrypt".as_ptr(), true) };
        let relation = |name: &CStr| {
            // SAFETY: the name is NUL-terminated; a missing relation gives 0
            let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
            if oid == Oid::INVALID { Err(Error::NotInstalled) } else { Ok(oid) }
        };
        let indexed = |table, index| {
            Ok::<_, Error>(Indexed { table: relation(table)?, index: relation(index)? })
        };
        let encrypted_text = type_oid(c"encrypted_text", schema);
        let encrypted_text_array = type_oid(c"_encrypted_text", schema);
        let encrypted_jsonb = type_oid(c"encrypted_jsonb", schema);
        let function = |name, arguments: &[Oid]| function_oid(name, arguments, schema);
        let readable = |oid, native, native_array| Readable {
            oid,
            native,
            native_array,
            reveal: function(c"reveal", &[oid]),
        };
        let text = pg_sys::TEXTOID;
        Ok(Self {
            account: indexed(c"account", c"account_pkey")?,
            account_key: indexed(c"account_key", c"account_key_pkey")?,
            account_key_by_account: indexed(c"account_key", c"account_key_by_account")?,
            field: indexed(c"field", c"field_pkey")?,
            field_by_handle: indexed(c"field", c"field_by_handle")?,
            field_by_id: indexed(c"field", c"field_by_id")?,
            access_grant: indexed(c"access_grant", c"access_grant_pkey")?,
            key_use: indexed(c"key_use", c"key_use_by_key")?,
            path: indexed(c"path", c"path_pkey")?,
            root_key: indexed(c"root_key", c"root_key_pkey")?,
            encrypted_text,
            encrypted_text_array,
            encrypted_jsonb,
            equal: operator(c"=", encrypted_text, encrypted_text),
            not_equal: operator(c"<>", encrypted_text, encrypted_text),
            equal_text: operator(c"=", encrypted_text, text),
            not_equal_text: operator(c"<>", encrypted_text, text),
            text_equal: operator(c"=", text, encrypted_text),
            text_not_equal: operator(c"<>", text, encrypted_text),
            casts: [text, pg_sys::VARCHAROID, pg_sys::BPCHAROID, pg_sys::NAMEOID].map(|source| {
                let arguments = [source, pg_sys::INT4OID, pg_sys::BOOLOID];
                function(c"encrypted_text_from_text", &arguments)
            }),
            coerce: function(
                c"encrypted_text_coerce",
                &[encrypted_text, pg_sys::INT4OID, pg_sys::BOOLOID],
            ),
            search_tokens: function(c"search_tokens", &[text, text, text]),
            search_tokens_in_transit: function(
                c"search_tokens_in_transit",
                &[text, encrypted_text, text],
            ),
            probe: function(c"probe", &[encrypted_text, pg_sys::INT4OID]),
            probe_text: function(c"probe", &[text, pg_sys::INT4OID]),
            probe_array: function(c"probe", &[encrypted_text_array, pg_sys::INT4OID]),
            probe_text_array: function(c"probe", &[pg_sys::TEXTARRAYOID, pg_sys::INT4OID]),
            schema,
            readable: [
                readable(encrypted_text, text, pg_sys::TEXTARRAYOID),
                readable(encrypted_jsonb, pg_sys::JSONBOID, pg_sys::JSONBARRAYOID),
            ],
            reveal_document: function(c"reveal", &[pg_sys::JSONBOID]),
            reveal_merged: function(c"reveal", &[pg_sys::JSONBOID, encrypted_jsonb]),
            seal_document: function(c"seal_document", &[]),
        })
    }

    /// What is known of an encrypted type.
    pub fn readable(&self, base_type: Oid) -> Option<Readable> {
        self.readable.iter().find(|readable| readable.oid == base_type).copied()
    }

    /// Whether a change of that relation changes what the caches hold.
    pub fn holds(&self, relation: Oid) -> bool {
        let tables = [
            self.account,
            self.account_key,
            self.field,
            self.access_grant,
            self.root_key,
            self.path,
        ];
        tables.iter().any(|indexed| indexed.table == relation)
    }

    /// The objects seen last, whatever has changed since: for invalidation callbacks, which must
    /// not read the catalog.
    pub fn last_seen() -> Option<Self> {
        OBJECTS.with_borrow(|cached| cached.map(|(_, objects)| objects))
    }
}

fn cache_oid(cache: u32, column: i16, keys: [Datum; 4]) -> Oid {
    let [a, b, c, d] = keys;
    // SAFETY: a syscache look-up by keys of the cache's own types; a missing row gives 0
    unsafe { pg_sys::GetSysCacheOid(cache as i32, column, a, b, c, d) }
}

fn type_oid(name: &CStr, schema: Oid) -> Oid {
    let keys = [Datum::from(name.as_ptr()), Datum::from(schema), Datum::null(), Datum::null()];
    cache_oid(pg_sys::SysCacheIdentifier::TYPENAMENSP, 1, keys)
}

fn function_oid(name: &CStr, arguments: &[Oid], schema: Oid) -> Oid {
    // SAFETY: copies that many OIDs
    let vector = unsafe { pg_sys::buildoidvector(arguments.as_ptr(), arguments.len() as i32) };
    let keys =
        [Datum::from(name.as_ptr()), Datum::from(vector), Datum::from(schema), Datum::null()];
    cache_oid(pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP, 1, keys)
}

/// An operator of `pg_catalog`: that schema is on every search path.
fn operator(name: &CStr, left: Oid, right: Oid) -> Operator {
    let schema = pg_sys::PG_CATALOG_NAMESPACE;
    let keys =
        [Datum::from(name.as_ptr()), Datum::from(left), Datum::from(right), Datum::from(schema)];
    let oid = cache_oid(pg_sys::SysCacheIdentifier::OPERNAMENSP, 1, keys);
    // SAFETY: a syscache look-up; a missing operator gives 0
    Operator { oid, function: unsafe { pg_sys::get_opcode(oid) } }
}
