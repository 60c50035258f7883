//! Accounts and their keys.

use fieldcrypt_core::field::{DATABASE_ACCOUNT, check_account};
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap::{self, KeyName};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::root;
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::account::{self, AccountState};
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::{Root, current_root, without_traces};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `create_account(account text)`: the account with its wrapping key, data key and index key.
#[pg_extern(sql = false)]
fn create_account(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "create_account")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    require_new(&account)?;
    // a wrong root key stops here, before anything is written
    let root = current_root()?;
    let detail = Some(format!("root key {}", root.name));
    change::begins("create_account", About { account: Some(&account), detail, field: None })?;
    let root = root::for_new_accounts(root)?;
    make_database_account(&root)?;
    if make(&account, &root, &[Purpose::Data, Purpose::Index])? {
        Ok(Answer::datum(pg_sys::Datum::null()))
    } else {
        Err(Error::AccountExists(account.into_owned()).into())
    }
}

/// Fails if there is an account of that name, or was.
pub(super) fn require_new(account: &str) -> Result<()> {
    match account::state(account)? {
        None => Ok(()),
        Some(AccountState::Destroyed) => Err(Error::AccountDestroyed(account.to_owned())),
        Some(_) => Err(Error::AccountExists(account.to_owned())),
    }
}

/// Makes what belongs to no account, if it is not there yet.
pub(super) fn prepare_database() -> Result<()> {
    make_database_account(&root::for_new_accounts(current_root()?)?)
}

fn make_database_account(root: &Root) -> Result<()> {
    if account::state(DATABASE_ACCOUNT)?.is_none() {
        make(DATABASE_ACCOUNT, root, &[Purpose::Transit, Purpose::Index, Purpose::Audit])?;
    }
    Ok(())
}

/// Makes an account without keys; false if another session has just made it.
pub(super) fn add(account: &str) -> Result<bool> {
    let inserted = write::run(
        "INSERT INTO fieldcrypt.account (account, state) VALUES ($1, 'active') \
         ON CONFLICT (account) DO NOTHING RETURNING 1",
        &[account.into()],
    )?;
    Ok(inserted > 0)
}

/// Makes an account and its keys; false if another session has just made it.
fn make(account: &str, root: &Root, purposes: &[Purpose]) -> Result<bool> {
    if !add(account)? {
        return Ok(false);
    }
    without_traces(|| {
        let wrapping_key = SecretKey::generate()?;
        let name = new_name(account, Purpose::Wrapping, 1)?;
        store(&name, &wrapping_key, &root.wrap(&name, &wrapping_key)?, Some(&root.name))?;
        for &purpose in purposes {
            let (name, key) = (new_name(account, purpose, 1)?, SecretKey::generate()?);
            store(&name, &key, &wrap::wrap(&wrapping_key, &name, &key)?, None)?;
        }
        Ok(true)
    })
}

/// The name of a new key.
pub(super) fn new_name(account: &str, purpose: Purpose, version: u32) -> Result<KeyName<'_>> {
    Ok(KeyName { account, purpose, version, id: KeyId::generate(purpose, account)? })
}

/// Stores a key as it is wrapped, with its check value.
pub(super) fn store(
    name: &KeyName<'_>,
    key: &SecretKey,
    wrapped: &[u8],
    root: Option<&str>,
) -> Result<()> {
    write::run(
        "INSERT INTO fieldcrypt.account_key \
         (key_id, account, purpose, version, state, wrapped, wrapped_by, check_value) \
         VALUES ($1, $2, $3, $4, 'active', $5, $6, $7)",
        &[
            name.id.number().cast_signed().into(),
            name.account.into(),
            name.purpose.name().into(),
            name.version.cast_signed().into(),
            wrapped.into(),
            root.into(),
            wrap::check_value(key, name).as_slice().into(),
        ],
    )?;
    Ok(())
}

#[cfg(any(test, feature = "pg_test"))]
/// Adds a version of a key.
pub fn add_key(account: &str, purpose: Purpose, version: u32) -> Result<()> {
    let (wrapping_key, _) = crate::keyring::wrapping_key(account)?;
    let (name, key) = (new_name(account, purpose, version)?, SecretKey::generate()?);
    store(&name, &key, &wrap::wrap(&wrapping_key, &name, &key)?, None)
}

/// `disable_account(account text)`: nothing of it can be read, written or searched until enabled.
#[pg_extern(sql = false)]
fn disable_account(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    set_state(&Call::new(fcinfo), AccountState::Disabled, "disable_account")
}

/// `enable_account(account text)`
#[pg_extern(sql = false)]
fn enable_account(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    set_state(&Call::new(fcinfo), AccountState::Active, "enable_account")
}

fn set_state(call: &Call, state: AccountState, action: &str) -> Answered {
    require_role(KEY_ADMIN, action)?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    change::begins(action, About { account: Some(&account), ..About::default() })?;
    hold(&account)?;
    write::run(
        "UPDATE fieldcrypt.account SET state = $2, changed_at = pg_catalog.now(), \
         changed_by = session_user WHERE account OPERATOR(pg_catalog.=) $1",
        &[account.as_ref().into(), state.name().into()],
    )?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// Waits for whoever else changes the account or its keys; fails if it is missing or destroyed.
pub(super) fn hold(account: &str) -> Result<()> {
    write::run(
        "SELECT 1 FROM fieldcrypt.account AS a WHERE a.account OPERATOR(pg_catalog.=) $1 \
         FOR NO KEY UPDATE",
        &[account.into()],
    )?;
    account::require(account)?;
    Ok(())
}
