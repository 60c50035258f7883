//! Fernet: 0x80 ‖ time ‖ iv ‖ AES-128-CBC ‖ HMAC-SHA-256, in base64url. The time is not looked at:
//! what is stored does not expire.

use super::form::Encoding;
use super::{Opened, Result, cipher};
use crate::error::AdoptError;

const VERSION: u8 = 0x80;
/// Version and time.
const START: usize = 9;

/// Opens a token. The key is a signing key and an encryption key, 16 bytes each.
pub fn open(key: &[u8], value: &[u8]) -> Result<Opened> {
    if key.len() != 32 {
        return Err(AdoptError::KeyLength);
    }
    let (signing, encryption) = key.split_at(16);
    let token = Encoding::Base64Url.decode(value).ok_or(AdoptError::NotEncrypted)?;
    if token.first() != Some(&VERSION) || token.len() < START + 2 * cipher::BLOCK + cipher::MAC {
        return Err(AdoptError::NotEncrypted);
    }
    let (signed, mac) = token.split_at(token.len() - cipher::MAC);
    cipher::verify_hmac(signing, &[signed], mac)?;
    let (iv, ciphertext) = signed[START..].split_at(cipher::BLOCK);
    cipher::cbc(encryption, iv, ciphertext)
}
