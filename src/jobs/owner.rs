//! What is done to the rows and the definition of a user's table, as its owner.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fmt::Write;

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::{self, SpiTupleTable};
use pgrx::{Spi, pg_extern};

use crate::adopt::{Beside, job};
use crate::call::{Answer, Call, varlena_bytes};
use crate::catalog::family::{Family, native};
use crate::catalog::write::{Restriction, as_owner_of, set};
use crate::datatype::native;
use crate::encoding;
use crate::error::{Error, Result};
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// The table of a call that only superusers may make: the statement is the extension's own.
fn relation_of(call: &Call) -> Result<Oid> {
    // SAFETY: looks at the current user
    if !unsafe { pg_sys::superuser() } {
        return Err(Error::Superuser);
    }
    Ok(Oid::from(call.datum(0).value() as u32))
}

/// A statement as it was given: PostgreSQL reads it in the database's encoding.
fn statement_of(call: &Call) -> Result<CString> {
    CString::new(call.bytes(1)).map_err(|_| Error::InvalidText)
}

/// Runs `work` as the owner of the table, who sees all of its rows or gets an error, and who waits
/// for a lock only a moment: shorter than `deadlock_timeout`, so that of a job and an application
/// that wait for each other it is the job that gives way.
pub fn as_its_owner<T>(relation: Oid, work: impl FnOnce() -> T) -> Result<T> {
    as_owner_of(relation, Restriction::Operation, || {
        set(c"row_security", c"off");
        set(c"lock_timeout", c"100ms");
        work()
    })
}

/// `run_as_owner(relation regclass, statement text, quietly boolean) → bigint`: the number of rows
/// changed. Quietly, the table's triggers do not fire, nor those for commands.
#[pg_extern(sql = false)]
fn run_as_owner(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let relation = relation_of(&call)?;
    let (statement, quietly) = (statement_of(&call)?, call.boolean(2));
    // SAFETY: the name is NUL-terminated; it raises an error on a standby
    unsafe { pg_sys::PreventCommandDuringRecovery(c"a change of a table".as_ptr()) };
    let changed = as_its_owner(relation, || {
        let _quiet = quietly.then(Quiet::begin);
        Spi::connect_mut(|client| client.update(&statement, None, &[]).map(|rows| rows.len()))
    })?;
    let changed = changed.map_err(|_| Error::Catalog("statement failed"))?;
    Ok(i64::try_from(changed).unwrap_or(i64::MAX).into())
}

/// While it lives, only triggers that are ENABLE REPLICA or ALWAYS fire, as with the setting
/// `session_replication_role`. Changing the setting would have every cached plan of the session made
/// anew, at each batch, for the sake of rules, which a table with a job has not.
struct Quiet {
    before: i32,
}

