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
use crate::document::masked;
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
    let account = row.text(Which::New, account_column)?.map(std::borrow::Cow::into_owned);
    let family = Family::get()?;
    for number in row.columns() {
        if family.plaintext_type(row.base_type(number)).is_none() {
            continue;
        }
        let old = row.datum(Which::Old, number);
        // SAFETY: values of an encrypted type are varlenas
        let old_bytes = old.map(|old| unsafe { varlena_bytes(old) });
        let Some(new) = row.datum(Which::New, number) else {
            if old_bytes.is_some_and(masked::is_shown_as_null) {
                row.set(number, old);
            }
            continue;
        };
        let Some(account) = account.as_deref() else { return Err(Error::AccountMismatch) };
        // SAFETY: as above
        match settle(unsafe { varlena_bytes(new) }, old_bytes, account, on_mismatch)? {
            Settled::AsItIs => {}
            Settled::Old => row.set(number, old),
            Settled::As(datum) => row.set(number, Some(datum)),
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
    match cache::account_of(header.key_id)? {
        Some(owner) if *owner == *account => {
            if old == Some(bytes) || accepts_envelopes() {
                return Ok(Settled::AsItIs);
            }
            is_old_mask(&envelope, old, account)
        }
        Some(_) if on_mismatch == OnMismatch::Rebind => {
            let key = cache::to_open(header.key_id, header.field_id, header.suite)?;
            key.require(Privilege::Decrypt)?;
            let opened = value::open(&key, &envelope)?;
            value::seal(opened.plaintext()?, By::Id(header.field_id), account).map(Settled::As)
        }
        Some(_) => Err(Error::AccountMismatch),
        // a restore may bring the values before the keys
        None if accepts_envelopes() => Ok(Settled::AsItIs),
        None => Err(Error::KeyMissing(header.key_id)),
    }
}

/// Whether a value that this session has just sealed is the old one's mask. It is opened for that,
/// and goes nowhere.
fn is_old_mask(envelope: &Envelope<'_>, old: Option<&[u8]>, account: &str) -> Result<Settled> {
    let field = fields::require(By::Id(envelope.header().field_id))?;
    if envelope.is_token_only() {
        let sealer = Sealer::to_encrypt(By::Id(field.id), account)?;
        let hidden = value::sections(&sealer, Plaintext::text(HIDDEN))?;
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
