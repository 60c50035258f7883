//! Masks that an application writes back: it read a value as its role may see it, and sends the
//! whole row or document again.
//!
//! Invariant: for a role that may not decrypt, what equals the old value's mask keeps the old
//! value, and what otherwise looks like a mask is refused. Values are never mixed up.

use fieldcrypt_core::envelope::{self, Envelope, PlaintextType};
use fieldcrypt_core::mask::{self, HIDDEN};
use fieldcrypt_core::plaintext::Plaintext;

use crate::access::{Privilege, rights};
use crate::backend;
use crate::catalog::field::Field;
use crate::error::{Error, Result};
use crate::value::{self, Reader, Shown};

/// What a role that may not decrypt reads of an old value.
pub enum Seen {
    Value(Vec<u8>),
    Null,
}

/// What the current user reads of a stored value; `None` if that is the value itself, or if it
/// cannot be told.
pub fn seen(bytes: &[u8]) -> Option<Seen> {
    let envelope = value::stored(bytes).ok()?;
    let plaintext_type = envelope.header().plaintext_type;
    let is_text = matches!(plaintext_type, PlaintextType::Text | PlaintextType::Json);
    match value::show(&envelope, Reader::Nobody).ok()? {
        Shown::Plain(_) => None,
        Shown::Masked(masked) => Some(Seen::Value(masked)),
        Shown::Hidden if is_text => Some(Seen::Value(HIDDEN.as_bytes().to_vec())),
        Shown::Ciphertext if is_text => Some(Seen::Value(envelope::to_text(bytes).into_bytes())),
        Shown::Null | Shown::Hidden | Shown::Ciphertext => Some(Seen::Null),
    }
}

/// Whether the current user reads an old value as NULL, but not because it is not kept.
pub fn is_shown_as_null(old: &[u8]) -> bool {
    let is_kept = Envelope::parse(old).is_ok_and(|old| !old.is_token_only());
    is_kept && matches!(seen(old), Some(Seen::Null))
}

/// Whether a value is what the current user reads of the old value of a column. Fails if it looks
/// like a mask, but is not that one.
pub fn is_of_old(
    new: Plaintext<'_>,
    old: Option<&[u8]>,
    field: &Field,
    account: &str,
) -> Result<bool> {
    let privileges = rights::of(backend::user(), account, &field.name)?;
    if privileges.contains(Privilege::Decrypt) && !field.token_only {
        return Ok(false);
    }
    // a value of another field says nothing about this one
    let old =
        old.filter(|old| Envelope::parse(old).is_ok_and(|old| old.header().field_id == field.id));
    // of JSON a mask makes a string
    let string = new.json_string();
    if let Some(Seen::Value(seen)) = old.and_then(seen)
        && seen == string.as_ref().map_or(new.bytes(), |string| string.as_bytes())
    {
        return Ok(true);
    }
    let is_text = matches!(new.plaintext_type(), PlaintextType::Text | PlaintextType::Json);
    let looks_masked = match string {
        Some(string) => mask::looks_masked(&string),
        None => is_text && mask::looks_masked(&new.as_text()),
    };
    if looks_masked { Err(Error::Masked(field.name.clone())) } else { Ok(false) }
}
