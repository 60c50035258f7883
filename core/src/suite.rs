//! The three suites: what they are called, how long their parts are, and the primitives behind.
//!
//! Invariant: a tag is verified whole and in constant time before a byte of plaintext exists.

use std::fmt;

use aes::{Aes256Dec, Aes256Enc};
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::consts::U12;
use aes_gcm::{AesGcm, Nonce, Tag};
use cbc::cipher::block_padding::{NoPadding, Pkcs7};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit};
use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use xaes_256_gcm::Xaes256Gcm;

use crate::error::OpenError;

/// Size of an AES block in bytes.
const BLOCK: usize = 16;

/// AES-256-GCM, with the round keys of one direction: GCM never decrypts a block.
type Aes256Gcm = AesGcm<Aes256Enc, U12>;

/// A way to encrypt and authenticate, with its number in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Suite {
    /// XAES-256-GCM (C2SP): a random nonce of 192 bits, no practical limit. The default.
    Xaes256Gcm = 1,
    /// AES-256-GCM (NIST SP 800-38D): smaller and faster, at most 2^32 values per field key.
    Aes256Gcm = 2,
    /// AES-256-CBC with HMAC-SHA-512, encrypt-then-MAC (RFC 7518, A256CBC-HS512).
    Aes256CbcHmacSha512 = 3,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 3] = [Self::Xaes256Gcm, Self::Aes256Gcm, Self::Aes256CbcHmacSha512];

    /// The suite of that number in an envelope.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The suite of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Its number in an envelope.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xaes256Gcm => "xaes-256-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes256CbcHmacSha512 => "aes-256-cbc-hmac-sha512",
        }
    }

    /// Length of the key, in bytes.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Xaes256Gcm | Self::Aes256Gcm => 32,
            Self::Aes256CbcHmacSha512 => 64,
        }
    }

    /// Length of the nonce (or initialisation vector), in bytes.
    pub const fn nonce_length(self) -> usize {
        match self {
            Self::Xaes256Gcm => 24,
            Self::Aes256Gcm => 12,
            Self::Aes256CbcHmacSha512 => BLOCK,
        }
    }

    /// Length of the tag, in bytes.
    pub const fn tag_length(self) -> usize {
        match self {
            Self::Xaes256Gcm | Self::Aes256Gcm => 16,
            Self::Aes256CbcHmacSha512 => 32,
        }
    }

    /// Length of the ciphertext of `plaintext` bytes, in bytes.
    pub const fn ciphertext_length(self, plaintext: usize) -> usize {
        match self {
            Self::Xaes256Gcm | Self::Aes256Gcm => plaintext,
            Self::Aes256CbcHmacSha512 => plaintext + BLOCK - plaintext % BLOCK,
        }
    }

    /// Whether a ciphertext of the suite can have this length, in bytes.
    pub const fn is_ciphertext_length(self, length: usize) -> bool {
        match self {
            Self::Xaes256Gcm | Self::Aes256Gcm => true,
            Self::Aes256CbcHmacSha512 => length > 0 && length.is_multiple_of(BLOCK),
        }
    }
}

/// A suite with a key set up. Wiped when dropped.
///
/// All of it lies in one place, so that its owner can keep it in locked memory.
pub enum Cipher {
    /// See [`Suite::Xaes256Gcm`].
    Xaes256Gcm(Xaes256Gcm),
    /// See [`Suite::Aes256Gcm`].
    Aes256Gcm(Aes256Gcm),
    /// See [`Suite::Aes256CbcHmacSha512`].
    Aes256CbcHmacSha512(CbcHmacSha512),
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cipher").field(&self.suite()).finish_non_exhaustive()
    }
}

impl Cipher {
    /// Sets up `suite` with the first [`Suite::key_length`] bytes of `key`.
    pub fn new(suite: Suite, key: &[u8; 64]) -> Self {
        let (first, second) = halves(key);
        match suite {
            Suite::Xaes256Gcm => Self::Xaes256Gcm(Xaes256Gcm::new(first.into())),
            Suite::Aes256Gcm => Self::Aes256Gcm(Aes256Gcm::new(first.into())),
            Suite::Aes256CbcHmacSha512 => {
                Self::Aes256CbcHmacSha512(CbcHmacSha512::new(first, second))
            }
        }
    }

    /// Which suite this is.
    pub const fn suite(&self) -> Suite {
        match self {
            Self::Xaes256Gcm(_) => Suite::Xaes256Gcm,
            Self::Aes256Gcm(_) => Suite::Aes256Gcm,
            Self::Aes256CbcHmacSha512(_) => Suite::Aes256CbcHmacSha512,
        }
    }

