//! The stored form: layout, limits and text form (`docs/envelope.md` sections 1 to 6).
//!
//! Invariant: what [`Envelope::parse`] accepts is well formed to the last byte, and accepting it
//! needs no key.

use base64_simd::URL_SAFE_NO_PAD;

use crate::error::FormatError;
use crate::field::FieldId;
use crate::key::KeyId;
use crate::suite::Suite;
use crate::token::{self, IndexToken};

/// First byte of every envelope. No UTF-8 text begins with it.
pub const MAGIC: u8 = 0xFC;
/// Second byte: the format this version writes.
pub const FORMAT: u8 = 1;
/// What the text form begins with.
pub const TEXT_PREFIX: &str = "fc1:";
/// Longest envelope, in bytes: 512 MiB.
pub const MAXIMUM_LENGTH: usize = 512 << 20;
/// Longest header, in bytes: 64 KiB.
pub const MAXIMUM_HEADER_LENGTH: usize = 64 << 10;
/// Length of the header without token sections, in bytes.
pub const FIXED_HEADER_LENGTH: usize = 23;

/// What the plaintext is, by its number in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaintextType {
    /// UTF-8.
    Text = 1,
    /// The bytes.
    Bytea = 2,
    /// JSON text in UTF-8.
    Json = 3,
    /// 8 bytes, big-endian, two's complement.
    Bigint = 4,
    /// ASCII: the digits, as PostgreSQL prints a numeric.
    Numeric = 5,
    /// 4 bytes, big-endian, two's complement: days since 2000-01-01.
    Date = 6,
    /// 8 bytes, big-endian, two's complement: microseconds since 2000-01-01 00:00 UTC.
    Timestamptz = 7,
    /// One byte, 0 or 1.
    Boolean = 8,
    /// 16 bytes.
    Uuid = 9,
}

impl PlaintextType {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Bytea,
        Self::Json,
        Self::Bigint,
        Self::Numeric,
        Self::Date,
        Self::Timestamptz,
        Self::Boolean,
        Self::Uuid,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number.wrapping_sub(1))).copied()
    }

    /// The name of PostgreSQL's type of such values.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Json => "jsonb",
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Boolean => "boolean",
            Self::Uuid => "uuid",
        }
    }

    /// How many bytes every value has, if that is the same for all.
    pub const fn length(self) -> Option<usize> {
        match self {
            Self::Boolean => Some(1),
            Self::Date => Some(4),
            Self::Bigint | Self::Timestamptz => Some(8),
            Self::Uuid => Some(16),
            Self::Text | Self::Bytea | Self::Json | Self::Numeric => None,
        }
    }
}

/// The flags of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// The plaintext is padded (ISO/IEC 7816-4).
    pub const PADDED: Self = Self(0x01);
    /// The value is in transit: not stored data, no tokens.
    pub const TRANSIT: Self = Self(0x04);
    /// Only the tokens are kept; the plaintext is empty.
    pub const TOKEN_ONLY: Self = Self(0x08);

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn from_number(number: u8) -> Option<Self> {
        let known = Self::PADDED.0 | Self::TRANSIT.0 | Self::TOKEN_ONLY.0;
        // what is not kept is neither padded nor in transit
        let only = number & Self::TOKEN_ONLY.0 != 0;
        let alone = !only || number == Self::TOKEN_ONLY.0;
        if number & !known == 0 && alone { Some(Self(number)) } else { None }
    }
}

/// What a header says before its token sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How it is encrypted.
    pub suite: Suite,
    /// What is encrypted.
    pub plaintext_type: PlaintextType,
    /// See [`Flags`].
    pub flags: Flags,
    /// The key under which it is encrypted.
    pub key_id: KeyId,
    /// The field it belongs to.
    pub field_id: FieldId,
}

impl Header {
    /// Writes the header with `tokens` behind it; returns its length in bytes. `None` if `out` is
    /// too short or the tokens too long.
    pub fn write(&self, tokens: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = FIXED_HEADER_LENGTH + tokens.len();
        if length > MAXIMUM_HEADER_LENGTH {
            return None;
        }
        let out = out.get_mut(..length)?;
        out[0] = MAGIC;
        out[1] = FORMAT;
        out[2] = self.suite.number();
        out[3] = self.plaintext_type as u8;
        out[4] = self.flags.0;
        out[5..13].copy_from_slice(&self.key_id.number().to_be_bytes());
        out[13..21].copy_from_slice(&self.field_id.0.to_be_bytes());
        out[21..23].copy_from_slice(&u16::try_from(tokens.len()).ok()?.to_be_bytes());
        out[23..].copy_from_slice(tokens);
        Some(length)
    }

