//! Names and ids of fields and accounts.

use crate::error::NameError;
use crate::framing::{Label, sha256};

/// The reserved account that owns what belongs to the database as a whole: the transit key and
/// database-scoped tokens.
pub const DATABASE_ACCOUNT: &str = "*database*";

/// Longest field name, in bytes.
pub const FIELD_NAME_LENGTH: usize = 63;

/// Longest account id, in bytes.
pub const ACCOUNT_LENGTH: usize = 200;

/// First 8 bytes of the hash of the field's name: the same on every node and in every dump,
/// independent of table and column names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u64);

impl FieldId {
    /// The id of a value in transit that has no field yet.
    pub const NONE: Self = Self(0);

    /// The id of the field called `name`.
    pub fn of(name: &str) -> Self {
        let hash = sha256(Label::FieldId, &[name.as_bytes()]);
        Self(u64::from_be_bytes(first(&hash)))
    }

    /// The field's handle in a type modifier: the first 31 bits, never negative.
    pub fn handle(self) -> i32 {
        i32::try_from(self.0 >> 33).unwrap_or(i32::MAX)
    }

    /// Whether this is [`FieldId::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// The first `N` bytes of a hash.
fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|i| hash[i])
}

/// 31 bits that stand for an account inside its index key ids, so that a comparison can tell
/// "another account" from "another key of this account" without a catalog.
pub fn account_tag(account: &str) -> u32 {
    let hash = sha256(Label::AccountTag, &[account.as_bytes()]);
    u32::from_be_bytes(first(&hash)) >> 1
}

/// Checks a field's name.
///
/// # Errors
/// [`NameError::Field`] unless it matches `[a-z][a-z0-9_]*(\.[a-z0-9_]+)*` and has at most 63
/// bytes.
pub fn check_field_name(name: &str) -> Result<(), NameError> {
    let word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let starts_with_letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if starts_with_letter && name.len() <= FIELD_NAME_LENGTH && name.split('.').all(word) {
        Ok(())
    } else {
        Err(NameError::Field)
    }
}

/// Checks the id of an account that a user may create.
///
/// # Errors
/// [`NameError::Account`] unless it has 1 to 200 bytes, no control character, no white space at
/// its ends, and does not begin with `*` (reserved).
pub fn check_account(account: &str) -> Result<(), NameError> {
    let fits = !account.is_empty() && account.len() <= ACCOUNT_LENGTH;
    let clean = account.trim() == account && !account.chars().any(char::is_control);
    if fits && clean && !account.starts_with('*') { Ok(()) } else { Err(NameError::Account) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_follow_the_rule() {
        for name in ["a", "lead.ssn", "a_1.2.b", &"x".repeat(63)] {
            assert_eq!(check_field_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "1a", "_a", "A", "a.", ".a", "a..b", "a-b", "é", &"x".repeat(64)] {
            assert_eq!(check_field_name(name), Err(NameError::Field), "{name}");
        }
    }

    #[test]
    fn account_ids_follow_the_rule() {
        for account in ["acme", "Ünï 1", "a:b", &"x".repeat(200)] {
            assert_eq!(check_account(account), Ok(()), "{account}");
        }
        for account in ["", "*", "*row*", DATABASE_ACCOUNT, " a", "a\n", &"x".repeat(201)] {
            assert_eq!(check_account(account), Err(NameError::Account), "{account:?}");
        }
    }

    #[test]
    fn handles_are_the_first_31_bits() {
        let id = FieldId::of("lead.ssn");
        assert_eq!(id.handle() as u64, id.0 >> 33);
        assert!(FieldId(u64::MAX).handle() >= 0);
    }
}
