//! The keys of other software, and how it makes them of passphrases.

use std::fmt;

use ctutils::CtEq;
use hkdf::Hkdf;
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::KeyError;
use crate::key::{KEY_LENGTH, SecretKey};

/// Longest key or passphrase, in bytes.
const LONGEST: usize = 1024;
/// Most iterations of PBKDF2.
const MOST_ITERATIONS: u32 = 10_000_000;

/// A key or passphrase of other software. Wiped when dropped; neither printable nor cloneable.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ForeignKey {
    bytes: [u8; LONGEST],
    length: usize,
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignKey")
    }
}

/// How a key is made of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// It is the secret.
    None,
    /// SHA-256.
    Sha256,
    /// SHA-256 in hexadecimal, as ASCII: 64 bytes.
    Sha256Hex,
    /// PBKDF2-HMAC-SHA-1: Rails up to 7.0.
    Pbkdf2Sha1 {
        /// The salt.
        salt: String,
        /// How often.
        iterations: u32,
    },
    /// PBKDF2-HMAC-SHA-256: Rails from 7.1 on.
    Pbkdf2Sha256 {
        /// The salt.
        salt: String,
        /// How often.
        iterations: u32,
    },
    /// scrypt with N = 16384, r = 8, p = 1, as Node.js has it.
    Scrypt {
        /// The salt.
        salt: String,
    },
    /// HKDF-SHA-256.
    HkdfSha256 {
        /// The salt.
        salt: String,
        /// The info.
        info: String,
    },
}

impl ForeignKey {
    /// A key made of a secret.
    ///
    /// # Errors
    /// [`KeyError`] if the secret is empty or too long, or the work is.
    pub fn derive(secret: &[u8], derivation: &Derivation) -> Result<Self, KeyError> {
        if secret.is_empty() || secret.len() > LONGEST {
            return Err(KeyError::Length);
        }
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        let out = key.as_mut_slice();
        match derivation {
            Derivation::None => return Ok(Self::of(secret)),
            Derivation::Sha256 => out.copy_from_slice(&Sha256::digest(secret)),
            Derivation::Sha256Hex => {
                let mut digits = Zeroizing::new([0; 2 * KEY_LENGTH]);
                let digest = Zeroizing::new(<[u8; KEY_LENGTH]>::from(Sha256::digest(secret)));
                base16ct::lower::encode(digest.as_slice(), digits.as_mut_slice())
                    .map_err(|_| KeyError::Length)?;
                return Ok(Self::of(digits.as_slice()));
            }
            Derivation::Pbkdf2Sha1 { salt, iterations } => {
                pbkdf2_hmac::<Sha1>(secret, salt.as_bytes(), check(*iterations)?, out);
            }
            Derivation::Pbkdf2Sha256 { salt, iterations } => {
                pbkdf2_hmac::<Sha256>(secret, salt.as_bytes(), check(*iterations)?, out);
            }
            Derivation::Scrypt { salt } => {
                let parameters = scrypt::Params::new(14, 8, 1).map_err(|_| KeyError::Work)?;
                scrypt::scrypt(secret, salt.as_bytes(), &parameters, out)
                    .map_err(|_| KeyError::Work)?;
            }
            Derivation::HkdfSha256 { salt, info } => {
                Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret)
                    .expand(info.as_bytes(), out)
                    .map_err(|_| KeyError::Length)?;
            }
        }
        Ok(Self::of(out))
    }

    fn of(bytes: &[u8]) -> Self {
        let mut key = Self { bytes: [0; LONGEST], length: bytes.len() };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        key
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether it is the same as one of fieldcrypt's own keys.
    #[must_use]
    pub fn is(&self, key: &SecretKey) -> bool {
        self.length == KEY_LENGTH && self.as_bytes().ct_eq(key.as_bytes().as_slice()).to_bool()
    }
}

fn check(iterations: u32) -> Result<u32, KeyError> {
    if (1..=MOST_ITERATIONS).contains(&iterations) { Ok(iterations) } else { Err(KeyError::Work) }
}
