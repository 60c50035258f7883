//! `tink:v1:` and base64url of 0x01 ‖ key id ‖ nonce ‖ ciphertext ‖ tag, AES-GCM, as Midaz stores
//! it. The key id is not looked at: which key opens the value is authenticated.

use super::form::Encoding;
use super::{Opened, Result, joined};
use crate::error::AdoptError;

/// The start of Tink's ciphertexts that name their key.
const PREFIX: u8 = 1;
/// The prefix and the key id, in bytes.
const START: usize = 5;

/// Opens a value.
pub fn open(key: &[u8], value: &[u8], associated_data: &[u8]) -> Result<Opened> {
    let base64 = joined::behind_version(value, b"tink:v").ok_or(AdoptError::NotEncrypted)?;
    let bytes = Encoding::Base64Url.decode(base64).ok_or(AdoptError::Malformed)?;
    match bytes.split_at_checked(START) {
        Some(([PREFIX, ..], rest)) => {
            joined::gcm_of(key, rest, associated_data, AdoptError::Malformed)
        }
        _ => Err(AdoptError::Malformed),
    }
}
