//! Laravel: base64 of a JSON object. CBC with an HMAC over the base64 of iv and ciphertext, under the
//! same key, or GCM with a tag; never both.

use serde::Deserialize;

use super::form::{Encoding, base64_of_lines};
use super::{Opened, Result, cipher};
use crate::error::AdoptError;

#[derive(Deserialize)]
struct Payload {
    iv: String,
    value: String,
    mac: String,
    /// Missing in older versions.
    #[serde(default)]
    tag: String,
}

/// What `encryptString()` has made.
pub fn open(key: &[u8], value: &[u8]) -> Result<Opened> {
    if !matches!(key.len(), 16 | 32) {
        return Err(AdoptError::KeyLength);
    }
    let json = base64_of_lines(value).ok_or(AdoptError::NotEncrypted)?;
    let payload: Payload = serde_json::from_slice(&json).map_err(|_| AdoptError::NotEncrypted)?;
    let base64 = |text: &str| Encoding::Base64.decode(text.as_bytes()).ok_or(AdoptError::Malformed);
    let (iv, ciphertext) = (base64(&payload.iv)?, base64(&payload.value)?);
    match (payload.mac.is_empty(), payload.tag.is_empty()) {
        (false, true) => {
            let mac = Encoding::Hex.decode(payload.mac.as_bytes()).ok_or(AdoptError::Malformed)?;
            let signed = [payload.iv.as_bytes(), payload.value.as_bytes()];
            cipher::verify_hmac(key, &signed, &mac)?;
            cipher::cbc(key, &iv, &ciphertext)
        }
        (true, false) => {
            let tag = base64(&payload.tag)?;
            if tag.len() != cipher::BLOCK {
                return Err(AdoptError::Malformed);
            }
            cipher::gcm(key, &iv, &[], &ciphertext, &tag)
        }
        _ => Err(AdoptError::Malformed),
    }
}

/// What `encrypt()` has made of a string: it holds what PHP's `serialize()` makes of it.
pub fn open_serialized(key: &[u8], value: &[u8]) -> Result<Opened> {
    let serialized = open(key, value)?;
    let string = string(&serialized).ok_or(AdoptError::NotString)?;
    Ok(Opened::new(string.to_vec()))
}

/// The string in `s:5:"value";`, whose length is in bytes.
fn string(serialized: &[u8]) -> Option<&[u8]> {
    let rest = serialized.strip_prefix(b"s:")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let string = rest[digits..].strip_prefix(b":\"")?.strip_suffix(b"\";")?;
    (string.len() == length).then_some(string)
}
