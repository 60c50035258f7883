//! Decompression with a limit: a few bytes can stand for gigabytes.

use miniz_oxide::inflate::{TINFLStatus, decompress_slice_iter_to_slice};
use zeroize::Zeroizing;

use super::{Opened, Result};
use crate::error::AdoptError;

/// Most that a value may have, decompressed, in bytes.
pub const LONGEST: usize = 64 << 20;
/// Least room to begin with, in bytes.
const FIRST: usize = 4096;

/// What is around the compressed data.
#[derive(Clone, Copy)]
pub enum Wrapper {
    /// Nothing: DEFLATE of RFC 1951.
    None,
    /// The header and the checksum of RFC 1950.
    Zlib,
}

/// Decompresses. It begins anew with more room rather than leave copies behind while growing.
pub fn inflate(compressed: &[u8], wrapper: Wrapper) -> Result<Opened> {
    let mut room = compressed.len().saturating_mul(4).clamp(FIRST, LONGEST);
    loop {
        let mut out = Zeroizing::new(vec![0; room]);
        let input = std::iter::once(compressed);
        let has_header = matches!(wrapper, Wrapper::Zlib);
        match decompress_slice_iter_to_slice(&mut out, input, has_header, false) {
            Ok(length) => {
                out.truncate(length);
                return Ok(out);
            }
            Err(TINFLStatus::HasMoreOutput) if room < LONGEST => {
                room = room.saturating_mul(4).min(LONGEST);
            }
            Err(TINFLStatus::HasMoreOutput) => return Err(AdoptError::TooLong),
            Err(_) => return Err(AdoptError::Malformed),
        }
    }
}