    /// Reads the fixed part of a header; the rest need not be there.
    ///
    /// # Errors
    /// [`FormatError`] naming the first thing that is wrong.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let fixed: &[u8; FIXED_HEADER_LENGTH] =
            bytes.first_chunk().ok_or(if bytes.first().is_none_or(|&b| b == MAGIC) {
                FormatError::Length
            } else {
                FormatError::Magic
            })?;
        if fixed[0] != MAGIC {
            return Err(FormatError::Magic);
        }
        if fixed[1] != FORMAT {
            return Err(FormatError::Format);
        }
        let header = Self {
            suite: Suite::from_number(fixed[2]).ok_or(FormatError::Suite)?,
            plaintext_type: PlaintextType::from_number(fixed[3])
                .ok_or(FormatError::PlaintextType)?,
            flags: Flags::from_number(fixed[4]).ok_or(FormatError::Flags)?,
            key_id: KeyId::new(number(fixed, 5)).ok_or(FormatError::KeyId)?,
            field_id: FieldId(number(fixed, 13)),
        };
        let tokens = usize::from(u16::from_be_bytes([fixed[21], fixed[22]]));
        let transit = header.flags.contains(Flags::TRANSIT);
        if header.field_id.is_none() && !transit || transit && tokens > 0 {
            return Err(FormatError::FieldId);
        }
        Ok((header, FIXED_HEADER_LENGTH + tokens))
    }
}

/// The number at a place of the fixed header: 8 bytes, big-endian.
fn number(fixed: &[u8; FIXED_HEADER_LENGTH], start: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| fixed[start + i]))
}

/// A well-formed envelope, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    bytes: &'a [u8],
    header: Header,
    header_length: usize,
}

impl<'a> Envelope<'a> {
    /// Takes `bytes` for an envelope if it is well formed to the last byte.
    ///
    /// # Errors
    /// [`FormatError`] naming the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (header, header_length) = Header::read(bytes)?;
        if bytes.len() > MAXIMUM_LENGTH || header_length > MAXIMUM_HEADER_LENGTH {
            return Err(FormatError::Length);
        }
        let tokens = bytes.get(FIXED_HEADER_LENGTH..header_length).ok_or(FormatError::Length)?;
        token::check_sections(tokens)?;
        let overhead = header.suite.nonce_length() + header.suite.tag_length();
        let ciphertext =
            bytes.len().checked_sub(header_length + overhead).ok_or(FormatError::Length)?;
        if !header.suite.is_ciphertext_length(ciphertext) {
            return Err(FormatError::Length);
        }
        Ok(Self { bytes, header, header_length })
    }

    /// Whether it is these bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes
    }

    /// What the header says.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the value is in transit: not stored data.
    pub const fn in_transit(&self) -> bool {
        self.header.flags.contains(Flags::TRANSIT)
    }

    /// Whether the value itself is not kept, only its tokens.
    pub const fn is_token_only(&self) -> bool {
        self.header.flags.contains(Flags::TOKEN_ONLY)
    }

    /// The whole header, as it is authenticated.
    pub fn header_bytes(&self) -> &'a [u8] {
        &self.bytes[..self.header_length]
    }

    /// The token sections.
    pub fn token_sections(&self) -> &'a [u8] {
        &self.bytes[FIXED_HEADER_LENGTH..self.header_length]
    }

    /// The equality token that `=` looks at, if there is one.
    pub fn equality_token(&self) -> Option<IndexToken> {
        token::equality_token(self.token_sections())
    }

    /// Every token, in the order of the sections.
    pub fn tokens(&self) -> impl Iterator<Item = token::StoredToken<'a>> {
        token::tokens(self.token_sections())
    }

    /// The nonce.
    pub fn nonce(&self) -> &'a [u8] {
        let end = self.header_length + self.header.suite.nonce_length();
        &self.bytes[self.header_length..end]
    }

    /// The ciphertext.
    pub fn ciphertext(&self) -> &'a [u8] {
        let start = self.header_length + self.header.suite.nonce_length();
        &self.bytes[start..self.bytes.len() - self.header.suite.tag_length()]
    }

    /// The tag.
    pub fn tag(&self) -> &'a [u8] {
        &self.bytes[self.bytes.len() - self.header.suite.tag_length()..]
    }
}

/// Whether a text reads as an envelope of any format: `^fc[1-9][0-9]*:`. Such texts are reserved.
pub fn is_reserved_text(text: &[u8]) -> bool {
    let Some([first, rest @ ..]) = text.strip_prefix(b"fc") else { return false };
    if !(b'1'..=b'9').contains(first) {
        return false;
    }
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    rest.get(digits) == Some(&b':')
}

/// The text form of an envelope's bytes.
pub fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(TEXT_PREFIX.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(TEXT_PREFIX);
    URL_SAFE_NO_PAD.encode_append(bytes, &mut text);
    text
}

/// The bytes of an envelope's text form; they still have to be parsed.
///
/// # Errors
/// [`FormatError::NotAnEnvelope`] without the prefix, [`FormatError::Length`] if too long,
/// [`FormatError::Base64`] otherwise.
pub fn from_text(text: &[u8]) -> Result<Vec<u8>, FormatError> {
    let encoded = text.strip_prefix(TEXT_PREFIX.as_bytes()).ok_or(FormatError::NotAnEnvelope)?;
    if encoded.len() / 4 * 3 > MAXIMUM_LENGTH {
        return Err(FormatError::Length);
    }
    URL_SAFE_NO_PAD.decode_to_vec(encoded).map_err(|_| FormatError::Base64)
}
