//! AES in GCM and CBC with keys of any length, to open only.

use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes128Dec, Aes192, Aes192Dec, Aes256, Aes256Dec};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{self, AeadInOut, KeyInit};
use cbc::cipher::block_padding::NoPadding;
use ctutils::CtEq;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Opened, Result};
use crate::error::AdoptError;

/// Size of an AES block, and of the tag of GCM, in bytes.
pub const BLOCK: usize = 16;
/// Length of an HMAC-SHA-256, in bytes.
pub const MAC: usize = 32;

/// Opens AES-GCM with a key of 16, 24 or 32 bytes, a nonce of 12 or 16, and a tag of 16.
pub fn gcm(
    key: &[u8],
    nonce: &[u8],
    associated_data: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Result<Opened> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let opened = match (key.len(), nonce.len()) {
        (16, 12) => verified::<AesGcm<Aes128, U12>>(key, nonce, associated_data, &mut buffer, tag),
        (16, 16) => verified::<AesGcm<Aes128, U16>>(key, nonce, associated_data, &mut buffer, tag),
        (24, 12) => verified::<AesGcm<Aes192, U12>>(key, nonce, associated_data, &mut buffer, tag),
        (24, 16) => verified::<AesGcm<Aes192, U16>>(key, nonce, associated_data, &mut buffer, tag),
        (32, 12) => verified::<AesGcm<Aes256, U12>>(key, nonce, associated_data, &mut buffer, tag),
        (32, 16) => verified::<AesGcm<Aes256, U16>>(key, nonce, associated_data, &mut buffer, tag),
        (16 | 24 | 32, _) => return Err(AdoptError::Malformed),
        _ => return Err(AdoptError::KeyLength),
    };
    opened.map(|()| buffer).ok_or(AdoptError::Failed)
}

fn verified<C: AeadInOut + KeyInit>(
    key: &[u8],
    nonce: &[u8],
    associated_data: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    let nonce = aead::Nonce::<C>::try_from(nonce).ok()?;
    let tag = aead::Tag::<C>::try_from(tag).ok()?;
    let cipher = C::new_from_slice(key).ok()?;
    cipher.decrypt_inout_detached(&nonce, associated_data, buffer.into(), &tag).ok()
}

/// Opens AES-CBC with a key of 16, 24 or 32 bytes, and takes the padding of PKCS #7 off. Without a
/// MAC that was verified first, the padding is all that tells a wrong key: one in 256 passes.
pub fn cbc(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Result<Opened> {
    if iv.len() != BLOCK || ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK) {
        return Err(AdoptError::Malformed);
    }
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    match key.len() {
        16 => blocks::<cbc::Decryptor<Aes128Dec>>(key, iv, &mut buffer),
        24 => blocks::<cbc::Decryptor<Aes192Dec>>(key, iv, &mut buffer),
        32 => blocks::<cbc::Decryptor<Aes256Dec>>(key, iv, &mut buffer),
        _ => return Err(AdoptError::KeyLength),
    }
    .ok_or(AdoptError::Failed)?;
    let length = unpadded(&buffer).ok_or(AdoptError::Failed)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn blocks<C: BlockModeDecrypt + KeyIvInit>(key: &[u8], iv: &[u8], buffer: &mut [u8]) -> Option<()> {
    C::new_from_slices(key, iv).ok()?.decrypt_padded::<NoPadding>(buffer).ok()?;
    Some(())
}

/// The length without the padding; every byte of the last block is looked at whatever they are.
fn unpadded(bytes: &[u8]) -> Option<usize> {
    let last = bytes.last_chunk::<BLOCK>()?;
    let count = usize::from(last[BLOCK - 1]);
    let mut wrong = u8::from(count == 0 || count > BLOCK);
    for (index, &byte) in last.iter().enumerate() {
        let is_padding = u8::from(index + count >= BLOCK);
        wrong |= is_padding * (byte ^ last[BLOCK - 1]);
    }
    (wrong == 0).then(|| bytes.len() - count)
}

/// Fails unless `mac` is the HMAC-SHA-256 of the parts, one after the other.
pub fn verify_hmac(key: &[u8], parts: &[&[u8]], mac: &[u8]) -> Result<()> {
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else { return Err(AdoptError::Failed) };
    parts.iter().for_each(|part| hmac.update(part));
    let expected = hmac.finalize().into_bytes();
    if mac.len() == MAC && expected.as_slice().ct_eq(mac).to_bool() {
        Ok(())
    } else {
        Err(AdoptError::Failed)
    }
}
