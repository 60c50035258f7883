//! Parts one behind the other in base64.

use super::form::{Encoding, base64_of_lines};
use super::{Opened, Result, cipher};
use crate::error::AdoptError;
use zeroize::Zeroizing;

/// Length of the nonce, in bytes.
const NONCE: usize = 12;

/// Nonce ‖ ciphertext ‖ tag, AES-GCM.
pub fn gcm(key: &[u8], value: &[u8], associated_data: &[u8]) -> Result<Opened> {
    let bytes = base64_of_lines(value).ok_or(AdoptError::NotEncrypted)?;
    gcm_of(key, &bytes, associated_data, AdoptError::NotEncrypted)
}

/// The same in bytes; `short` is the error where there are too few.
pub fn gcm_of(
    key: &[u8],
    bytes: &[u8],
    associated_data: &[u8],
    short: AdoptError,
) -> Result<Opened> {
    let (nonce, rest) = bytes.split_at_checked(NONCE).ok_or(short)?;
    let tag_at = rest.len().checked_sub(cipher::BLOCK).ok_or(short)?;
    let (ciphertext, tag) = rest.split_at(tag_at);
    cipher::gcm(key, nonce, associated_data, ciphertext, tag)
}

/// `vault:v1:` and the same; the number is the version of the key, which the caller chooses.
pub fn vault(key: &[u8], value: &[u8], associated_data: &[u8]) -> Result<Opened> {
    let base64 = behind_version(value, b"vault:v").ok_or(AdoptError::NotEncrypted)?;
    let bytes = Encoding::Base64.decode(base64).ok_or(AdoptError::Malformed)?;
    gcm_of(key, &bytes, associated_data, AdoptError::Malformed)
}

/// What follows a prefix, a decimal number and a colon.
pub fn behind_version<'a>(value: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let rest = value.strip_prefix(prefix)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b":").filter(|_| digits > 0)
}

/// Iv ‖ ciphertext, AES-256-CBC.
pub fn cbc(key: &[u8], value: &[u8]) -> Result<Opened> {
    let bytes = base64_of_lines(value).ok_or(AdoptError::NotEncrypted)?;
    if bytes.len() < 2 * cipher::BLOCK || !bytes.len().is_multiple_of(cipher::BLOCK) {
        return Err(AdoptError::NotEncrypted);
    }
    let (iv, ciphertext) = bytes.split_at(cipher::BLOCK);
    cipher::cbc(&*php_key(key), iv, ciphertext)
}

/// Iv ‖ HMAC-SHA-256 of the ciphertext ‖ ciphertext, AES-256-CBC: as in the manual of PHP.
pub fn cbc_hmac(key: &[u8], value: &[u8]) -> Result<Opened> {
    let bytes = base64_of_lines(value).ok_or(AdoptError::NotEncrypted)?;
    let (iv, rest) = bytes.split_at_checked(cipher::BLOCK).ok_or(AdoptError::NotEncrypted)?;
    let (mac, ciphertext) = rest.split_at_checked(cipher::MAC).ok_or(AdoptError::NotEncrypted)?;
    if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(cipher::BLOCK) {
        return Err(AdoptError::NotEncrypted);
    }
    cipher::verify_hmac(key, &[ciphertext], mac)?;
    cipher::cbc(&*php_key(key), iv, ciphertext)
}

/// The ciphertext in base64, `::` and the iv, AES-256-CBC. The iv may hold `::` itself.
pub fn cbc_colons(key: &[u8], value: &[u8]) -> Result<Opened> {
    let bytes = base64_of_lines(value).ok_or(AdoptError::NotEncrypted)?;
    let (rest, iv) =
        bytes.split_last_chunk::<{ cipher::BLOCK }>().ok_or(AdoptError::NotEncrypted)?;
    let ciphertext = rest.strip_suffix(b"::").ok_or(AdoptError::NotEncrypted)?;
    let ciphertext = Encoding::Base64.decode(ciphertext).ok_or(AdoptError::Malformed)?;
    cipher::cbc(&*php_key(key), iv, &ciphertext)
}

/// The key as PHP's `openssl_encrypt` takes it: filled up with zeros, or cut off, to 32 bytes.
fn php_key(key: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut padded = Zeroizing::new([0; 32]);
    let length = key.len().min(padded.len());
    padded[..length].copy_from_slice(&key[..length]);
    padded
}
