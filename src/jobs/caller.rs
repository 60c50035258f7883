//! For whom a job is run, if all that permits it is that he manages the account.
//!
//! Invariant: what such a job turns back into plain values, its caller may decrypt himself. Rows are
//! written as the owner of the table, so that the current user does not tell.

use std::cell::Cell;

use fieldcrypt_core::envelope::Header;
use pgrx::pg_sys::Oid;

use crate::access::{Privilege, refused, rights};
use crate::backend;
use crate::catalog::field::By;
use crate::catalog::fields;
use crate::error::{Error, Result};
use crate::keyring::cache;

thread_local! {
    static MANAGER: Cell<Option<Oid>> = const { Cell::new(None) };
}

/// While it lives, the current user of when it was made is the caller.
pub struct OnBehalf {
    before: Option<Oid>,
}

impl OnBehalf {
    pub fn begin() -> Self {
        Self { before: MANAGER.replace(Some(backend::user())) }
    }
}

impl Drop for OnBehalf {
    fn drop(&mut self) {
        MANAGER.set(self.before);
    }
}

/// Fails unless the manager who has a job done may decrypt a value; for others their rights over the
/// table are enough.
pub fn require_decrypt(header: &Header) -> Result<()> {
    let Some(manager) = MANAGER.get() else { return Ok(()) };
    let field = fields::require(By::Id(header.field_id))?;
    let account = cache::account_of(header.key_id)?.ok_or(Error::KeyMissing(header.key_id))?;
    if rights::of(manager, &account, &field.name)?.contains(Privilege::Decrypt) {
        return Ok(());
    }
    Err(refused(Privilege::Decrypt, field.name.clone(), account.to_string()))
}
