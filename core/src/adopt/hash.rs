//! Keyed hashes that other software keeps beside its values to look them up. They hold no value, but
//! tell whether a value is the one that they were made of.

use super::ForeignKey;
use super::cipher::verify_hmac;
use super::form::Encoding;

/// How a keyed hash is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hash {
    /// HMAC-SHA-256 in hexadecimal: lib-commons, pgcrypto, Node.js.
    HmacSha256Hex,
    /// HMAC-SHA-256 in base64.
    HmacSha256Base64,
    /// HMAC-SHA-256 in base64url: Midaz.
    HmacSha256Base64Url,
}

impl Hash {
    /// Every form.
    pub const ALL: [Self; 3] =
        [Self::HmacSha256Hex, Self::HmacSha256Base64, Self::HmacSha256Base64Url];

    /// The form of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256Hex => "hmac-sha256-hex",
            Self::HmacSha256Base64 => "hmac-sha256-base64",
            Self::HmacSha256Base64Url => "hmac-sha256-base64url",
        }
    }

    /// Whether `hash` was made of `prefix` and `value`, one behind the other.
    pub fn is_of(self, hash: &[u8], key: &ForeignKey, prefix: &[u8], value: &[u8]) -> bool {
        let encoding = match self {
            Self::HmacSha256Hex => Encoding::Hex,
            Self::HmacSha256Base64 => Encoding::Base64,
            Self::HmacSha256Base64Url => Encoding::Base64Url,
        };
        let Some(mac) = encoding.decode(hash) else { return false };
        verify_hmac(key.as_bytes(), &[prefix, value], &mac).is_ok()
    }
}
