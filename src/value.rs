//! What can be done with a value: seal it, make its token, open it, show it.
//!
//! Invariant: the right is checked where the key is used. A value in transit (sealed by the type's
//! input function, which does not know the column) is opened only to become a value of a field.

use std::cell::RefCell;

use fieldcrypt_core::envelope::{self, Envelope};
use fieldcrypt_core::error::{OpenError, SealError};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::mask::HIDDEN;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::random::NoncePool;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::{self, Scope};
use pgrx::pg_sys::Datum;
use zeroize::Zeroizing;

use crate::access::{Privilege, Privileges};
use crate::backend;
use crate::call::{NewVarlena, varlena_bytes};
use crate::catalog::field::{By, Field, Hidden, describe, describe_handle};
use crate::catalog::fields;
use crate::encoding;
use crate::error::{Error, Result};
use crate::guc;
use crate::keyring::locked::Locked;
use crate::keyring::sealer::Sealer;
use crate::keyring::{OpenKey, cache, usage};

/// Longest text that is kept while it is in transit, in bytes.
const LONGEST_KEPT: usize = 256;

thread_local! {
    static NONCES: RefCell<NoncePool> = RefCell::default();
    /// The last value sealed for transit with its text, until it is opened: most are opened next,
    /// and need not be decrypted for that.
    static IN_TRANSIT: RefCell<Option<(Vec<u8>, PlainText)>> = const { RefCell::new(None) };
}

fn nonce(buffer: &mut [u8]) -> std::result::Result<(), SealError> {
    let fill = |bytes: &mut [u8]| {
        if backend::strong_random(bytes) { Ok(()) } else { Err(SealError::Random) }
    };
    NONCES.with_borrow_mut(|pool| pool.take(backend::process(), fill, buffer))
}

/// Seals a text as a value of a field of an account, for whoever may encrypt.
pub fn seal(text: &str, field: By<'_>, account: &str) -> Result<Datum> {
    let sealer = Sealer::to_encrypt(field, account)?;
    let (key, field) = (&sealer.key, sealer.field());
    if key.exhausted {
        return Err(Error::KeyExhausted(key.key.key_id()));
    }
    let section = sealer
        .token(text)?
        .map(|token| token::equality_section(&token, field.normalizer, Scope::Account));
    let tokens: &[u8] = section.as_ref().map_or(&[], <[u8; _]>::as_slice);
    let mut sampled = false;
    let sealed = write(key, text, field.padding, tokens, |buffer| {
        nonce(buffer)?;
        sampled = buffer.first_chunk().is_some_and(|first| usage::is_sampled(*first));
        Ok(())
    })?;
    // the values under a key whose nonces could repeat are counted
    if sampled && field.suite == Suite::Aes256Gcm {
        usage::record(key.key.key_id(), field.id)?;
    }
    Ok(sealed)
}

/// Seals a text for transit: for a field whose account is still open, or for no field yet.
pub fn seal_in_transit(text: &str, field_id: FieldId) -> Result<Datum> {
    let sealed = write(&*cache::transit(field_id)?, text, Padding::None, &[], nonce)?;
    if field_id.is_none() && text.len() <= LONGEST_KEPT {
        // SAFETY: a varlena that was just made
        let envelope = unsafe { varlena_bytes(sealed) }.to_vec();
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        IN_TRANSIT.set(Some((envelope, PlainText { length: bytes.len(), bytes })));
    }
    Ok(sealed)
}

fn write(
    key: &OpenKey,
    text: &str,
    padding: Padding,
    tokens: &[u8],
    nonce: impl FnOnce(&mut [u8]) -> std::result::Result<(), SealError>,
) -> Result<Datum> {
    let length = key.key.sealed_length(text.len(), padding, tokens.len())?;
    let mut varlena = NewVarlena::with_capacity(length);
    key.key.seal(text.as_bytes(), padding, tokens, nonce, varlena.bytes_mut())?;
    Ok(varlena.finish(length))
}

/// The session's account; `*row*` is none. `work` must not change the setting.
pub fn session_account<T>(work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    guc::with_account(|account| match account {
        Some(account) if account != guc::ACCOUNT_OF_ROW => work(account),
        _ => Err(Error::AccountUnset),
    })
}

/// A plain text in memory of our own, wiped when dropped.
pub struct PlainText {
    bytes: Zeroizing<Vec<u8>>,
    length: usize,
}

impl PlainText {
    /// The text.
    pub fn as_str(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.bytes[..self.length]).map_err(|_| OpenError)?)
    }
}

