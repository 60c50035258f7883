//! The row trigger of `protect_table`: every encrypted value in a row belongs to the row's
//! account. It settles values whose account was left open, and refuses others, or, where the
//! table says so, re-encrypts them.

use std::ffi::CStr;

use fieldcrypt_core::envelope::Envelope;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, NodeTag};

use crate::access::Privilege;
use crate::call::{Answer, varlena_bytes};
use crate::catalog::field::By;
use crate::catalog::objects::Objects;
use crate::datatype::input::accepts_envelopes;
use crate::encoding;
use crate::error::{Error, Result};
use crate::keyring::cache;
use crate::value;

/// What PostgreSQL says about a call, if it calls as a trigger.
pub fn data(fcinfo: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::TriggerData> {
    // SAFETY: the context is null or a node, whose tag says whether it is trigger data
    unsafe {
        let context = (*fcinfo).context;
        let is_trigger = !context.is_null() && (*context).type_ == NodeTag::T_TriggerData;
        is_trigger.then(|| context.cast())
    }
}

/// What a protected table does with a value of another account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMismatch {
    Refuse,
    Rebind,
}

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION hold_account(account_column, on_mismatch)`
#[pg_extern(sql = false)]
fn hold_account(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let Some(data) = data(fcinfo) else { return Err(misuse().into()) };
    // SAFETY: the trigger data is valid while the trigger runs
    Ok(Answer::datum(Datum::from(unsafe { hold(data)? })))
}

fn misuse() -> Error {
    Error::InvalidArgument {
        name: "trigger",
        hint: "Use SELECT fieldcrypt.protect_table(...).".to_owned(),
    }
}

/// # Safety
/// `data` is the trigger data of the call that is running.
unsafe fn hold(data: *mut pg_sys::TriggerData) -> Result<*mut pg_sys::HeapTupleData> {
    // SAFETY: the caller's; a row trigger's relation is open and its tuples fit its descriptor;
    // the arguments are NUL-terminated
    unsafe {
        let event = (*data).tg_event;
        let update = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        let insert = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_INSERT;
        let row_before = pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE;
        if event & row_before != row_before || !(insert || update) {
            return Err(misuse());
        }
        let tuple = if update { (*data).tg_newtuple } else { (*data).tg_trigtuple };
        let trigger = (*data).tg_trigger;
        if (*trigger).tgnargs != 2 {
            return Err(misuse());
        }
        let column = *(*trigger).tgargs;
        let on_mismatch = match CStr::from_ptr(*(*trigger).tgargs.add(1)).to_bytes() {
            b"refuse" => OnMismatch::Refuse,
            b"rebind" => OnMismatch::Rebind,
            _ => return Err(misuse()),
        };
        let descriptor = (*(*data).tg_relation).rd_att;
        let account_column = pg_sys::SPI_fnumber(descriptor, column);
        if account_column <= 0 {
            return Err(misuse());
        }
        let account = pg_sys::SPI_getvalue(tuple, descriptor, account_column);
        let account = if account.is_null() {
            None
        } else {
            let mut account = CStr::from_ptr(account).to_bytes();
            let kind = pg_sys::SPI_gettypeid(descriptor, account_column);
            if pg_sys::getBaseType(kind) == pg_sys::BPCHAROID {
                // the padding of char(n) is no part of the value
                account = account.trim_ascii_end();
            }
            Some(encoding::to_utf8(account)?)
        };
        let encrypted = Objects::get()?.encrypted_text;
        let mut result = tuple;
        for number in 1..=(*descriptor).natts {
            if pg_sys::getBaseType(pg_sys::SPI_gettypeid(descriptor, number)) != encrypted {
                continue;
            }
            let mut is_null = false;
            let value = pg_sys::SPI_getbinval(result, descriptor, number, &mut is_null);
            if is_null {
                continue;
            }
            let Some(account) = account.as_deref() else { return Err(Error::AccountMismatch) };
            if let Some(value) = settle(varlena_bytes(value), account, on_mismatch)? {
                let (mut number, mut value, mut is_null) = (number, value, false);
                result = pg_sys::heap_modify_tuple_by_cols(
                    result,
                    descriptor,
                    1,
                    &mut number,
                    &mut value,
                    &mut is_null,
                );
            }
        }
        Ok(result)
    }
}

/// A value as one of the row's account; `None` if it already is.
fn settle(bytes: &[u8], account: &str, on_mismatch: OnMismatch) -> Result<Option<Datum>> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header();
    if envelope.in_transit() {
        let text = value::open_in_transit(&envelope)?;
        return value::seal(text.as_str()?, By::Id(header.field_id), account).map(Some);
    }
    match cache::account_of(header.key_id)? {
        Some(owner) if *owner == *account => Ok(None),
        Some(_) if on_mismatch == OnMismatch::Rebind => {
            let key = cache::to_open(header.key_id, header.field_id, header.suite)?;
            key.require(Privilege::Decrypt)?;
            let text = value::open_text(&key, &envelope)?;
            value::seal(text.as_str()?, By::Id(header.field_id), account).map(Some)
        }
        Some(_) => Err(Error::AccountMismatch),
        // a restore may bring the values before the keys
        None if accepts_envelopes() => Ok(None),
        None => Err(Error::KeyMissing(header.key_id)),
    }
}
