//! Rails' Active Record Encryption: a JSON object with the payload and its headers, AES-256-GCM.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::form::Encoding;
use super::inflate::{Wrapper, inflate};
use super::{Opened, Result, cipher};
use crate::error::AdoptError;

#[derive(Deserialize)]
struct Message {
    p: String,
    h: Headers,
}

// headers are not authenticated: one that was changed must not pass for one that is missing
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    iv: String,
    at: String,
    /// Whether it is compressed.
    #[serde(default)]
    c: bool,
    /// The encoding of the text, where that is not UTF-8.
    e: Option<String>,
    /// Which key it was: the caller says.
    #[serde(rename = "i")]
    _key_reference: Option<IgnoredAny>,
    /// The value's own key, encrypted.
    k: Option<Box<Message>>,
}

/// Opens a value.
pub fn open(key: &[u8], value: &[u8]) -> Result<Opened> {
    if key.len() != 32 {
        return Err(AdoptError::KeyLength);
    }
    let message: Message = serde_json::from_slice(value).map_err(|_| AdoptError::NotEncrypted)?;
    let opened = match &message.h.k {
        None => decrypt(key, &message)?,
        Some(wrapped) if wrapped.h.k.is_none() && !wrapped.h.c => {
            let own = decrypt(key, wrapped)?;
            match decrypt(&own, &message) {
                // it is the value that is wrong then, not the key that was given
                Err(AdoptError::KeyLength) => return Err(AdoptError::Malformed),
                opened => opened?,
            }
        }
        Some(_) => return Err(AdoptError::Malformed),
    };
    match message.h.e.as_deref() {
        None | Some("UTF-8" | "US-ASCII" | "ASCII-8BIT") => {}
        Some(_) => return Err(AdoptError::Unsupported("a character encoding other than UTF-8")),
    }
    if message.h.c { inflate(&opened, Wrapper::Zlib) } else { Ok(opened) }
}

fn decrypt(key: &[u8], message: &Message) -> Result<Opened> {
    let base64 = |text: &str| Encoding::Base64.decode(text.as_bytes()).ok_or(AdoptError::Malformed);
    let (iv, tag) = (base64(&message.h.iv)?, base64(&message.h.at)?);
    if iv.len() != 12 || tag.len() != cipher::BLOCK {
        return Err(AdoptError::Malformed);
    }
    cipher::gcm(key, &iv, &[], &base64(&message.p)?, &tag)
}
