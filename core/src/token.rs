//! Search tokens: how they are made, and the sections that hold them in an envelope
//! (`docs/envelope.md` section 6).

use std::fmt;

use crate::error::FormatError;
use crate::field::FieldId;
use crate::framing::{HmacSha256, Label};
use crate::key::{KeyId, SecretKey, token_key};
use crate::normalize::Normalizer;

/// Length of an equality token, in bytes. Always 16, so that a field can become unique later.
pub const EQUALITY_TOKEN_LENGTH: usize = 16;
/// Length of the section that [`equality_section`] makes, in bytes.
pub const EQUALITY_SECTION_LENGTH: usize = 2 + SECTION_HEAD + GROUP_HEAD + EQUALITY_TOKEN_LENGTH;

/// Index key id, normalizer and its version.
const SECTION_HEAD: usize = 10;
/// Kind, scope, width and count.
const GROUP_HEAD: usize = 5;
/// The kind "exact".
const EXACT: u8 = 1;
/// Longest token, in bytes: a whole HMAC-SHA-256.
const LONGEST_TOKEN: u8 = 32;
/// The last kind that is reserved: range.
const LAST_KIND: u8 = 6;

/// Across which values a token is comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// The values of one account.
    Account = 0,
    /// The values of all accounts of the database.
    Database = 1,
}

/// An equality token with the key that made it. Tokens of different keys cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexToken {
    /// The index key.
    pub key_id: KeyId,
    /// HMAC-SHA-256, truncated.
    pub token: [u8; EQUALITY_TOKEN_LENGTH],
}

/// A field's key for tokens, set up. Wiped when dropped.
pub struct TokenKey {
    key_id: KeyId,
    mac: HmacSha256,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// The token key of `field` under the index key of `account`.
    pub fn derive(index_key: &SecretKey, key_id: KeyId, field: FieldId, account: &str) -> Self {
        let output = token_key(index_key, field, account);
        Self { key_id, mac: HmacSha256::new(&output[..32]) }
    }

    /// The index key's id.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The equality token of a normalised value.
    pub fn equality(&self, scope: Scope, normalised: &[u8]) -> IndexToken {
        let full = self.mac.tag(Label::Token, &[&[EXACT], &[scope as u8], normalised]);
        IndexToken { key_id: self.key_id, token: std::array::from_fn(|i| full[i]) }
    }
}

/// The token section that holds one equality token.
pub fn equality_section(
    token: &IndexToken,
    normalizer: Normalizer,
    scope: Scope,
) -> [u8; EQUALITY_SECTION_LENGTH] {
    let mut section = [0; EQUALITY_SECTION_LENGTH];
    section[1] = (EQUALITY_SECTION_LENGTH - 2) as u8;
    section[2..10].copy_from_slice(&token.key_id.number().to_be_bytes());
    section[10] = normalizer.number();
    section[11] = normalizer.version();
    section[12..17].copy_from_slice(&[EXACT, scope as u8, EQUALITY_TOKEN_LENGTH as u8, 0, 1]);
    section[17..].copy_from_slice(&token.token);
    section
}

/// The equality token of the first section, if it has one.
pub fn equality_token(sections: &[u8]) -> Option<IndexToken> {
    let (length, rest) = sections.split_first_chunk::<2>()?;
    let section = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    let (key_id, rest) = section.split_first_chunk::<8>()?;
    let key_id = KeyId::new(u64::from_be_bytes(*key_id))?;
    let mut groups = rest.get(2..)?;
    while let Some((&[kind, _, width, high, low], rest)) = groups.split_first_chunk::<GROUP_HEAD>()
    {
        if kind == EXACT {
            return Some(IndexToken { key_id, token: *rest.first_chunk()? });
        }
        let count = usize::from(u16::from_be_bytes([high, low]));
        groups = rest.get(count * usize::from(width)..)?;
    }
    None
}

/// Checks that token sections follow section 6 to the last byte.
pub(crate) fn check_sections(mut sections: &[u8]) -> Result<(), FormatError> {
    while !sections.is_empty() {
        let (length, rest) = sections.split_first_chunk::<2>().ok_or(FormatError::Tokens)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let section = rest.get(..length).ok_or(FormatError::Tokens)?;
        check_section(section).ok_or(FormatError::Tokens)?;
        sections = &rest[length..];
    }
    Ok(())
}

fn check_section(section: &[u8]) -> Option<()> {
    let (key_id, rest) = section.split_first_chunk::<8>()?;
    KeyId::new(u64::from_be_bytes(*key_id))?;
    let (&[normalizer, version], mut groups) = rest.split_first_chunk::<2>()?;
    Normalizer::from_number(normalizer)?;
    // a later version's tokens are none of ours, but the value can be opened
    if version == 0 {
        return None;
    }
    let mut previous = None;
    while !groups.is_empty() {
        let (&[kind, scope, width, high, low], rest) = groups.split_first_chunk::<GROUP_HEAD>()?;
        let count = usize::from(u16::from_be_bytes([high, low]));
        let known = (EXACT..=LAST_KIND).contains(&kind) && scope <= Scope::Database as u8;
        let exact = kind != EXACT || (usize::from(width) == EQUALITY_TOKEN_LENGTH && count == 1);
        let fits = (1..=LONGEST_TOKEN).contains(&width) && count > 0;
        if !known || !exact || !fits || previous >= Some((kind, scope)) {
            return None;
        }
        previous = Some((kind, scope));
        groups = rest.get(count * usize::from(width)..)?;
    }
    Some(())
}
