//! Hexadecimal and base64, as other software writes them.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// With padding or without, as each software has it.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// How bytes are written as text.
#[derive(Clone, Copy)]
pub enum Encoding {
    Hex,
    Base64,
    Base64Url,
}

/// Where the tag stands.
#[derive(Clone, Copy)]
pub enum Order {
    TagFirst,
    TagLast,
}

impl Encoding {
    /// The bytes; `None` if the text is not of this encoding.
    pub fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Hex => base16ct::mixed::decode_vec(text).ok(),
            Self::Base64 => BASE64.decode(text).ok(),
            Self::Base64Url => BASE64_URL.decode(text).ok(),
        }
    }
}

/// Base64 that may be broken into lines, as `encode()` of PostgreSQL does.
pub fn base64_of_lines(text: &[u8]) -> Option<Vec<u8>> {
    if text.iter().any(u8::is_ascii_whitespace) {
        let text: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        return BASE64.decode(text).ok();
    }
    BASE64.decode(text).ok()
}
