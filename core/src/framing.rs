//! Unambiguous input for hashes, key derivations and authentication tags.
//!
//! Invariant: different tuples of parts give different bytes, because each part stands behind its
//! length, and the first part is a label that no other use has.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// HMAC-SHA-256 (RFC 2104, FIPS 180-4).
pub type HmacSha256 = Hmac<Sha256>;

/// What a hashed or authenticated input is for. Each label is used in one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// The 31 bits of an account inside an index key id.
    AccountTag,
    /// Associated data of an envelope.
    AssociatedData,
    /// Check value of a key.
    CheckValue,
    /// Field id.
    FieldId,
    /// Derivation of a field's key from an account's key.
    FieldKey,
    /// Associated data of a wrapped key.
    KeyWrap,
    /// Search token.
    Token,
}

impl Label {
    /// The bytes of the label.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::AccountTag => b"fieldcrypt/1/account-tag",
            Self::AssociatedData => b"fieldcrypt/1/aad",
            Self::CheckValue => b"fieldcrypt/1/check-value",
            Self::FieldId => b"fieldcrypt/1/field-id",
            Self::FieldKey => b"fieldcrypt/1/field-key",
            Self::KeyWrap => b"fieldcrypt/1/key-wrap",
            Self::Token => b"fieldcrypt/1/token",
        }
    }
}

/// The length of a part as it stands before it: 4 bytes, big-endian.
///
/// No part can be longer: a value has at most 512 MiB ([`crate::envelope::MAXIMUM_LENGTH`]).
pub(crate) fn length_prefix(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Appends `parts` to `buffer`, each behind its length.
pub fn append(buffer: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        buffer.extend_from_slice(&length_prefix(part));
        buffer.extend_from_slice(part);
    }
}

/// The label and `parts`, each behind its length.
pub fn frame(label: Label, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len() + 4).sum::<usize>();
    let mut buffer = Vec::with_capacity(length + label.as_bytes().len() + 4);
    append(&mut buffer, &[label.as_bytes()]);
    append(&mut buffer, parts);
    buffer
}

/// SHA-256 over the label and `parts`, each behind its length: 32 bytes.
pub fn sha256(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(frame(label, parts)).into()
}

/// Feeds the label and `parts`, each behind its length, to `mac`. Short input goes in at once:
/// that costs less than many pieces.
pub fn authenticate(mac: &mut HmacSha256, label: Label, parts: &[&[u8]]) {
    let all = || std::iter::once(label.as_bytes()).chain(parts.iter().copied());
    let mut buffer = [0; 128];
    let length = all().map(|part| part.len() + 4).sum::<usize>();
    let Some(message) = buffer.get_mut(..length) else {
        for part in all() {
            mac.update(&length_prefix(part));
            mac.update(part);
        }
        return;
    };
    let mut rest = &mut *message;
    for part in all() {
        let (prefix, behind) = rest.split_at_mut(4);
        let (place, behind) = behind.split_at_mut(part.len());
        prefix.copy_from_slice(&length_prefix(part));
        place.copy_from_slice(part);
        rest = behind;
    }
    mac.update(message);
    message.zeroize();
}
