//! Keys wrapped by keys: root → account wrapping key → data, index and transit keys
//! (`docs/envelope.md` section 7).
//!
//! Invariant: an unwrapped key is the one that was recorded: its check value is verified each
//! time, so one key id opens exactly one key (key commitment).

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use ctutils::CtEq;
use zeroize::Zeroizing;

use crate::error::{SealError, UnwrapError};
use crate::framing::{HmacSha256, Label, frame};
use crate::key::{KEY_LENGTH, KeyId, Purpose, SecretKey};
use crate::random;

/// The only wrap suite so far: AES-256-GCM with a random nonce.
const WRAP_SUITE: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Length of a wrapped key, in bytes.
pub const WRAPPED_LENGTH: usize = 1 + NONCE + KEY_LENGTH + TAG;
/// Length of a check value, in bytes.
pub const CHECK_VALUE_LENGTH: usize = 32;

/// Which key is wrapped: all of it is authenticated.
#[derive(Clone, Copy, Debug)]
pub struct KeyName<'a> {
    /// The account it belongs to.
    pub account: &'a str,
    /// What it is for.
    pub purpose: Purpose,
    /// Its version within account and purpose, from 1.
    pub version: u32,
    /// Its id.
    pub id: KeyId,
}

impl KeyName<'_> {
    fn associated_data(&self) -> Vec<u8> {
        frame(
            Label::KeyWrap,
            &[
                &[WRAP_SUITE],
                self.account.as_bytes(),
                self.purpose.name().as_bytes(),
                &self.version.to_be_bytes(),
                &self.id.number().to_be_bytes(),
            ],
        )
    }
}

/// Wraps `key` under `wrapping_key`: 61 bytes.
///
/// # Errors
/// [`SealError::Random`] if the operating system gives no random bytes.
pub fn wrap(
    wrapping_key: &SecretKey,
    name: &KeyName<'_>,
    key: &SecretKey,
) -> Result<[u8; WRAPPED_LENGTH], SealError> {
    let mut wrapped = [0; WRAPPED_LENGTH];
    wrapped[0] = WRAP_SUITE;
    let (nonce, rest) = wrapped[1..].split_at_mut(NONCE);
    random::fill(nonce)?;
    let (body, tag) = rest.split_at_mut(KEY_LENGTH);
    body.copy_from_slice(key.as_bytes());
    let cipher = Aes256Gcm::new(wrapping_key.as_bytes().into());
    let nonce = Nonce::try_from(&*nonce).map_err(|_| SealError::Random)?;
    let made = cipher
        .encrypt_inout_detached(&nonce, &name.associated_data(), body.into())
        .map_err(|_| SealError::TooLong)?;
    tag.copy_from_slice(&made);
    Ok(wrapped)
}

/// Unwraps a key and verifies its check value.
///
/// # Errors
/// [`UnwrapError`]; nothing of the key is returned then.
pub fn unwrap(
    wrapping_key: &SecretKey,
    name: &KeyName<'_>,
    wrapped: &[u8],
    check_value: &[u8],
) -> Result<SecretKey, UnwrapError> {
    let wrapped: &[u8; WRAPPED_LENGTH] = wrapped.try_into().map_err(|_| UnwrapError::Malformed)?;
    if wrapped[0] != WRAP_SUITE {
        return Err(UnwrapError::Malformed);
    }
    let (nonce, rest) = wrapped[1..].split_at(NONCE);
    let (body, tag) = rest.split_at(KEY_LENGTH);
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    bytes.copy_from_slice(body);
    let nonce = Nonce::try_from(nonce).map_err(|_| UnwrapError::Malformed)?;
    let tag = Tag::try_from(tag).map_err(|_| UnwrapError::Malformed)?;
    Aes256Gcm::new(wrapping_key.as_bytes().into())
        .decrypt_inout_detached(&nonce, &name.associated_data(), bytes.as_mut_slice().into(), &tag)
        .map_err(|_| UnwrapError::Tag)?;
    let key = SecretKey::from_bytes(&mut bytes);
    if verify(&self::check_value(&key, name), check_value) {
        Ok(key)
    } else {
        Err(UnwrapError::CheckValue)
    }
}

/// The check value of a key: 32 bytes that commit to it and tell nothing of it.
pub fn check_value(key: &SecretKey, name: &KeyName<'_>) -> [u8; CHECK_VALUE_LENGTH] {
    check_value_of(key, name.account, name.purpose, name.version, name.id.number())
}

/// The check value of a root key.
pub fn root_check_value(root: &SecretKey) -> [u8; CHECK_VALUE_LENGTH] {
    check_value_of(root, "", Purpose::Root, 0, 0)
}

fn check_value_of(
    key: &SecretKey,
    account: &str,
    purpose: Purpose,
    version: u32,
    id: u64,
) -> [u8; CHECK_VALUE_LENGTH] {
    HmacSha256::new(key.as_bytes()).tag(
        Label::CheckValue,
        &[account.as_bytes(), purpose.name().as_bytes(), &version.to_be_bytes(), &id.to_be_bytes()],
    )
}

/// Compares check values, whole and in constant time.
pub fn verify(expected: &[u8; CHECK_VALUE_LENGTH], recorded: &[u8]) -> bool {
    recorded.len() == expected.len() && expected.as_slice().ct_eq(recorded).to_bool()
}
