//! pgcrypto's `encrypt()` and `encrypt_iv()` with `'aes'`: AES-CBC without a MAC.

use zeroize::Zeroizing;

use super::{Opened, Result, cipher};
use crate::error::AdoptError;

/// Opens a value. As pgcrypto does, a key is filled up with zeros to 16, 24 or 32 bytes or cut off
/// after 32, and an iv is filled up or cut off to 16.
pub fn open(key: &[u8], value: &[u8], iv: &[u8]) -> Result<Opened> {
    if value.is_empty() || !value.len().is_multiple_of(cipher::BLOCK) {
        return Err(AdoptError::NotEncrypted);
    }
    let length = match key.len() {
        0..=16 => 16,
        17..=24 => 24,
        _ => 32,
    };
    let mut padded = Zeroizing::new([0; 32]);
    fill(padded.as_mut_slice(), key);
    let mut start = [0; cipher::BLOCK];
    fill(&mut start, iv);
    cipher::cbc(&padded[..length], &start, value)
}

fn fill(buffer: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(buffer.len());
    buffer[..length].copy_from_slice(&bytes[..length]);
}
