//! Accounts.

use super::scan::{self, Equals};
use super::tables::Tables;
use crate::error::{Error, Result};

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    Active,
    Disabled,
}

impl AccountState {
    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

/// The state of an account; `None` if it does not exist.
pub fn state(account: &str) -> Result<Option<AccountState>> {
    scan::row(Tables::get()?.account, &[Equals::Text(1, account)], |row| {
        match row.required_text(2)?.as_str() {
            "active" => Ok(AccountState::Active),
            "disabled" => Ok(AccountState::Disabled),
            _ => Err(Error::Catalog("state of an account")),
        }
    })
}

/// Fails unless the account exists and is active.
pub fn require_active(account: &str) -> Result<()> {
    match state(account)? {
        Some(AccountState::Active) => Ok(()),
        Some(state) => Err(Error::AccountClosed(account.to_owned(), state.name())),
        None => Err(Error::AccountMissing(account.to_owned())),
    }
}