impl Quiet {
    fn begin() -> Self {
        let role = pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
        // SAFETY: the setting's variable, of the only thread
        let before = unsafe { (&raw mut pg_sys::SessionReplicationRole).replace(role) };
        IS_QUIET.set(true);
        Self { before }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as above; it holds what it held before, also while an error unwinds
        unsafe { pg_sys::SessionReplicationRole = self.before };
        IS_QUIET.set(false);
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Whether a job is writing, quietly.
pub fn is_quiet() -> bool {
    IS_QUIET.get()
}

/// Lets go of the triggers of the table that a job writes, if none of them fires: of each row that
/// has any PostgreSQL makes a copy, and locks it, before it looks whether they do.
///
/// # Safety
/// `query` was started, and does not run yet.
pub unsafe fn leave_triggers_out(query: *mut pg_sys::QueryDesc) {
    let fires = |trigger: &pg_sys::Trigger| {
        [pg_sys::TRIGGER_FIRES_ALWAYS, pg_sys::TRIGGER_FIRES_ON_REPLICA]
            .contains(&(trigger.tgenabled as u8))
    };
    // SAFETY: the caller's: the state of a started query is valid. Its descriptions of triggers are
    // copies of its own, and may be absent
    unsafe {
        let state: *mut pg_sys::ModifyTableState = (*query).planstate.cast();
        if state.is_null() || (*state).ps.type_ != pg_sys::NodeTag::T_ModifyTableState {
            return;
        }
        for index in 0..(*state).mt_nrels as usize {
            let table = (*state).resultRelInfo.add(index);
            let description = (*table).ri_TrigDesc;
            if description.is_null() {
                continue;
            }
            let count = (*description).numtriggers as usize;
            let triggers = std::slice::from_raw_parts((*description).triggers, count);
            if !triggers.iter().any(fires) {
                (*table).ri_TrigDesc = std::ptr::null_mut();
            }
        }
    }
}

/// `differing_rows(relation regclass, query text) → text`: of the rows of a query, which are a place,
/// a plain value, the encrypted one and an account, the places of those that are not the same, as
/// an array. The values go nowhere: no function that users could call compares them.
#[pg_extern(sql = false)]
fn differing_rows(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let relation = relation_of(&call)?;
    let query = statement_of(&call)?;
    differing(relation, &query, |plain_type, plaintext_type| {
        if native(plaintext_type) != plain_type {
            return Err(Error::Catalog("types of a query"));
        }
        Ok(move |plain, _: &Beside, encrypted: Option<&[u8]>, account: &str| {
            let Some(encrypted) = encrypted else { return Ok(false) };
            // SAFETY: the plain value is of that type, as was checked
            let plain = unsafe { native::from_datum(plaintext_type, plain)? };
            // what cannot be opened is not the same; writing it anew says why
            Ok(value::holds(encrypted, plain.plaintext()?, account).unwrap_or(false))
        })
    })
}

/// `differing_adoptions(relation regclass, query text, target text) → text`: the same of rows in
/// which the value is one of other software, that a job is to adopt, followed by associated data and
/// iv. What does not open differs unless nothing stands for it.
#[pg_extern(sql = false)]
fn differing_adoptions(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let relation = relation_of(&call)?;
    let (query, target) = (statement_of(&call)?, call.text(2)?);
    differing(relation, &query, |stored_type, plaintext_type| {
        if !matches!(stored_type, pg_sys::TEXTOID | pg_sys::BYTEAOID) {
            return Err(Error::Catalog("types of a query"));
        }
        let job = job::of(&target)?;
        Ok(move |stored, beside: &Beside, encrypted: Option<&[u8]>, account: &str| {
            // SAFETY: the stored value is a text or bytea, as was checked
            job.holds(unsafe { varlena_bytes(stored) }, beside, encrypted, account, plaintext_type)
        })
    })
}

fn differing<H>(
    relation: Oid,
    query: &CStr,
    holds: impl FnOnce(Oid, PlaintextType) -> Result<H>,
) -> Answered
where
    H: Fn(Datum, &Beside, Option<&[u8]>, &str) -> Result<bool>,
{
    let places = as_its_owner(relation, || {
        Spi::connect(|client| Ok(places_of(client.select(query, None, &[])?, holds)))
    })?;
    let places = places.map_err(|_: spi::Error| Error::Catalog("query failed"))??;
    Ok(Answer::text(&places))
}

/// The places of the rows for which `holds` says no. It is made from the types of the value and of
/// what is encrypted, and is given both, what stands beside the value, and the account.
fn places_of<H>(
    mut rows: SpiTupleTable<'_>,
    holds: impl FnOnce(Oid, PlaintextType) -> Result<H>,
) -> Result<String>
where
    H: Fn(Datum, &Beside, Option<&[u8]>, &str) -> Result<bool>,
{
    let failed = |_| Error::Catalog("query failed");
    let plain_type = rows.column_type_oid(2).map_err(failed)?.value();
    let encrypted_type = rows.column_type_oid(3).map_err(failed)?.value();
    let plaintext_type = Family::get()?.plaintext_type(encrypted_type);
    let holds = holds(plain_type, plaintext_type.ok_or(Error::Catalog("types of a query"))?)?;
    let has_beside = rows.columns().map_err(failed)? > 4;
    let mut places = String::from("{");
    while rows.next().is_some() {
        let column = |number| rows.get_datum_by_ordinal(number).map_err(failed);
        let is_same = match (column(2)?, column(3)?, column(4)?) {
            (None, None, _) => true,
            (Some(plain), encrypted, Some(account)) => {
                // SAFETY: all are varlenas, and live as long as the rows
                let bytes =
                    |value: Option<Datum>| value.map(|value| unsafe { varlena_bytes(value) });
                let text = |value| bytes(value).map(encoding::to_utf8).transpose();
                let beside = match has_beside {
                    true => Beside::of(text(column(5)?)?, bytes(column(6)?)),
                    false => Beside::of(None, None),
                };
                let account = text(Some(account))?.unwrap_or_default();
                holds(plain, &beside, bytes(encrypted), &account)?
            }
            _ => false,
        };
        if let (false, Some(place)) = (is_same, column(1)?) {
            let separator = if places.len() > 1 { "," } else { "" };
            // SAFETY: the query returns a text
            let place = String::from_utf8_lossy(unsafe { varlena_bytes(place) });
            let _ = write!(places, "{separator}\"{place}\"");
        }
    }
    places.push('}');
    Ok(places)
}
