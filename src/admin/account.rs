//! Accounts and their keys.

use fieldcrypt_core::field::{DATABASE_ACCOUNT, check_account};
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap::{self, KeyName};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::account::{self, AccountState};
use crate::catalog::{key, write};
use crate::error::{Error, Result};
use crate::keyring::{current_root, require_roots, with_root, without_traces};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `create_account(account text)`: the account with its wrapping key, data key and index key.
#[pg_extern(sql = false)]
fn create_account(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "create_account")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    if account::state(&account)?.is_some() {
        return Err(Error::AccountExists(account.into_owned()).into());
    }
    // a wrong root key stops here, before anything is written
    let (root, check_value) = current_root()?;
    let detail = Some(format!("root key {root}"));
    change::begins("create_account", About { account: Some(&account), detail, field: None })?;
    if key::root_check_value(&root)?.is_none() {
        // a root that this database does not know yet joins those that it uses, and replaces none
        require_roots(&key::root_names()?)?;
        write::run(
            "INSERT INTO fieldcrypt.root_key (name, check_value) VALUES ($1, $2) \
             ON CONFLICT (name) DO NOTHING",
            &[root.as_str().into(), check_value.as_slice().into()],
        )?;
        // of two sessions that do this at once with different keys, one is stopped here
        current_root()?;
    }
    if account::state(DATABASE_ACCOUNT)?.is_none() {
        make(DATABASE_ACCOUNT, &root, &[Purpose::Transit, Purpose::Index, Purpose::Audit])?;
    }
    if make(&account, &root, &[Purpose::Data, Purpose::Index])? {
        Ok(Answer::datum(pg_sys::Datum::null()))
    } else {
        Err(Error::AccountExists(account.into_owned()).into())
    }
}

/// Makes an account and its keys; false if another session has just made it.
fn make(account: &str, root: &str, purposes: &[Purpose]) -> Result<bool> {
    let inserted = write::run(
        "INSERT INTO fieldcrypt.account (account, state) VALUES ($1, 'active') \
         ON CONFLICT (account) DO NOTHING RETURNING 1",
        &[account.into()],
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    without_traces(|| {
        let wrapping_key = SecretKey::generate()?;
        with_root(root, |root_key| {
            store(account, Purpose::Wrapping, 1, &wrapping_key, root_key, Some(root))
        })?;
        for &purpose in purposes {
            store(account, purpose, 1, &SecretKey::generate()?, &wrapping_key, None)?;
        }
        Ok(true)
    })
}

/// Stores a key, wrapped.
fn store(
    account: &str,
    purpose: Purpose,
    version: u32,
    key: &SecretKey,
    wrapping_key: &SecretKey,
    root: Option<&str>,
) -> Result<()> {
    let name = KeyName { account, purpose, version, id: KeyId::generate(purpose, account)? };
    let wrapped = wrap::wrap(wrapping_key, &name, key)?;
    write::run(
        "INSERT INTO fieldcrypt.account_key \
         (key_id, account, purpose, version, state, wrapped, wrapped_by, check_value) \
         VALUES ($1, $2, $3, $4, 'active', $5, $6, $7)",
        &[
            name.id.number().cast_signed().into(),
            account.into(),
            purpose.name().into(),
            version.cast_signed().into(),
            wrapped.as_slice().into(),
            root.into(),
            wrap::check_value(key, &name).as_slice().into(),
        ],
    )?;
    Ok(())
}

#[cfg(any(test, feature = "pg_test"))]
/// Adds a version of a key.
pub fn add_key(account: &str, purpose: Purpose, version: u32) -> Result<()> {
    let wrapping_key = crate::keyring::wrapping_key(account)?;
    store(account, purpose, version, &SecretKey::generate()?, &wrapping_key, None)
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
    let changed = write::run(
        "UPDATE fieldcrypt.account SET state = $2, changed_at = pg_catalog.now(), \
         changed_by = session_user WHERE account OPERATOR(pg_catalog.=) $1 RETURNING 1",
        &[account.as_ref().into(), state.name().into()],
    )?;
    if changed == 0 {
        return Err(Error::AccountMissing(account.into_owned()).into());
    }
    Ok(Answer::datum(pg_sys::Datum::null()))
}
