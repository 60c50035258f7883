//! The OIDs of the extension's own tables in this database.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

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
pub struct Tables {
    pub account: Indexed,
    pub account_key: Indexed,
    pub account_key_by_account: Indexed,
    pub later_index_key: Indexed,
    pub field: Indexed,
    pub field_by_handle: Indexed,
    pub field_by_id: Indexed,
    pub access_grant: Indexed,
    pub audit_batch: Oid,
    pub key_use: Indexed,
    pub path: Indexed,
    pub root_key: Indexed,
}

thread_local! {
    static TABLES: RefCell<Option<(u64, Tables)>> = const { RefCell::new(None) };
}

impl Tables {
    /// The tables of this database.
    pub fn get() -> Result<Self> {
        let generation = invalidation::generation();
        let cached = TABLES.with_borrow(|cached| *cached);
        if let Some((_, tables)) = cached.filter(|(seen, _)| *seen == generation) {
            return Ok(tables);
        }
        let tables = Self::look_up()?;
        TABLES.set(Some((generation, tables)));
        Ok(tables)
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
        Ok(Self {
            account: indexed(c"account", c"account_pkey")?,
            account_key: indexed(c"account_key", c"account_key_pkey")?,
            account_key_by_account: indexed(c"account_key", c"account_key_by_account")?,
            later_index_key: indexed(c"account_key", c"later_index_key")?,
            field: indexed(c"field", c"field_pkey")?,
            field_by_handle: indexed(c"field", c"field_by_handle")?,
            field_by_id: indexed(c"field", c"field_by_id")?,
            access_grant: indexed(c"access_grant", c"access_grant_pkey")?,
            audit_batch: relation(c"audit_batch")?,
            key_use: indexed(c"key_use", c"key_use_by_key")?,
            path: indexed(c"path", c"path_pkey")?,
            root_key: indexed(c"root_key", c"root_key_pkey")?,
        })
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

    /// The tables seen last, whatever has changed since: for invalidation callbacks, which must
    /// not read the catalog.
    pub fn last_seen() -> Option<Self> {
        TABLES.with_borrow(|cached| cached.map(|(_, tables)| tables))
    }
}
