//! The OIDs of the encrypted types in this database, and of what belongs to each. They need no
//! table: in an upgrade types are read before the tables are there.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{CStr, CString};
use std::rc::Rc;

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_sys::{self, Datum, Oid};

use super::invalidation;
use crate::error::{Error, Result};

/// Whether an object is not one of PostgreSQL's own: a quick "no" for most.
pub fn is_of_users(oid: Oid) -> bool {
    oid.to_u32() >= pg_sys::FirstNormalObjectId
}

/// The encrypted types, valid until the next change of the catalog.
pub struct Family {
    schema: Oid,
    /// In the order of [`PlaintextType::ALL`].
    oids: [Oid; PlaintextType::ALL.len()],
    types: OnceCell<Vec<EncryptedType>>,
    documents: OnceCell<DocumentFunctions>,
    readings: OnceCell<Vec<Reading>>,
}

/// An encrypted type with what belongs to it.
pub struct EncryptedType {
    pub plaintext_type: PlaintextType,
    pub oid: Oid,
    pub array: Oid,
    /// The type of its plain values.
    pub native: Oid,
    pub native_array: Oid,
    /// `T = T` and `T <> T`, with their functions.
    pub equal: Operator,
    pub not_equal: Operator,
    /// `T = native`, `native = T` and their negations.
    pub equal_native: Operator,
    pub native_equal: Operator,
    pub not_equal_native: Operator,
    pub native_not_equal: Operator,
    /// The cast from the native type, and the length coercion.
    pub cast: Oid,
    pub coerce: Oid,
    pub probe: Oid,
    pub probe_native: Oid,
    pub probe_array: Oid,
    pub probe_native_array: Oid,
    pub reveal: Oid,
}

/// The functions of documents.
#[derive(Clone, Copy)]
pub struct DocumentFunctions {
    pub search_tokens: Oid,
    pub search_tokens_in_transit: Oid,
    /// `reveal(jsonb)` and `reveal(jsonb, encrypted_jsonb)`.
    pub reveal: Oid,
    pub reveal_merged: Oid,
    /// The row trigger.
    pub seal: Oid,
    /// The cast from json to `encrypted_jsonb`.
    pub cast: Oid,
}

/// A function that reads, and the one that does the same and is told what it reads from.
#[derive(Clone, Copy)]
pub struct Reading {
    pub function: Oid,
    pub of_entity: Oid,
    /// How many arguments the second has, of which the last is the entity.
    pub arguments: usize,
    /// Whether the first has a path, for which NULL means something else in the second.
    pub has_path: bool,
    /// Whether the entity may be of any type; else it is a text.
    pub takes_any: bool,
}

/// An operator and its function.
#[derive(Clone, Copy)]
pub struct Operator {
    pub oid: Oid,
    pub function: Oid,
}

