//! `tink:v1:` and base64url of a Tink ciphertext, AES-GCM, as Midaz stores it: 0x01 ‖ key id ‖ nonce ‖
//! ciphertext ‖ tag, or, of a key with the output prefix RAW, such as one that was imported, nonce ‖
//! ciphertext ‖ tag. The key id is not looked at: which key opens the value is authenticated.

use super::form::Encoding;
use super::{Opened, Result, joined};
use crate::error::AdoptError;

/// The start of Tink's ciphertexts that name their key.
const PREFIX: u8 = 1;
/// The prefix and the key id, in bytes.
const START: usize = 5;

/// Opens a value. A nonce may begin as the prefix does, so that what does not open with it is tried
/// without, as Tink does.
pub fn open(key: &[u8], value: &[u8], associated_data: &[u8]) -> Result<Opened> {
    let base64 = joined::behind_version(value, b"tink:v").ok_or(AdoptError::NotEncrypted)?;
    let bytes = Encoding::Base64Url.decode(base64).ok_or(AdoptError::Malformed)?;
    let open = |bytes: &[u8]| joined::gcm_of(key, bytes, associated_data, AdoptError::Malformed);
    match bytes.split_at_checked(START) {
        Some(([PREFIX, ..], rest)) => match open(rest) {
            Err(AdoptError::Failed | AdoptError::Malformed) => open(&bytes),
            opened => opened,
        },
        _ => open(&bytes),
    }
}
