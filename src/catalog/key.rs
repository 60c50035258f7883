//! The rows of wrapped keys.

use fieldcrypt_core::key::{KeyId, Purpose};
use fieldcrypt_core::wrap::KeyName;

use super::account;
use super::scan::{self, Equals, Row};
use super::tables::Tables;
use crate::error::{Error, Result};

/// The states of a key (NIST SP 800-57 part 1 section 7, in our words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    PreActive,
    Active,
    DecryptOnly,
    Disabled,
    Destroyed,
}

impl KeyState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::PreActive, Self::Active, Self::DecryptOnly, Self::Disabled, Self::Destroyed];

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether new values may be sealed, or tokens made.
    pub const fn may_encrypt(self) -> bool {
        matches!(self, Self::Active)
    }

    /// Whether values may be opened.
    pub const fn may_decrypt(self) -> bool {
        matches!(self, Self::Active | Self::DecryptOnly)
    }
}

/// A wrapped key, as it is stored.
#[derive(Clone, Debug)]
pub struct StoredKey {
    pub id: KeyId,
    pub account: String,
    pub purpose: Purpose,
    pub version: u32,
    pub state: KeyState,
    /// Empty of a key that is destroyed.
    pub wrapped: Vec<u8>,
    /// The root that wrapped it, of a wrapping key; others are wrapped by the account's.
    pub wrapped_by: Option<String>,
    pub check_value: Vec<u8>,
}

impl StoredKey {
    /// What is authenticated with the key.
    pub fn name(&self) -> KeyName<'_> {
        KeyName {
            account: &self.account,
            purpose: self.purpose,
            version: self.version,
            id: self.id,
        }
    }

    /// Whether it is not destroyed.
    pub fn is_in_use(&self) -> bool {
        self.state != KeyState::Destroyed
    }

    /// The key of that id, if there is one.
    pub fn find(id: KeyId) -> Result<Option<Self>> {
        let matching = [Equals::Bigint(1, id.number().cast_signed())];
        scan::row(Tables::get()?.account_key, &matching, Self::read)
    }

    /// Every key of an account.
    pub fn of_account(account: &str) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        scan::rows(Tables::get()?.account_key_by_account, &[Equals::Text(2, account)], |row| {
            keys.push(Self::read(row)?);
            Ok(())
        })?;
        Ok(keys)
    }

    /// The newest key of an account and purpose that may be used to encrypt.
    pub fn newest(account: &str, purpose: Purpose) -> Result<Option<Self>> {
        let matching = [Equals::Text(2, account), Equals::Text(3, purpose.name())];
        let mut newest: Option<Self> = None;
        scan::rows(Tables::get()?.account_key_by_account, &matching, |row| {
            let key = Self::read(row)?;
            let newer = newest.as_ref().is_none_or(|newest| newest.version < key.version);
            if key.state.may_encrypt() && newer {
                newest = Some(key);
            }
            Ok(())
        })?;
        Ok(newest)
    }

    /// Whether an account has other index keys than its first, as the statement sees it that is
    /// running.
    pub fn has_later_index_keys(account: &str) -> Result<bool> {
        let mut any = false;
        scan::rows_seen(Tables::get()?.later_index_key, &[Equals::Text(2, account)], |_| {
            any = true;
            Ok(())
        })?;
        Ok(any)
    }

    /// The index keys of an account as the statement sees them that is running.
    pub fn index_keys_seen(account: &str) -> Result<Vec<Self>> {
        let matching = [Equals::Text(2, account), Equals::Text(3, Purpose::Index.name())];
        let mut keys = Vec::new();
        scan::rows_seen(Tables::get()?.account_key_by_account, &matching, |row| {
            keys.push(Self::read(row)?);
            Ok(())
        })?;
        Ok(keys)
    }

    /// The index keys that are not the first of their account.
    pub fn each_later_index_key(mut visit: impl FnMut(Self) -> Result<()>) -> Result<()> {
        scan::rows(Tables::get()?.later_index_key, &[], |row| visit(Self::read(row)?))
    }

    /// The greatest version of the keys of an account and purpose; 0 if there is none.
    pub fn latest_version(account: &str, purpose: Purpose) -> Result<u32> {
        let matching = [Equals::Text(2, account), Equals::Text(3, purpose.name())];
        let mut latest = 0;
        scan::rows(Tables::get()?.account_key_by_account, &matching, |row| {
            latest = latest.max(Self::read(row)?.version);
            Ok(())
        })?;
        Ok(latest)
    }

    /// The wrapping key of an account.
    pub fn wrapping(account: &str) -> Result<Self> {
        account::require(account)?;
        Self::newest(account, Purpose::Wrapping)?
            .ok_or_else(|| Error::NoActiveKey(Purpose::Wrapping.name(), account.to_owned()))
    }

    /// Reads every wrapping key, until `visit` fails.
    pub fn each_wrapping(mut visit: impl FnMut(Self) -> Result<()>) -> Result<()> {
        // in the order in which accounts were made, more or less, the table is read faster
        scan::rows(Tables::get()?.account_key_by_account, &[], |row| {
            // only they have a root key, and most keys are others
            if row.is_null(7) { Ok(()) } else { visit(Self::read(row)?) }
        })
    }

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: KeyId::new(row.bigint(1)?.cast_unsigned()).ok_or(Error::Catalog("key id"))?,
            account: row.required_text(2)?,
            purpose: Purpose::from_name(&row.required_text(3)?).ok_or(Error::Catalog("purpose"))?,
            version: u32::try_from(row.int(4)?).map_err(|_| Error::Catalog("key version"))?,
            state: KeyState::from_name(&row.required_text(5)?)
                .ok_or(Error::Catalog("state of a key"))?,
            wrapped: row.optional_bytes(6).unwrap_or_default(),
            wrapped_by: row.text(7)?,
            check_value: row.bytes(8)?,
        })
    }
}

/// What a root key is to this database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// It is the installation's.
    Own,
    /// It is a customer's, who can withdraw it.
    Customer,
    /// It was the installation's: no account is under it any more.
    Retired,
}

impl RootState {
    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Customer => "customer",
            Self::Retired => "retired",
        }
    }
}

/// A root key that this database has used.
#[derive(Clone, Debug)]
pub struct RootRecord {
    pub name: String,
    pub check_value: Vec<u8>,
    pub state: RootState,
    /// The key that the check value is of, wrapped, where a program uses the root key.
    pub wrapped_check: Option<Vec<u8>>,
}

impl RootRecord {
    /// What is recorded of a root key; `None` if this database has not used it yet.
    pub fn find(name: &str) -> Result<Option<Self>> {
        scan::row(Tables::get()?.root_key, &[Equals::Text(1, name)], Self::read)
    }

    /// Every root key.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        scan::rows(Tables::get()?.root_key, &[], |row| {
            all.push(Self::read(row)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn read(row: &Row) -> Result<Self> {
        let state = row.required_text(5)?;
        Ok(Self {
            name: row.required_text(1)?,
            check_value: row.bytes(2)?,
            state: [RootState::Own, RootState::Customer, RootState::Retired]
                .into_iter()
                .find(|known| known.name() == state)
                .ok_or(Error::Catalog("state of a root key"))?,
            wrapped_check: row.optional_bytes(6),
        })
    }
}
