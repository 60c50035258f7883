//! SQL run as the owner of a table: changes of the extension's tables, and what only their owner
//! or that of a user's table may see.
//!
//! Invariant: what is run as the extension's owner are constants with parameters, which name every
//! object with its schema, and run only after the caller's rights were checked.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{self, Spi, SpiTupleTable};

use super::tables::Tables;
use crate::call::varlena_bytes;
use crate::encoding;
use crate::error::{Error, Result};

thread_local! {
    static IN_PROGRESS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the extension itself is writing, and not somebody who writes to its tables directly.
pub fn is_in_progress() -> bool {
    IN_PROGRESS.get()
}

/// Runs `statement` as the owner of the extension's tables; returns the number of rows changed.
pub fn run(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
    let table = Tables::get()?.account.table;
    // SAFETY: the name is NUL-terminated; they raise an error on a standby or in a read-only
    // transaction
    unsafe {
        pg_sys::PreventCommandDuringRecovery(c"a change of fieldcrypt's catalog".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"a change of fieldcrypt's catalog".as_ptr());
    }
    let arguments = in_encoding(arguments);
    let changed = as_owner_of(table, Restriction::None, || {
        Spi::connect_mut(|client| client.update(statement, None, &arguments).map(|rows| rows.len()))
    })?;
    changed.map_err(|_| Error::Catalog("statement failed"))
}

/// Runs a statement as the owner of the extension's tables; returns the texts in its first column,
/// without NULLs. It sees what was committed until now; on a standby, as of the client's statement.
pub fn texts(statement: &str, arguments: &[DatumWithOid<'_>]) -> Result<Vec<String>> {
    let table = Tables::get()?.account.table;
    let arguments = in_encoding(arguments);
    let read = as_owner_of(table, Restriction::None, || {
        // SAFETY: asks the state of the server
        if unsafe { pg_sys::RecoveryInProgress() } {
            // without a transaction id, which a standby cannot give
            Spi::connect(|client| first_column(client.select(statement, None, &arguments)?))
        } else {
            Spi::connect_mut(|client| first_column(client.update(statement, None, &arguments)?))
        }
    })?;
    read.map_err(|_| Error::Catalog("query failed"))?.into_iter().collect()
}

fn first_column(mut rows: SpiTupleTable<'_>) -> spi::Result<Vec<Result<String>>> {
    let mut texts = Vec::with_capacity(rows.len());
    while rows.next().is_some() {
        // SAFETY: the caller's query returns texts, which live as long as its rows
        let text = rows.get_datum_by_ordinal(1)?.map(|text| unsafe { varlena_bytes(text) });
        texts.extend(text.map(|text| encoding::to_utf8(text).map(Cow::into_owned)));
    }
    Ok(texts)
}

/// The arguments, with their texts in the database's encoding: here they are UTF-8.
fn in_encoding<'a>(arguments: &[DatumWithOid<'a>]) -> Vec<DatumWithOid<'a>> {
    let convert = |argument: &DatumWithOid<'a>| {
        let oid = argument.oid();
        let is_text = oid == pg_sys::TEXTOID && !encoding::is_utf8();
        let text = argument.datum().filter(|_| is_text).and_then(|text| {
            // SAFETY: a text is a varlena
            std::str::from_utf8(unsafe { varlena_bytes(text.sans_lifetime()) }).ok()
        });
        // SAFETY: the value is of the type that it was of
        unsafe {
            match text {
                Some(text) => DatumWithOid::new(encoding::from_utf8(text), oid),
                None => DatumWithOid::new_from_datum(argument.datum(), oid),
            }
        }
    };
    arguments.iter().map(convert).collect()
}

/// What code of the owner may do that runs on the way.
#[derive(Clone, Copy)]
pub enum Restriction {
    /// The extension's own: there is none of anybody else.
    None,
    /// Nothing that outlives the statement, as in VACUUM and ANALYZE: functions in the indexes of a
    /// user's table are run by the planner already.
    Operation,
}

/// Runs `work` as the owner of `table`, with a search path that only superusers can write to:
/// constructs such as NULLIF look for their operator there.
pub fn as_owner_of<T>(table: Oid, restriction: Restriction, work: impl FnOnce() -> T) -> Result<T> {
    let mut user = Oid::INVALID;
    let mut context = 0;
    // SAFETY: both out-parameters are valid
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    // SAFETY: the owner is a role that exists, and the setting's text is valid; `restore` puts
    // both back also when unwinding
    let restore = unsafe {
        let owner = owner_of(table)?;
        let (settings, in_progress) = (pg_sys::NewGUCNestLevel(), IN_PROGRESS.replace(true));
        let restore = Restore { user, context, settings, in_progress };
        set(c"search_path", c"pg_catalog, pg_temp");
        let restricted = match restriction {
            Restriction::None => 0,
            Restriction::Operation => pg_sys::SECURITY_RESTRICTED_OPERATION,
        };
        let change = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | restricted) as i32;
        pg_sys::SetUserIdAndSecContext(owner, context | change);
        restore
    };
    let result = work();
    drop(restore);
    Ok(result)
}

/// Gives a setting, which may be one for superusers, another value until the work of
/// [`as_owner_of`] is done, in which this is called.
pub fn set(name: &CStr, value: &CStr) {
    // SAFETY: both are NUL-terminated
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
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

/// What has to be as it was.
struct Restore {
    user: Oid,
    context: i32,
    settings: i32,
    in_progress: bool,
}

impl Drop for Restore {
    fn drop(&mut self) {
        IN_PROGRESS.set(self.in_progress);
        // SAFETY: the values are what the functions of the same family returned. While an error
        // unwinds, (sub)transaction abort puts the settings back
        unsafe {
            if !std::thread::panicking() {
                pg_sys::AtEOXact_GUC(true, self.settings);
            }
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}
