//! What clears plain values that are left in the files of a table, for callers who may VACUUM it.

use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};

use super::owner::as_its_owner;
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call};
use crate::catalog::write;
use crate::compat;
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

/// The table of a call that an administrator makes, on a server that can be written to.
fn table_of(call: &Call, action: &str) -> Result<Oid> {
    require_role(ADMIN, action)?;
    // SAFETY: the names are NUL-terminated; they raise an error where nothing can be written
    unsafe {
        pg_sys::PreventCommandDuringRecovery(c"cleaning a table".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"cleaning a table".as_ptr());
    }
    Ok(Oid::from(call.datum(0).value() as u32))
}

/// Whether the current user may VACUUM a table of one of the kinds. If not, a warning of PostgreSQL's
/// says so.
fn may_vacuum(table: Oid, kinds: &[u8]) -> Result<bool> {
    // SAFETY: a syscache look-up; the tuple is released after its last use
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, table.into());
        if tuple.is_null() {
            return Err(Error::NotATable);
        }
        let class: pg_sys::Form_pg_class = pg_sys::heap_tuple_get_struct(tuple);
        let is_of_kind = kinds.contains(&((*class).relkind as u8));
        let may = is_of_kind && compat::may_vacuum(table, class);
        pg_sys::ReleaseSysCache(tuple);
        if is_of_kind { Ok(may) } else { Err(Error::NotATable) }
    }
}

/// `note_remnants(relation regclass)`: it had plain values until now, which no job has encrypted.
#[pg_extern(sql = false)]
fn note_remnants(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let table = table_of(&call, "note_remnants")?;
    if !may_vacuum(table, &[pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE])? {
        return Err(Error::MayNotVacuum.into());
    }
    write::texts("SELECT fieldcrypt.note_table($1::pg_catalog.regclass)::text", &[table.into()])?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// `rewrite_table(relation regclass) → boolean`: as VACUUM FULL does, but where a procedure can call
/// it, and waiting for the lock only a moment. False if the caller may not, which a warning says.
#[pg_extern(sql = false)]
fn rewrite_table(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let table = table_of(&call, "rewrite_table")?;
    if !may_vacuum(table, &[pg_sys::RELKIND_RELATION])? {
        return Ok(false.into());
    }
    as_its_owner(table, || {
        // SAFETY: the table exists and has a file; its locks are taken inside
        unsafe { compat::rewrite_table(table) }
    })?;
    Ok(true.into())
}
