//! Parts with a name or a colon between them, as programs on Node.js write them. The order of tag and
//! ciphertext is declared, never guessed: a ciphertext of 16 bytes looks like a tag.

use serde::Deserialize;

use super::form::{Encoding, Order};
use super::{Opened, Result, cipher};
use crate::error::AdoptError;

/// Three parts in AES-GCM.
pub fn gcm(
    key: &[u8],
    value: &[u8],
    associated_data: &[u8],
    order: Order,
    encoding: Encoding,
) -> Result<Opened> {
    let (first, rest) = split(value).ok_or(AdoptError::NotEncrypted)?;
    let iv = encoding.decode(first).filter(|iv| is_nonce(iv)).ok_or(AdoptError::NotEncrypted)?;
    let (second, third) = split(rest).ok_or(AdoptError::Malformed)?;
    let (tag, ciphertext) = match order {
        Order::TagFirst => (second, third),
        Order::TagLast => (third, second),
    };
    opened(key, &iv, associated_data, ciphertext, tag, encoding)
}

/// `enc:v1:` and three parts in base64url.
pub fn enc_v1(key: &[u8], value: &[u8], associated_data: &[u8]) -> Result<Opened> {
    let parts = value.strip_prefix(b"enc:v1:").ok_or(AdoptError::NotEncrypted)?;
    let opened = gcm(key, parts, associated_data, Order::TagFirst, Encoding::Base64Url);
    opened.map_err(|error| match error {
        AdoptError::NotEncrypted => AdoptError::Malformed,
        error => error,
    })
}

#[derive(Deserialize)]
struct Parts<'a> {
    iv: &'a str,
    #[serde(alias = "ciphertext", alias = "content", alias = "data")]
    encrypted: &'a str,
    #[serde(rename = "authTag", alias = "tag")]
    tag: &'a str,
}

/// A JSON object of three parts.
pub fn json(
    key: &[u8],
    value: &[u8],
    associated_data: &[u8],
    encoding: Encoding,
) -> Result<Opened> {
    let parts: Parts<'_> = serde_json::from_slice(value).map_err(|_| AdoptError::NotEncrypted)?;
    let iv = encoding.decode(parts.iv.as_bytes()).filter(|iv| is_nonce(iv));
    let iv = iv.ok_or(AdoptError::Malformed)?;
    let (ciphertext, tag) = (parts.encrypted.as_bytes(), parts.tag.as_bytes());
    opened(key, &iv, associated_data, ciphertext, tag, encoding)
}

/// `iv:ciphertext` in AES-256-CBC.
pub fn cbc(key: &[u8], value: &[u8], encoding: Encoding) -> Result<Opened> {
    if key.len() != 32 {
        return Err(AdoptError::KeyLength);
    }
    let (iv, ciphertext) = split(value).ok_or(AdoptError::NotEncrypted)?;
    let iv = encoding.decode(iv).filter(|iv| iv.len() == cipher::BLOCK);
    let iv = iv.ok_or(AdoptError::NotEncrypted)?;
    let ciphertext = encoding.decode(ciphertext).ok_or(AdoptError::Malformed)?;
    cipher::cbc(key, &iv, &ciphertext)
}

fn opened(
    key: &[u8],
    iv: &[u8],
    associated_data: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
    encoding: Encoding,
) -> Result<Opened> {
    // Node.js takes shorter tags, which can be guessed
    let tag = encoding.decode(tag).filter(|tag| tag.len() == cipher::BLOCK);
    let tag = tag.ok_or(AdoptError::Malformed)?;
    let ciphertext = encoding.decode(ciphertext).ok_or(AdoptError::Malformed)?;
    cipher::gcm(key, iv, associated_data, &ciphertext, &tag)
}

fn is_nonce(iv: &[u8]) -> bool {
    matches!(iv.len(), 12 | 16)
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    Some((&text[..colon], &text[colon + 1..]))
}