/// Opens a value in transit. No right is asked: its text came from this database's own users as
/// input, and goes nowhere but into a field, or into a token.
pub fn open_in_transit(envelope: &Envelope<'_>) -> Result<PlainText> {
    if !envelope.in_transit() {
        return Err(Error::Open(OpenError));
    }
    let kept = IN_TRANSIT.with_borrow_mut(|kept| kept.take_if(|(sealed, _)| envelope.is(sealed)));
    if let Some((_, text)) = kept {
        return Ok(text);
    }
    let header = envelope.header();
    open_text(&*cache::in_transit(header.key_id, header.field_id)?, envelope)
}

/// The plain text of a value. The caller has checked the right to it.
pub fn open_text(key: &OpenKey, envelope: &Envelope<'_>) -> Result<PlainText> {
    let mut bytes = Zeroizing::new(vec![0; envelope.ciphertext().len()]);
    let length = key.key.open(envelope, &mut bytes)?;
    Ok(PlainText { bytes, length })
}

/// The plain text of a value, for whoever may decrypt; otherwise an error.
pub fn decrypt(bytes: &[u8]) -> Result<Datum> {
    let envelope = stored(bytes)?;
    let key = key_of(&envelope)?;
    key.require(Privilege::Decrypt)?;
    open(&key, &envelope)
}

/// What the current user may see of a value: plain, masked, or hidden.
pub fn reveal(bytes: &[u8]) -> Result<Option<Datum>> {
    let envelope = stored(bytes)?;
    let key = match key_of(&envelope) {
        Ok(key) => key,
        // of a closed account nothing is shown, and that is no error
        Err(Error::AccountClosed(..) | Error::KeyState(..)) => {
            let field = fields::find(By::Id(envelope.header().field_id))?;
            return Ok(Some(hidden(bytes, field.as_deref())));
        }
        Err(error) => return Err(error),
    };
    let field = key.field.as_deref();
    let privileges: Privileges = key.privileges()?;
    if privileges.contains(Privilege::Decrypt) {
        return open(&key, &envelope).map(Some);
    }
    match field.and_then(|field| field.mask) {
        Some(mask) if privileges.contains(Privilege::Mask) => {
            let text = open_text(&key, &envelope)?;
            Ok(mask.apply(text.as_str()?).map(|masked| encoding::from_utf8(&masked)))
        }
        _ => Ok(Some(hidden(bytes, field))),
    }
}

fn hidden(bytes: &[u8], field: Option<&Field>) -> Datum {
    match field.map_or(Hidden::Mask, |field| field.hidden) {
        Hidden::Mask => encoding::from_utf8(HIDDEN),
        Hidden::Ciphertext => encoding::from_utf8(&envelope::to_text(bytes)),
    }
}

/// A value that is stored data, not one in transit.
fn stored(bytes: &[u8]) -> Result<Envelope<'_>> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.in_transit() { Err(Error::Transit) } else { Ok(envelope) }
}

fn key_of(envelope: &Envelope<'_>) -> Result<Locked<OpenKey>> {
    let header = envelope.header();
    cache::to_open(header.key_id, header.field_id, header.suite)
}

fn open(key: &OpenKey, envelope: &Envelope<'_>) -> Result<Datum> {
    let mut varlena = NewVarlena::with_capacity(envelope.ciphertext().len());
    let length = key.key.open(envelope, varlena.bytes_mut())?;
    let text = std::str::from_utf8(&varlena.bytes_mut()[..length]).map_err(|_| OpenError)?;
    if encoding::is_utf8() {
        return Ok(varlena.finish(length));
    }
    Ok(encoding::from_utf8(text))
}

/// Makes of a value one of the field with that handle, as an assignment to a column does: a value
/// in transit is sealed under the session's account, one of this field stays as it is, and one of
/// another field is refused.
pub fn assign(bytes: &[u8], handle: i32) -> Result<Option<Datum>> {
    let envelope = Envelope::parse(bytes)?;
    let field_id = envelope.header().field_id;
    if field_id.is_none() {
        let text = open_in_transit(&envelope)?;
        return assign_text(text.as_str()?, handle).map(Some);
    }
    if field_id.handle() == handle {
        return Ok(None);
    }
    Err(Error::FieldMismatch(describe(field_id), describe_handle(handle)))
}

/// Seals a text for a column: under the session's account, or left to the row's trigger.
pub fn assign_text(text: &str, handle: i32) -> Result<Datum> {
    let field = By::Handle(handle);
    guc::with_account(|account| match account {
        Some(guc::ACCOUNT_OF_ROW) => seal_in_transit(text, fields::require(field)?.id),
        Some(account) => seal(text, field, account),
        None => Err(Error::AccountUnset),
    })
}
