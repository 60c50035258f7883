//! Changes of the extension's tables: SQL run as the extension's owner.
//!
//! Invariant: the statements are constants with parameters, name every object with its schema,
//! and run only after the caller's rights were checked.

use pgrx::Spi;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};

use super::objects::Objects;
use crate::error::{Error, Result};

/// Runs `statement` as the owner of the extension's tables; returns the number of rows changed.
pub fn run(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
    let table = Objects::get()?.account.table;
    let changed = as_owner_of(table, || {
        Spi::connect_mut(|client| client.update(statement, None, arguments).map(|rows| rows.len()))
    })?;
    changed.map_err(|_| Error::Catalog("statement failed"))
}

/// Runs `work` as the owner of `table`, with the search path pinned.
fn as_owner_of<T>(table: Oid, work: impl FnOnce() -> T) -> Result<T> {
    let mut user = Oid::INVALID;
    let mut context = 0;
    // SAFETY: both out-parameters are valid
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    let restore = RestoreUser { user, context };
    // SAFETY: the owner is a role that exists; `restore` puts the user back also when unwinding,
    // and (sub)transaction abort does where an error is caught above
    unsafe {
        let owner = owner_of(table)?;
        let local = pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        pg_sys::SetUserIdAndSecContext(owner, context | local);
    }
    let result = work();
    drop(restore);
    Ok(result)
}

/// # Safety
/// `table` exists.
unsafe fn owner_of(table: Oid) -> Result<Oid> {
    // SAFETY: a syscache look-up; the tuple is released before the OID is used
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(table));
        if tuple.is_null() {
            return Err(Error::NotInstalled);
        }
        let form: *const pg_sys::FormData_pg_class = pg_sys::heap_tuple_get_struct(tuple);
        let owner = (*form).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}

struct RestoreUser {
    user: Oid,
    context: i32,
}

impl Drop for RestoreUser {
    fn drop(&mut self) {
        // SAFETY: the values are what GetUserIdAndSecContext returned; it sets two variables
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