thread_local! {
    static FAMILY: RefCell<Option<(u64, Rc<Family>)>> = const { RefCell::new(None) };
    /// Whether the types were there when they were looked for last.
    static PRESENT: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether this session has seen that the extension is not in its database. It asks nobody.
pub fn is_known_to_be_absent() -> bool {
    PRESENT.get() == Some(false)
}

/// Looks whether the extension is in the database by now, unless it has been seen there.
pub fn look_for() {
    // SAFETY: asks the state of the session: where a transaction has failed nothing can be looked up
    if PRESENT.get() != Some(true) && unsafe { pg_sys::IsTransactionState() } {
        // what it finds is noted
        let _ = Family::get();
    }
}

impl Family {
    /// The encrypted types of this database.
    pub fn get() -> Result<Rc<Self>> {
        let generation = invalidation::generation();
        let cached = FAMILY.with_borrow(|cached| {
            cached
                .as_ref()
                .filter(|(seen, _)| *seen == generation)
                .map(|(_, family)| family.clone())
        });
        if let Some(family) = cached {
            return Ok(family);
        }
        let family = Rc::new(Self::look_up()?);
        FAMILY.set(Some((generation, Rc::clone(&family))));
        Ok(family)
    }

    fn look_up() -> Result<Self> {
        // SAFETY: the name is NUL-terminated; a missing schema gives 0
        let schema = unsafe { pg_sys::get_namespace_oid(c"fieldcrypt".as_ptr(), true) };
        let oids = PlaintextType::ALL.map(|kind| type_oid(type_name(kind), schema));
        // while the extension is being created they come one by one
        PRESENT.set(Some(oids[0] != Oid::INVALID));
        if oids.contains(&Oid::INVALID) {
            return Err(Error::NotInstalled);
        }
        Ok(Self {
            schema,
            oids,
            types: OnceCell::new(),
            documents: OnceCell::new(),
            readings: OnceCell::new(),
        })
    }

    /// Whose plain values an encrypted type has; `None` for every other type.
    pub fn plaintext_type(&self, base_type: Oid) -> Option<PlaintextType> {
        if !is_of_users(base_type) {
            return None;
        }
        let index = self.oids.iter().position(|&oid| oid == base_type)?;
        Some(PlaintextType::ALL[index])
    }

    /// The encrypted type of such plain values.
    pub fn oid_of(&self, plaintext_type: PlaintextType) -> Oid {
        self.oids[plaintext_type as usize - 1]
    }

    /// The encrypted type of such plain values, with what belongs to it.
    pub fn of(&self, plaintext_type: PlaintextType) -> &EncryptedType {
        &self.types()[plaintext_type as usize - 1]
    }

    /// What belongs to an encrypted type; `None` for every other type.
    pub fn encrypted(&self, base_type: Oid) -> Option<&EncryptedType> {
        self.plaintext_type(base_type).map(|plaintext_type| self.of(plaintext_type))
    }

    /// The same by the type of its arrays.
    pub fn encrypted_array(&self, array: Oid) -> Option<&EncryptedType> {
        if !is_of_users(array) {
            return None;
        }
        self.types().iter().find(|encrypted| encrypted.array == array)
    }

    /// The encrypted types.
    pub fn types(&self) -> &[EncryptedType] {
        self.types.get_or_init(|| {
            PlaintextType::ALL
                .map(|kind| EncryptedType::look_up(kind, self.oid_of(kind), self.schema))
                .into()
        })
    }

    /// The functions of documents.
    pub fn documents(&self) -> DocumentFunctions {
        *self.documents.get_or_init(|| {
            let (text, jsonb) = (pg_sys::TEXTOID, pg_sys::JSONBOID);
            let [sealed, blob] = [PlaintextType::Text, PlaintextType::Json].map(|t| self.oid_of(t));
            let function = |name, arguments: &[Oid]| function_oid(name, arguments, self.schema);
            DocumentFunctions {
                search_tokens: function(c"search_tokens", &[text, text, text]),
                search_tokens_in_transit: function(
                    c"search_tokens_in_transit",
                    &[text, sealed, text],
                ),
                reveal: function(c"reveal", &[jsonb]),
                reveal_merged: function(c"reveal", &[jsonb, blob]),
                seal: function(c"seal_document", &[]),
                cast: function(
                    c"encrypted_jsonb_from",
                    &[pg_sys::JSONOID, pg_sys::INT4OID, pg_sys::BOOLOID],
                ),
            }
        })
    }

    /// What `function` reads; `None` if it is another function.
    pub fn reading(&self, function: Oid) -> Option<Reading> {
        if !is_of_users(function) {
            return None;
        }
        let readings = self.readings.get_or_init(|| self.look_up_readings());
        readings.iter().find(|reading| reading.function == function).copied()
    }

    fn look_up_readings(&self) -> Vec<Reading> {
        let (text, jsonb) = (pg_sys::TEXTOID, pg_sys::JSONBOID);
        let blob = self.oid_of(PlaintextType::Json);
        let find = |name, from: &[Oid], to: &[Oid]| Reading {
            function: function_oid(name, from, self.schema),
            of_entity: function_oid(name, to, self.schema),
            arguments: to.len(),
            has_path: from.last() == Some(&text),
            takes_any: to.last() == Some(&pg_sys::ANYOID),
        };
        let mut readings = vec![
            find(c"reveal", &[jsonb], &[jsonb, text]),
            find(c"reveal", &[jsonb, blob], &[jsonb, blob, text]),
            // without a path the whole document
            find(c"decrypt", &[jsonb], &[jsonb, text, text]),
            find(c"decrypt", &[jsonb, text], &[jsonb, text, text]),
            find(c"decrypt", &[jsonb, blob], &[jsonb, blob, text]),
        ];
        for name in [c"decrypt", c"reveal"] {
            let of_key = |&oid: &Oid| find(name, &[oid], &[oid, pg_sys::ANYOID]);
            readings.extend(self.oids.iter().map(of_key));
        }
        readings
    }

    /// Whether a function is one of this extension.
    pub fn has_function(&self, function: Oid) -> bool {
        // SAFETY: a syscache look-up
        is_of_users(function) && unsafe { pg_sys::get_func_namespace(function) } == self.schema
    }
}

impl EncryptedType {
    /// `operator`, which is `T = T` or `T <> T`, and what it is between T and the native type.
    pub fn operators_like(&self, operator: Operator) -> [Operator; 3] {
        if operator.oid == self.equal.oid {
            [self.equal, self.equal_native, self.native_equal]
        } else {
            [self.not_equal, self.not_equal_native, self.native_not_equal]
        }
    }

    fn look_up(plaintext_type: PlaintextType, oid: Oid, schema: Oid) -> Self {
        let native = native(plaintext_type);
        // SAFETY: syscache look-ups; a missing type gives 0
        let (array, native_array) =
            unsafe { (pg_sys::get_array_type(oid), pg_sys::get_array_type(native)) };
        let function = |name, arguments: &[Oid]| function_oid(name, arguments, schema);
        let cast = CString::new(format!("encrypted_{}_from", plaintext_type.name()));
        let coerce = CString::new(format!("encrypted_{}_coerce", plaintext_type.name()));
        let int = pg_sys::INT4OID;
        Self {
            plaintext_type,
            oid,
            array,
            native,
            native_array,
            equal: operator(c"=", oid, oid),
            not_equal: operator(c"<>", oid, oid),
            equal_native: operator(c"=", oid, native),
            native_equal: operator(c"=", native, oid),
            not_equal_native: operator(c"<>", oid, native),
            native_not_equal: operator(c"<>", native, oid),
            cast: function(&cast.unwrap_or_default(), &[native, int, pg_sys::BOOLOID]),
            coerce: function(&coerce.unwrap_or_default(), &[oid, int, pg_sys::BOOLOID]),
            probe: function(c"probe", &[oid, int]),
            probe_native: function(c"probe", &[native, int]),
            probe_array: function(c"probe", &[array, int]),
            probe_native_array: function(c"probe", &[native_array, int]),
            reveal: function(c"reveal", &[oid]),
        }
    }
}

/// The name of an encrypted type.
fn type_name(plaintext_type: PlaintextType) -> &'static CStr {
    match plaintext_type {
        PlaintextType::Text => c"encrypted_text",
        PlaintextType::Bytea => c"encrypted_bytea",
        PlaintextType::Json => c"encrypted_jsonb",
        PlaintextType::Bigint => c"encrypted_bigint",
        PlaintextType::Numeric => c"encrypted_numeric",
        PlaintextType::Date => c"encrypted_date",
        PlaintextType::Timestamptz => c"encrypted_timestamptz",
        PlaintextType::Boolean => c"encrypted_boolean",
        PlaintextType::Uuid => c"encrypted_uuid",
    }
}

/// PostgreSQL's type of such plain values.
pub fn native(plaintext_type: PlaintextType) -> Oid {
    match plaintext_type {
        PlaintextType::Text => pg_sys::TEXTOID,
        PlaintextType::Bytea => pg_sys::BYTEAOID,
        PlaintextType::Json => pg_sys::JSONBOID,
        PlaintextType::Bigint => pg_sys::INT8OID,
        PlaintextType::Numeric => pg_sys::NUMERICOID,
        PlaintextType::Date => pg_sys::DATEOID,
        PlaintextType::Timestamptz => pg_sys::TIMESTAMPTZOID,
        PlaintextType::Boolean => pg_sys::BOOLOID,
        PlaintextType::Uuid => pg_sys::UUIDOID,
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
