//! Unambiguous input for hashes, key derivations and authentication tags.
//!
//! Invariant: different tuples of parts give different bytes, because each part stands behind its
//! length, and the first part is a label that no other use has.

use std::fmt;

use hmac::KeyInit;
use hmac::block_api::HmacCore;
use hmac::digest::block_api::{Buffer, FixedOutputCore, UpdateCore};
use sha2::{Digest, Sha256};

/// What a hashed or authenticated input is for. Each label is used in one place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// The 31 bits of an account inside an index key id.
    AccountTag,
    /// Associated data of an envelope.
    AssociatedData,
    /// Seal of a batch of events of the audit.
    AuditBatch,
    /// How far the audit has come.
    AuditHead,
    /// Up to where the audit was dropped.
    AuditStart,
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
            Self::AuditBatch => b"fieldcrypt/1/audit-batch",
            Self::AuditHead => b"fieldcrypt/1/audit-head",
            Self::AuditStart => b"fieldcrypt/1/audit-start",
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

/// HMAC-SHA-256 (RFC 2104, FIPS 180-4) with its key set up. Wiped when dropped.
///
/// It uses the crate's functions for blocks: those for streams copy the state and the buffered
/// message several times, which for a short message costs half as much as its hash.
pub struct HmacSha256(HmacCore<Sha256>);

impl fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacSha256")
    }
}

impl HmacSha256 {
    /// Sets up a key.
    pub fn new(key: &[u8]) -> Self {
        // HMAC takes a key of any length
        let Ok(core) = HmacCore::new_from_slice(key) else { unreachable!("HMAC takes any key") };
        Self(core)
    }

    /// The tag of the label and `parts`, each behind its length: 32 bytes.
    pub fn tag(&self, label: Label, parts: &[&[u8]]) -> [u8; 32] {
        let mut core = self.0.clone();
        // wiped when dropped
        let mut buffer = Buffer::<HmacCore<Sha256>>::default();
        for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
            for piece in [&length_prefix(part), part] {
                buffer.digest_blocks(piece, |blocks| core.update_blocks(blocks));
            }
        }
        let mut tag = [0; 32];
        core.finalize_fixed_core(&mut buffer, (&mut tag).into());
        tag
    }
}
