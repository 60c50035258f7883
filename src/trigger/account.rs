//! The row trigger of `protect_table`: every encrypted value in a row belongs to the row's
//! account. It settles values whose account was left open, keeps the old value where its mask is
//! written back, and refuses values of other accounts, or, where the table says so, re-encrypts
//! them.

use fieldcrypt_core::envelope::Envelope;
use fieldcrypt_core::mask::HIDDEN;
use fieldcrypt_core::plaintext::Plaintext;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::Row;
use super::row::Which;
use crate::access::{Privilege, rights};
use crate::backend;
use crate::call::{Answer, varlena_bytes};
use crate::catalog::family::Family;
use crate::catalog::field::By;
use crate::catalog::fields;
use crate::datatype::input::accepts_envelopes;
use crate::document::{made, masked};
use crate::error::{Error, Result};
use crate::keyring::cache;
use crate::keyring::sealer::Sealer;
use crate::value;

/// What a protected table does with a value of another account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMismatch {
    Refuse,
    Rebind,
}

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION hold_account(account_column, on_mismatch)`
#[pg_extern(sql = false)]
fn hold_account(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let (row, arguments) = Row::of(fcinfo, "protect_table")?;
    let misuse = || Error::InvalidArgument {
        name: "trigger",
        hint: "Use SELECT fieldcrypt.protect_table(...).".to_owned(),
    };
    let [column, on_mismatch] = arguments.as_slice() else { return Err(misuse().into()) };
    let on_mismatch = match on_mismatch.to_bytes() {
        b"refuse" => OnMismatch::Refuse,
        b"rebind" => OnMismatch::Rebind,
        _ => return Err(misuse().into()),
    };
    let account_column = row.column(column)?;
    Ok(Answer::datum(hold(row, account_column, on_mismatch)?))
}

fn hold(mut row: Row, account_column: i32, on_mismatch: OnMismatch) -> Result<Datum> {
    made::next_row();
    let account = row.text(Which::New, account_column)?.map(std::borrow::Cow::into_owned);
    let family = Family::get()?;
    for number in row.columns() {
        if family.plaintext_type(row.base_type(number)).is_none() {
            continue;
        }
        let old = row.datum(Which::Old, number);
        // SAFETY: values of an encrypted type are varlenas
        let old_bytes = old.map(|old| unsafe { varlena_bytes(old) });
        // SAFETY: as above
        let new = row.datum(Which::New, number).map(|new| unsafe { varlena_bytes(new) });
        // who reads NULL in place of a value may have written it back; the owner means NULL
        let keeps =
            || old_bytes.is_some_and(masked::is_shown_as_null) && !row.is_written_by_owner();
        if new.is_none() && !keeps() {
            continue;
        }
        let Some(account) = account.as_deref() else { return Err(Error::AccountMismatch) };
        let settled = match new {
            Some(new) => settle(new, old_bytes, account, on_mismatch)?,
            None => Settled::Old,
        };
        match (settled, old_bytes) {
            (Settled::As(datum), _) => row.set(number, Some(datum)),
            // it stays as a value of the row's account
            (Settled::Old, Some(bytes)) => {
                row.set(number, bound(bytes, account, on_mismatch)?.or(old));
            }
            _ => {}
        }
    }
    Ok(row.into_datum())
}

/// What becomes of a value.
enum Settled {
    AsItIs,
    /// It is the old one's mask: the old one stays.
    Old,
    As(Datum),
}

/// A value as one of the row's account.
fn settle(
    bytes: &[u8],
    old: Option<&[u8]>,
    account: &str,
    on_mismatch: OnMismatch,
) -> Result<Settled> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header();
    if envelope.in_transit() {
        let opened = value::open_in_transit(&envelope)?;
        let field = fields::require(By::Id(header.field_id))?;
        if masked::is_of_old(opened.plaintext()?, old, &field, account)? {
            return Ok(Settled::Old);
        }
        return value::seal(opened.plaintext()?, By::Id(field.id), account).map(Settled::As);
    }
    match bound(bytes, account, on_mismatch)? {
        Some(datum) => Ok(Settled::As(datum)),
        // one that this statement has not sealed is no mask that was read
        None if old == Some(bytes) || accepts_envelopes() || !made::is_assigned(bytes) => {
            Ok(Settled::AsItIs)
        }
        None => is_old_mask(&envelope, old, account),
    }
}

/// A stored value as one of an account: `None` if it is, otherwise re-encrypted where the table
/// says so.
fn bound(bytes: &[u8], account: &str, on_mismatch: OnMismatch) -> Result<Option<Datum>> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header();
    match value::require_account(header.key_id, account) {
        Err(Error::AccountMismatch) if on_mismatch == OnMismatch::Rebind => {
            let key = cache::to_open(header.key_id, header.field_id, header.suite)?;
            key.require(Privilege::Decrypt)?;
            let opened = value::open(&key, &envelope)?;
            value::seal(opened.plaintext()?, By::Id(header.field_id), account).map(Some)
        }
        result => {
            result?;
            value::require_newest_tokens(&envelope)?;
            Ok(None)
        }
    }
}

/// Whether a value that this session has just sealed is the old one's mask. It is opened for that,
/// and goes nowhere.
fn is_old_mask(envelope: &Envelope<'_>, old: Option<&[u8]>, account: &str) -> Result<Settled> {
    let field = fields::require(By::Id(envelope.header().field_id))?;
    if envelope.is_token_only() {
        let sealer = Sealer::to_encrypt(By::Id(field.id), account)?;
        // what nothing is left of has no token, and is no mask
        let Ok(hidden) = value::sections(&sealer, Plaintext::text(HIDDEN)) else {
            return Ok(Settled::AsItIs);
        };
        return match old {
            _ if hidden.as_bytes() != envelope.token_sections() => Ok(Settled::AsItIs),
            Some(_) => Ok(Settled::Old),
            None => Err(Error::Masked(field.name.clone())),
        };
    }
    if rights::of(backend::user(), account, &field.name)?.contains(Privilege::Decrypt) {
        return Ok(Settled::AsItIs);
    }
    let opened = value::open(&*value::key_of(envelope)?, envelope)?;
    let masked = masked::is_of_old(opened.plaintext()?, old, &field, account)?;
    Ok(if masked { Settled::Old } else { Settled::AsItIs })
}
