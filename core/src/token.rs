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
/// Length of the section that [`IndexToken::write_section`] makes, in bytes.
pub const EQUALITY_SECTION_LENGTH: usize = 2 + SECTION_HEAD + GROUP_HEAD + EQUALITY_TOKEN_LENGTH;

/// Index key id, normalizer and its version.
const SECTION_HEAD: usize = 10;
/// Kind, scope, width and count.
const GROUP_HEAD: usize = 5;
/// Longest token, in bytes: a whole HMAC-SHA-256.
const LONGEST_TOKEN: u8 = 32;
/// Length of the tokens of a set, in bytes.
pub const MEMBER_TOKEN_LENGTH: usize = 8;

/// What a token says. The kinds 3 to 6 are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The value equals another, or what is looked for.
    Exact = 1,
    /// The value equals another: for constraints, not for look-ups.
    Unique = 2,
    /// A member of the value, such as one key's value in a JSON object, equals what is looked for:
    /// the start of that member's own exact token.
    Member = 7,
}

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

    /// The equality token of a normalised value, exact or unique.
    pub fn equality(&self, kind: Kind, scope: Scope, normalised: &[u8]) -> IndexToken {
        let full = self.mac.tag(Label::Token, &[&[kind as u8], &[scope as u8], normalised]);
        IndexToken { key_id: self.key_id, token: std::array::from_fn(|i| full[i]) }
    }
}

impl IndexToken {
    /// Writes the token section that holds it alone.
    pub fn write_section(
        &self,
        kind: Kind,
        normalizer: Normalizer,
        scope: Scope,
        section: &mut [u8; EQUALITY_SECTION_LENGTH],
    ) {
        section[..2].copy_from_slice(&[0, (EQUALITY_SECTION_LENGTH - 2) as u8]);
        section[2..10].copy_from_slice(&self.key_id.number().to_be_bytes());
        section[10] = normalizer.number();
        section[11] = normalizer.version();
        section[12..17].copy_from_slice(&[
            kind as u8,
            scope as u8,
            EQUALITY_TOKEN_LENGTH as u8,
            0,
            1,
        ]);
        section[17..].copy_from_slice(&self.token);
    }
}

/// The token section that holds one equality token.
pub fn equality_section(
    token: &IndexToken,
    kind: Kind,
    normalizer: Normalizer,
    scope: Scope,
) -> [u8; EQUALITY_SECTION_LENGTH] {
    let mut section = [0; EQUALITY_SECTION_LENGTH];
    token.write_section(kind, normalizer, scope, &mut section);
    section
}

/// The token section that holds the exact tokens of members of a value, all made by one index key
/// under one normalizer. `None` if they are more than a section can hold.
pub fn member_section(
    key_id: KeyId,
    normalizer: Normalizer,
    scope: Scope,
    tokens: &[[u8; MEMBER_TOKEN_LENGTH]],
) -> Option<Vec<u8>> {
    let length = SECTION_HEAD + GROUP_HEAD + MEMBER_TOKEN_LENGTH * tokens.len();
    let mut section = Vec::with_capacity(2 + length);
    section.extend(u16::try_from(length).ok()?.to_be_bytes());
    section.extend(key_id.number().to_be_bytes());
    section.extend([normalizer.number(), normalizer.version()]);
    section.extend([Kind::Member as u8, scope as u8, MEMBER_TOKEN_LENGTH as u8]);
    section.extend(u16::try_from(tokens.len()).ok()?.to_be_bytes());
    section.extend(tokens.as_flattened());
    Some(section)
}

/// A token as it stands in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredToken<'a> {
    /// The index key.
    pub key_id: KeyId,
    /// The number of the normalizer.
    pub normalizer: u8,
    /// Its number in the envelope: see [`Kind`].
    pub kind: u8,
    /// Its number in the envelope: see [`Scope`].
    pub scope: u8,
    /// The token.
    pub bytes: &'a [u8],
}

impl StoredToken<'_> {
    /// Whether it is of that kind and scope.
    pub const fn is(&self, kind: Kind, scope: Scope) -> bool {
        self.kind == kind as u8 && self.scope == scope as u8
    }
}

/// Every token of well-formed sections, in their order.
pub fn tokens(sections: &[u8]) -> impl Iterator<Item = StoredToken<'_>> {
    split_sections(sections).flat_map(|section| {
        let key_id = section.first_chunk().and_then(|id| KeyId::new(u64::from_be_bytes(*id)));
        let normalizer = section.get(8).copied().unwrap_or_default();
        let groups = section.get(SECTION_HEAD..).unwrap_or_default();
        key_id.into_iter().flat_map(move |key_id| {
            split_groups(groups).flat_map(move |(kind, scope, width, tokens)| {
                tokens.chunks_exact(width).map(move |bytes| StoredToken {
                    key_id,
                    normalizer,
                    kind,
                    scope,
                    bytes,
                })
            })
        })
    })
}

fn split_sections(mut sections: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = sections.split_first_chunk::<2>()?;
        let (section, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        sections = rest;
        Some(section)
    })
}

fn split_groups(mut groups: &[u8]) -> impl Iterator<Item = (u8, u8, usize, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, scope, width, high, low], rest) = groups.split_first_chunk::<GROUP_HEAD>()?;
        let width = usize::from(width).max(1);
        let count = usize::from(u16::from_be_bytes([high, low]));
        let (tokens, rest) = rest.split_at_checked(count * width)?;
        groups = rest;
        Some((kind, scope, width, tokens))
    })
}

/// The equality token of the first section, exact or unique, if it has one.
pub fn equality_token(sections: &[u8]) -> Option<IndexToken> {
    let section = split_sections(sections).next()?;
    let (key_id, rest) = section.split_first_chunk::<8>()?;
    let key_id = KeyId::new(u64::from_be_bytes(*key_id))?;
    let (.., token) =
        split_groups(rest.get(2..)?).find(|&(kind, ..)| kind <= Kind::Unique as u8)?;
    Some(IndexToken { key_id, token: *token.first_chunk()? })
}

/// Whether sections hold the equality tokens that a policy asks for, made by the normalizer as it is
/// now; none, if it asks for none. Tokens of several index keys may be there.
pub fn is_of_policy(
    sections: &[u8],
    kind: Option<Kind>,
    normalizer: Normalizer,
    scope: Scope,
) -> bool {
    let Some(kind) = kind else { return sections.is_empty() };
    let made_by = [normalizer.number(), normalizer.version()];
    let mut found = [false; 2];
    for section in split_sections(sections) {
        let mut groups = split_groups(section.get(SECTION_HEAD..).unwrap_or_default());
        match (groups.next(), groups.next()) {
            (Some((of, among, ..)), None)
                if section.get(8..SECTION_HEAD) == Some(&made_by[..]) && of == kind as u8 =>
            {
                found[usize::from(among == Scope::Database as u8)] = true;
            }
            _ => return false,
        }
    }
    found == [true, scope == Scope::Database]
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
        let kinds = Kind::Exact as u8..=Kind::Member as u8;
        let known = kinds.contains(&kind) && scope <= Scope::Database as u8;
        let exact =
            kind > Kind::Unique as u8 || usize::from(width) == EQUALITY_TOKEN_LENGTH && count == 1;
        let fits = (1..=LONGEST_TOKEN).contains(&width) && count > 0;
        if !known || !exact || !fits || previous >= Some((kind, scope)) {
            return None;
        }
        previous = Some((kind, scope));
        groups = rest.get(count * usize::from(width)..)?;
    }
    Some(())
}
