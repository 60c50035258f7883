//! Values that other software encrypted: from their stored form to the plaintext (`docs/adopt.md`).
//!
//! Invariant: of a value whose integrity its format protects, nothing is returned before that is
//! verified. That a key is wrong, a tag or a MAC does not verify and a padding is not sound are one
//! error. No length that a value claims is allocated before it is checked.

mod cipher;
mod colon;
mod fernet;
mod form;
mod hash;
mod inflate;
mod joined;
mod key;
mod laravel;
mod openpgp;
mod pgcrypto;
mod rails;
mod tink;

use zeroize::Zeroizing;

pub use hash::Hash;
pub use key::{Derivation, ForeignKey};

use crate::error::AdoptError;
use form::{Encoding, Order};

/// A plain value, wiped when dropped.
pub type Opened = Zeroizing<Vec<u8>>;

type Result<T> = std::result::Result<T, AdoptError>;

/// A value as other software stored it, and what belongs to it but stands elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreign<'a> {
    /// The stored form: text in ASCII, or bytes.
    pub value: &'a [u8],
    /// What was authenticated with it.
    pub associated_data: Option<&'a [u8]>,
    /// The initialisation vector, where the stored form does not hold it.
    pub iv: Option<&'a [u8]>,
}

/// A form in which other software stores what it encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `iv:tag:ciphertext` in hexadecimal, AES-GCM.
    GcmIvTagCiphertextHex,
    /// The same in base64.
    GcmIvTagCiphertextBase64,
    /// `iv:ciphertext:tag` in hexadecimal, AES-GCM.
    GcmIvCiphertextTagHex,
    /// The same in base64.
    GcmIvCiphertextTagBase64,
    /// `enc:v1:iv:tag:ciphertext` in base64url, AES-GCM.
    GcmEncV1,
    /// A JSON object with `iv`, `encrypted` and `authTag` in hexadecimal, AES-GCM.
    GcmJsonHex,
    /// The same in base64.
    GcmJsonBase64,
    /// Base64 of nonce ‖ ciphertext ‖ tag, AES-GCM: lib-commons, lockbox.
    GcmBase64,
    /// `vault:v1:` and base64 of nonce ‖ ciphertext ‖ tag, AES-GCM: the transit engine of Vault.
    VaultTransit,
    /// `tink:v1:` and base64url of a Tink ciphertext, AES-GCM: Midaz.
    Tink,
    /// Laravel's `encryptString()`.
    Laravel,
    /// Laravel's `encrypt()` of a string.
    LaravelSerialized,
    /// Rails' Active Record Encryption.
    Rails,
    /// A Fernet token.
    Fernet,
    /// Base64 of iv ‖ HMAC-SHA-256 ‖ ciphertext, AES-256-CBC, as in PHP's manual.
    CbcHmacBase64,
    /// `iv:ciphertext` in hexadecimal, AES-256-CBC, not authenticated.
    CbcIvCiphertextHex,
    /// The same in base64.
    CbcIvCiphertextBase64,
    /// Base64 of iv ‖ ciphertext, AES-256-CBC, not authenticated.
    CbcBase64,
    /// Base64 of base64 ciphertext, `::` and the iv, AES-256-CBC, not authenticated.
    CbcBase64Colons,
    /// pgcrypto's `encrypt(…, 'aes')`, not authenticated.
    PgcryptoEncrypt,
    /// pgcrypto's `encrypt_iv(…, 'aes')`, not authenticated.
    PgcryptoEncryptIv,
    /// pgcrypto's `pgp_sym_encrypt()`, also armoured.
    PgpSymmetric,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 22] = [
        Self::GcmIvTagCiphertextHex,
        Self::GcmIvTagCiphertextBase64,
        Self::GcmIvCiphertextTagHex,
        Self::GcmIvCiphertextTagBase64,
        Self::GcmEncV1,
        Self::GcmJsonHex,
        Self::GcmJsonBase64,
        Self::GcmBase64,
        Self::VaultTransit,
        Self::Tink,
        Self::Laravel,
        Self::LaravelSerialized,
        Self::Rails,
        Self::Fernet,
        Self::CbcHmacBase64,
        Self::CbcIvCiphertextHex,
        Self::CbcIvCiphertextBase64,
        Self::CbcBase64,
        Self::CbcBase64Colons,
        Self::PgcryptoEncrypt,
        Self::PgcryptoEncryptIv,
        Self::PgpSymmetric,
    ];

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GcmIvTagCiphertextHex => "gcm-iv-tag-ciphertext-hex",
            Self::GcmIvTagCiphertextBase64 => "gcm-iv-tag-ciphertext-base64",
            Self::GcmIvCiphertextTagHex => "gcm-iv-ciphertext-tag-hex",
            Self::GcmIvCiphertextTagBase64 => "gcm-iv-ciphertext-tag-base64",
            Self::GcmEncV1 => "gcm-enc-v1",
            Self::GcmJsonHex => "gcm-json-hex",
            Self::GcmJsonBase64 => "gcm-json-base64",
            Self::GcmBase64 => "gcm-base64",
            Self::VaultTransit => "vault-transit",
            Self::Tink => "tink",
            Self::Laravel => "laravel",
            Self::LaravelSerialized => "laravel-serialized",
            Self::Rails => "rails",
            Self::Fernet => "fernet",
            Self::CbcHmacBase64 => "cbc-hmac-base64",
            Self::CbcIvCiphertextHex => "cbc-iv-ciphertext-hex",
            Self::CbcIvCiphertextBase64 => "cbc-iv-ciphertext-base64",
            Self::CbcBase64 => "cbc-base64",
            Self::CbcBase64Colons => "cbc-base64-colons",
            Self::PgcryptoEncrypt => "pgcrypto-encrypt",
            Self::PgcryptoEncryptIv => "pgcrypto-encrypt-iv",
            Self::PgpSymmetric => "pgp-symmetric",
        }
    }

    /// Whether a wrong key or an altered value is noticed for certain.
    pub const fn is_authenticated(self) -> bool {
        !matches!(
            self,
            Self::CbcIvCiphertextHex
                | Self::CbcIvCiphertextBase64
                | Self::CbcBase64
                | Self::CbcBase64Colons
                | Self::PgcryptoEncrypt
                | Self::PgcryptoEncryptIv
        )
    }

    /// Whether values have associated data: always, never, or as the software chose (`None`).
    const fn takes_associated_data(self) -> Option<bool> {
        match self {
            Self::GcmIvTagCiphertextHex
            | Self::GcmIvTagCiphertextBase64
            | Self::GcmIvCiphertextTagHex
            | Self::GcmIvCiphertextTagBase64
            | Self::GcmEncV1
            | Self::GcmJsonHex
            | Self::GcmJsonBase64
            | Self::GcmBase64
            | Self::VaultTransit => None,
            Self::Tink => Some(true),
            _ => Some(false),
        }
    }

    /// Fails unless its values have associated data, and an iv that they do not hold, as it is said.
    ///
    /// # Errors
    /// [`AdoptError::Iv`], [`AdoptError::AssociatedData`].
    pub fn check(self, has_associated_data: bool, has_iv: bool) -> Result<()> {
        if has_iv != (self == Self::PgcryptoEncryptIv) {
            return Err(AdoptError::Iv);
        }
        if self.takes_associated_data().is_some_and(|takes| takes != has_associated_data) {
            return Err(AdoptError::AssociatedData);
        }
        Ok(())
    }

    /// Opens a value.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn open(self, key: &ForeignKey, foreign: &Foreign<'_>) -> Result<Opened> {
        self.check(foreign.associated_data.is_some(), foreign.iv.is_some())?;
        let (key, value) = (key.as_bytes(), foreign.value);
        let associated_data = foreign.associated_data.unwrap_or_default();
        let colon = |order, encoding| colon::gcm(key, value, associated_data, order, encoding);
        match self {
            Self::GcmIvTagCiphertextHex => colon(Order::TagFirst, Encoding::Hex),
            Self::GcmIvTagCiphertextBase64 => colon(Order::TagFirst, Encoding::Base64),
            Self::GcmIvCiphertextTagHex => colon(Order::TagLast, Encoding::Hex),
            Self::GcmIvCiphertextTagBase64 => colon(Order::TagLast, Encoding::Base64),
            Self::GcmEncV1 => colon::enc_v1(key, value, associated_data),
            Self::GcmJsonHex => colon::json(key, value, associated_data, Encoding::Hex),
            Self::GcmJsonBase64 => colon::json(key, value, associated_data, Encoding::Base64),
            Self::GcmBase64 => joined::gcm(key, value, associated_data),
            Self::VaultTransit => joined::vault(key, value, associated_data),
            Self::Tink => tink::open(key, value, associated_data),
            Self::Laravel => laravel::open(key, value),
            Self::LaravelSerialized => laravel::open_serialized(key, value),
            Self::Rails => rails::open(key, value),
            Self::Fernet => fernet::open(key, value),
            Self::CbcHmacBase64 => joined::cbc_hmac(key, value),
            Self::CbcIvCiphertextHex => colon::cbc(key, value, Encoding::Hex),
            Self::CbcIvCiphertextBase64 => colon::cbc(key, value, Encoding::Base64),
            Self::CbcBase64 => joined::cbc(key, value),
            Self::CbcBase64Colons => joined::cbc_colons(key, value),
            Self::PgcryptoEncrypt => pgcrypto::open(key, value, &[]),
            Self::PgcryptoEncryptIv => pgcrypto::open(key, value, foreign.iv.unwrap_or_default()),
            Self::PgpSymmetric => openpgp::open(key, value),
        }
    }

    /// Opens a value that is a text. Where the format does not tell a wrong key for certain, a text
    /// with control characters (other than tab and line ends) is taken for the result of one.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn open_text(self, key: &ForeignKey, foreign: &Foreign<'_>) -> Result<Zeroizing<String>> {
        let opened = self.open(key, foreign)?;
        let is_odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
        match std::str::from_utf8(&opened) {
            Ok(text) if self.is_authenticated() && !text.contains('\0') => {
                Ok(Zeroizing::new(text.to_owned()))
            }
            Ok(text) if !self.is_authenticated() && !text.contains(is_odd) => {
                Ok(Zeroizing::new(text.to_owned()))
            }
            _ if self.is_authenticated() => Err(AdoptError::NotText),
            _ => Err(AdoptError::Failed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests;