    /// Encrypts in place: `buffer` holds `length` bytes of plaintext and has the length of the
    /// ciphertext. Writes the tag. The lengths of nonce, buffer and tag must be the suite's;
    /// `None` if they are not.
    pub fn encrypt(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        buffer: &mut [u8],
        length: usize,
        tag: &mut [u8],
    ) -> Option<()> {
        if tag.len() != self.suite().tag_length()
            || buffer.len() != self.suite().ciphertext_length(length)
        {
            return None;
        }
        match self {
            Self::Xaes256Gcm(cipher) => {
                let nonce = Nonce::try_from(nonce).ok()?;
                let made = cipher.encrypt_inout_detached(&nonce, associated_data, buffer.into());
                tag.copy_from_slice(&made.ok()?);
            }
            Self::Aes256Gcm(cipher) => {
                let nonce = Nonce::try_from(nonce).ok()?;
                let made = cipher.encrypt_inout_detached(&nonce, associated_data, buffer.into());
                tag.copy_from_slice(&made.ok()?);
            }
            Self::Aes256CbcHmacSha512(cipher) => {
                let iv = nonce.try_into().ok()?;
                tag.copy_from_slice(&cipher.encrypt(iv, associated_data, buffer, length)?);
            }
        }
        Some(())
    }

    /// Verifies the tag, then decrypts in place. Returns the length of the plaintext at the start
    /// of `buffer`, in bytes. The buffer is left as ciphertext if the tag does not verify.
    ///
    /// # Errors
    /// [`OpenError`], whatever is wrong.
    pub fn decrypt(
        &self,
        nonce: &[u8],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<usize, OpenError> {
        let length = buffer.len();
        match self {
            Self::Xaes256Gcm(cipher) => {
                let nonce = Nonce::try_from(nonce).map_err(|_| OpenError)?;
                let tag = Tag::try_from(tag).map_err(|_| OpenError)?;
                cipher
                    .decrypt_inout_detached(&nonce, associated_data, buffer.into(), &tag)
                    .map_err(|_| OpenError)?;
                Ok(length)
            }
            Self::Aes256Gcm(cipher) => {
                let nonce = Nonce::try_from(nonce).map_err(|_| OpenError)?;
                let tag = Tag::try_from(tag).map_err(|_| OpenError)?;
                cipher
                    .decrypt_inout_detached(&nonce, associated_data, buffer.into(), &tag)
                    .map_err(|_| OpenError)?;
                Ok(length)
            }
            Self::Aes256CbcHmacSha512(cipher) => {
                let iv = nonce.try_into().map_err(|_| OpenError)?;
                cipher.decrypt(iv, associated_data, buffer, tag)
            }
        }
    }
}

fn halves(key: &[u8; 64]) -> (&[u8; 32], &[u8; 32]) {
    let (first, second) = key.split_at(32);
    match (first.try_into(), second.try_into()) {
        (Ok(first), Ok(second)) => (first, second),
        _ => unreachable!("64 bytes have two halves of 32"),
    }
}

/// A256CBC-HS512 (RFC 7518 section 5.2.5) with its keys set up.
pub struct CbcHmacSha512 {
    mac: Hmac<Sha512>,
    aes: Aes256Enc,
}

impl fmt::Debug for CbcHmacSha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CbcHmacSha512").finish_non_exhaustive()
    }
}

impl CbcHmacSha512 {
    fn new(mac_key: &[u8; 32], aes_key: &[u8; 32]) -> Self {
        // HMAC takes a key of any length
        let Ok(mac) = Hmac::new_from_slice(mac_key) else { unreachable!("HMAC takes any key") };
        Self { mac, aes: Aes256Enc::new(aes_key.into()) }
    }

    /// T: the first 32 of the 64 bytes of HMAC-SHA-512 over A ‖ IV ‖ E ‖ AL.
    fn tag(&self, iv: &[u8; BLOCK], associated_data: &[u8], ciphertext: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(associated_data);
        mac.update(iv);
        mac.update(ciphertext);
        mac.update(&(associated_data.len() as u64 * 8).to_be_bytes());
        let full = mac.finalize().into_bytes();
        std::array::from_fn(|i| full[i])
    }

    fn encrypt(
        &self,
        iv: &[u8; BLOCK],
        associated_data: &[u8],
        buffer: &mut [u8],
        length: usize,
    ) -> Option<[u8; 32]> {
        cbc::Encryptor::inner_iv_init(&self.aes, iv.into())
            .encrypt_padded::<Pkcs7>(buffer, length)
            .ok()?;
        Some(self.tag(iv, associated_data, buffer))
    }

    fn decrypt(
        &self,
        iv: &[u8; BLOCK],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<usize, OpenError> {
        let expected = self.tag(iv, associated_data, buffer);
        if tag.len() != expected.len() || !expected.as_slice().ct_eq(tag).to_bool() {
            return Err(OpenError);
        }
        cbc::Decryptor::inner_iv_init(Aes256Dec::from(&self.aes), iv.into())
            .decrypt_padded::<NoPadding>(buffer)
            .map_err(|_| OpenError)?;
        // the padding is authentic by now: reading it in variable time tells nothing
        match buffer.last() {
            Some(&count @ 1..=16) if buffer.len() >= usize::from(count) => {
                let length = buffer.len() - usize::from(count);
                let padding = &buffer[length..];
                if padding.iter().all(|&b| b == count) { Ok(length) } else { Err(OpenError) }
            }
            _ => Err(OpenError),
        }
    }
}
