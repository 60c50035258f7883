//! Whether a stored value is as its field's policy would have it sealed now.
//!
//! Invariant: what tells is the header, and where that does not suffice the plain value, which goes
//! nowhere.

use std::borrow::Cow;

use fieldcrypt_core::envelope::{Envelope, Flags, PlaintextType};
use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::token::{self, Kind};

use crate::access::Privilege;
use crate::catalog::field::{By, Field};
use crate::catalog::fields;
use crate::error::Result;
use crate::keyring::sealer::Sealer;
use crate::value;

/// Whether suite, padding and tokens of a value are those of its field's policy. A value that no
/// bucket or normalizer of now has left any trace of is opened, for whoever may encrypt.
pub fn is_followed(envelope: &Envelope<'_>) -> Result<bool> {
    let header = envelope.header();
    // of a field that is gone nothing can be sealed
    let Some(field) = fields::find(By::Id(header.field_id))? else { return Ok(true) };
    if header.suite != field.suite || !is_padded(envelope, field.padding) {
        return Ok(false);
    }
    if has_tokens(envelope, &field) {
        return Ok(true);
    }
    if !envelope.token_sections().is_empty() || field.equality.is_none() {
        return Ok(false);
    }
    let key = value::key_of(envelope)?;
    key.require(Privilege::Encrypt)?;
    let opened = value::open(&key, envelope)?;
    let sealer = Sealer::to_encrypt(By::Id(field.id), &key.account)?;
    Ok(value::sections(&sealer, opened.plaintext()?)?.as_bytes().is_empty())
}

/// The token sections with which a value of a field of an account is sealed again: those that it has,
/// if the policy would not have others.
pub fn sections<'a>(
    envelope: &Envelope<'a>,
    field: &Field,
    account: &str,
    plaintext: &[u8],
) -> Result<Cow<'a, [u8]>> {
    if has_tokens(envelope, field) {
        return Ok(envelope.token_sections().into());
    }
    let plaintext_type = envelope.header().plaintext_type;
    let plaintext = Plaintext::new(plaintext_type, plaintext).ok_or(OpenError)?;
    let sealer = Sealer::to_encrypt(By::Id(field.id), account)?;
    Ok(value::sections(&sealer, plaintext)?.as_bytes().to_vec().into())
}

/// Whether a value is padded as its field's policy says. One in a larger bucket of the same multiple
/// is: it hides more.
fn is_padded(envelope: &Envelope<'_>, padding: Padding) -> bool {
    let header = envelope.header();
    if envelope.is_token_only() {
        return true;
    }
    let is_padded = header.flags.contains(Flags::PADDED);
    let length = envelope.ciphertext().len() - header.suite.ciphertext_length(0);
    is_padded == (padding != Padding::None) && padding.is_padded_length(length)
}

/// Whether the header shows the tokens of the policy, or others that no policy changes.
fn has_tokens(envelope: &Envelope<'_>, field: &Field) -> bool {
    let plaintext_type = envelope.header().plaintext_type;
    let normalizer = field.normalizer_of(plaintext_type);
    // of what is not kept they cannot be made anew; a blob has those of what is inside of it
    let is_blob = plaintext_type == PlaintextType::Json
        && envelope.tokens().next().is_some_and(|token| token.kind == Kind::Member as u8);
    envelope.is_token_only()
        || is_blob
        || token::is_of_policy(envelope.token_sections(), field.equality, normalizer, field.scope)
}
