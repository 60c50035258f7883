//! Key material, its ids, and the derivation of a field's keys from an account's.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::SealError;
use crate::field::{FieldId, account_tag};
use crate::framing::{Label, frame};
use crate::random;
use crate::suite::{Cipher, Suite};

/// Length of every key of a [`Purpose`], in bytes.
pub const KEY_LENGTH: usize = 32;

/// 32 secret bytes. Wiped when dropped; neither printable nor cloneable.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; KEY_LENGTH]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// A new random key from the operating system.
    ///
    /// # Errors
    /// [`SealError::Random`] if the operating system gives no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Self([0; KEY_LENGTH]);
        random::fill(&mut key.0)?;
        Ok(key)
    }

    /// Takes over key bytes; the caller's copy is wiped.
    pub fn from_bytes(bytes: &mut [u8; KEY_LENGTH]) -> Self {
        let key = Self(*bytes);
        bytes.zeroize();
        key
    }

    /// The bytes, for what wraps the key elsewhere.
    pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

/// What a key is for. Each purpose has keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The audit key of the database: it seals the events of the audit.
    Audit,
    /// Data keys: field keys are derived from them.
    Data,
    /// Index keys: token keys are derived from them.
    Index,
    /// The root key, outside the database.
    Root,
    /// The transit key of the database: values that have no field yet.
    Transit,
    /// An account's wrapping key, wrapped by a root.
    Wrapping,
}

impl Purpose {
    /// Its name, in SQL and in authenticated input.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Data => "data",
            Self::Index => "index",
            Self::Root => "root",
            Self::Transit => "transit",
            Self::Wrapping => "wrapping",
        }
    }

    /// The purpose of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Audit, Self::Data, Self::Index, Self::Root, Self::Transit, Self::Wrapping]
            .into_iter()
            .find(|purpose| purpose.name() == name)
    }
}

/// 63 bits that name a key for ever; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// The id with that number; `None` for 0 and for numbers with the top bit set.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 || number >> 63 == 1 { None } else { Some(Self(number)) }
    }

    /// A new random id: 63 random bits, and for an index key 31 bits of the account and 32 random
    /// bits (`docs/envelope.md` section 6).
    ///
    /// # Errors
    /// [`SealError::Random`] if the operating system gives no random bytes.
    pub fn generate(purpose: Purpose, account: &str) -> Result<Self, SealError> {
        loop {
            let mut bytes = [0; 8];
            random::fill(&mut bytes)?;
            let random = u64::from_be_bytes(bytes);
            let number = match purpose {
                Purpose::Index => u64::from(account_tag(account)) << 32 | (random & 0xFFFF_FFFF),
                _ => random >> 1,
            };
            if let Some(id) = Self::new(number) {
                return Ok(id);
            }
        }
    }

    /// Its number: positive as a signed integer too.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// In an index key id: the 31 bits of its account.
    pub const fn account_tag(self) -> u64 {
        self.0 >> 32
    }
}

/// `length` bytes of HKDF-SHA-256 (RFC 5869) for one field of one account, in a buffer of 64.
fn derive(
    key: &SecretKey,
    purpose: Purpose,
    suite: u8,
    field: FieldId,
    account: &str,
    length: usize,
) -> Zeroizing<[u8; 64]> {
    let mut output = Zeroizing::new([0; 64]);
    let info = frame(
        Label::FieldKey,
        &[
            purpose.name().as_bytes(),
            &[suite],
            // 32 or 64
            &(length as u16).to_be_bytes(),
            &field.0.to_be_bytes(),
            account.as_bytes(),
        ],
    );
    let expanded = Hkdf::<Sha256>::new(None, key.as_bytes()).expand(&info, &mut output[..length]);
    // fails only over 8,160 bytes, and would leave a key of zeros
    assert!(expanded.is_ok());
    output
}

/// The cipher of a field of an account, from the account's data key or the database's transit key.
pub fn field_cipher(
    key: &SecretKey,
    purpose: Purpose,
    suite: Suite,
    field: FieldId,
    account: &str,
) -> Cipher {
    let output = derive(key, purpose, suite.number(), field, account, suite.key_length());
    Cipher::new(suite, &output)
}

/// The 32 bytes under which a field's tokens are made, from an account's index key.
pub(crate) fn token_key(key: &SecretKey, field: FieldId, account: &str) -> Zeroizing<[u8; 64]> {
    derive(key, Purpose::Index, 1, field, account, 32)
}
