//! Length hiding: ISO/IEC 7816-4 padding to a multiple of a bucket.

use crate::error::OpenError;

/// How far a value is padded before it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding {
    /// Not at all: the envelope tells the value's length.
    #[default]
    None,
    /// To a multiple of 32 bytes.
    To32,
    /// To a multiple of 64 bytes.
    To64,
    /// To a multiple of 128 bytes.
    To128,
    /// To a multiple of 256 bytes.
    To256,
    /// To a multiple of 1,024 bytes.
    To1024,
}

impl Padding {
    /// Every bucket.
    pub const ALL: [Self; 6] =
        [Self::None, Self::To32, Self::To64, Self::To128, Self::To256, Self::To1024];

    /// Its name in SQL: `none` or the bucket's size in bytes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To32 => "32",
            Self::To64 => "64",
            Self::To128 => "128",
            Self::To256 => "256",
            Self::To1024 => "1024",
        }
    }

    /// The bucket of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|padding| padding.name() == name)
    }

    /// The length of a value of `length` bytes once padded, in bytes.
    pub const fn padded_length(self, length: usize) -> usize {
        let bucket = match self {
            Self::None => return length,
            Self::To32 => 32,
            Self::To64 => 64,
            Self::To128 => 128,
            Self::To256 => 256,
            Self::To1024 => 1024,
        };
        length + bucket - length % bucket
    }

    /// Whether a value is of such a length once padded, in bytes. Without a bucket every length is.
    pub const fn is_padded_length(self, length: usize) -> bool {
        match self {
            Self::None => true,
            _ => length > 0 && self.padded_length(length) == length + self.padded_length(0),
        }
    }
}

/// Writes `0x80` and zero bytes behind the first `length` bytes of `buffer`, to its end.
pub fn pad(buffer: &mut [u8], length: usize) {
    if let Some((mark, rest)) = buffer[length..].split_first_mut() {
        *mark = 0x80;
        rest.fill(0);
    }
}

/// The length of the value in front of the padding, in bytes.
///
/// # Errors
/// [`OpenError`] if there is no padding. It was authenticated before, so this tells an attacker
/// nothing.
pub fn unpadded_length(padded: &[u8]) -> Result<usize, OpenError> {
    let mark = padded.iter().rposition(|&b| b != 0).ok_or(OpenError)?;
    if padded[mark] == 0x80 { Ok(mark) } else { Err(OpenError) }
}
