//! Accounts.

use super::scan::{self, Equals};
use super::tables::Tables;
use crate::error::{Error, Result};

/// Whether an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    Active,
    Disabled,
    /// For good: its keys are gone, and its name is not given again.
    Destroyed,
}

impl AccountState {
    const ALL: [Self; 3] = [Self::Active, Self::Disabled, Self::Destroyed];

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }
}

/// The state of an account; `None` if it does not exist.
pub fn state(account: &str) -> Result<Option<AccountState>> {
    scan::row(Tables::get()?.account, &[Equals::Text(1, account)], |row| {
        let state = row.required_text(2)?;
        let known = AccountState::ALL.into_iter().find(|known| known.name() == state);
        known.ok_or(Error::Catalog("state of an account"))
    })
}

/// The state of an account; fails unless it exists and is not destroyed.
pub fn require(account: &str) -> Result<AccountState> {
    match state(account)? {
        Some(AccountState::Destroyed) => Err(Error::AccountDestroyed(account.to_owned())),
        Some(state) => Ok(state),
        None => Err(Error::AccountMissing(account.to_owned())),
    }
}

/// Fails unless the account exists and is active.
pub fn require_active(account: &str) -> Result<()> {
    match require(account)? {
        AccountState::Active => Ok(()),
        state => Err(Error::AccountClosed(account.to_owned(), state.name())),
    }
}
