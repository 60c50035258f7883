//! The derivations of `docs/envelope.md`, written a second time from the text, without the crate's
//! own framing and key modules: tests hold intermediate values beside what the crate makes.

use hkdf::Hkdf;
use sha2::Sha256;

/// The concatenation of `lp(part)`.
pub fn lp(parts: &[&[u8]]) -> Vec<u8> {
    let mut framed = Vec::new();
    for part in parts {
        framed.extend((part.len() as u32).to_be_bytes());
        framed.extend(*part);
    }
    framed
}

/// Section 7: what a field's key is derived for.
pub fn key_info(purpose: &str, suite: u8, length: u16, field_id: u64, account: &str) -> Vec<u8> {
    lp(&[
        b"fieldcrypt/1/field-key",
        purpose.as_bytes(),
        &[suite],
        &length.to_be_bytes(),
        &field_id.to_be_bytes(),
        account.as_bytes(),
    ])
}

/// `length` bytes of HKDF-SHA-256 without a salt, with zeros behind.
pub fn expand(key: &[u8], info: &[u8], length: u16) -> [u8; 64] {
    let mut output = [0; 64];
    Hkdf::<Sha256>::new(None, key).expand(info, &mut output[..usize::from(length)]).unwrap();
    output
}

/// Section 7: `length` bytes, with zeros behind, derived from an account's key for one field.
pub fn field_key(
    key: &[u8],
    purpose: &str,
    suite: u8,
    length: u16,
    field_id: u64,
    account: &str,
) -> [u8; 64] {
    expand(key, &key_info(purpose, suite, length, field_id, account), length)
}

/// Section 8: the associated data of an envelope with that header.
pub fn associated_data(header: &[u8]) -> Vec<u8> {
    lp(&[b"fieldcrypt/1/aad", header])
}
