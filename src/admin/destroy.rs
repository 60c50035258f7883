//! The end of keys and of accounts, in two steps: what is disabled is missed by whoever still needs
//! it, and can be enabled again; what is destroyed is gone. A row stays that says so.
//!
//! Invariant: no key is destroyed that was not disabled by an earlier transaction, nor, unless the
//! caller gives its values up, one that there may be values under. For that each of them is looked
//! at, while nobody can write others.

use fieldcrypt_core::field::check_account;
use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::account::hold;
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::{Answer, Call, Rows};
use crate::catalog::account::{self, AccountState};
use crate::catalog::key::{KeyState, StoredKey};
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring;
use crate::usage::{self, Use, Writers};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `disable_account_key(account text, key_id bigint)`: what an older key has sealed can be read, or
/// found, by nobody until it is enabled.
#[pg_extern(sql = false)]
fn disable_account_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    set_state(&Call::new(fcinfo), "disable_account_key", KeyState::DecryptOnly, KeyState::Disabled)
}

/// `enable_account_key(account text, key_id bigint)`: it decrypts again.
#[pg_extern(sql = false)]
fn enable_account_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    set_state(&Call::new(fcinfo), "enable_account_key", KeyState::Disabled, KeyState::DecryptOnly)
}

fn set_state(call: &Call, action: &str, from: KeyState, to: KeyState) -> Answered {
    require_role(KEY_ADMIN, action)?;
    let (account, id) = key_argument(call)?;
    let detail = Some(format!("{} key, key {}", purpose_of(id)?.name(), id.number()));
    change::begins(action, About { account: Some(&account), detail, field: None })?;
    hold(&account)?;
    let key = data_or_index_key(&account, id)?;
    if key.state == to {
        return Ok(Answer::datum(pg_sys::Datum::null()));
    }
    if key.state != from {
        let hint = "It is of an older key: rotate_account_key() or rotate_index_key() makes another \
                    one active.";
        return Err(Error::InvalidArgument { name: "key_id", hint: hint.to_owned() }.into());
    }
    if key.purpose == Purpose::Index && to == KeyState::Disabled {
        // nobody would be told: searching would miss them
        require_unused(id, &account, &format!("key {}", id.number()))?;
    }
    write::run(
        "UPDATE fieldcrypt.account_key SET state = $2, changed_at = pg_catalog.now(), \
         changed_by = session_user WHERE key_id OPERATOR(pg_catalog.=) $1",
        &[id.number().cast_signed().into(), to.name().into()],
    )?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// `destroy_account_key(account text, key_id bigint, lose_values boolean) → SETOF usage`: what nobody
/// can read any more.
#[pg_extern(sql = false)]
fn destroy_account_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "destroy_account_key")?;
    let (account, id) = key_argument(&call)?;
    let what = format!("key {}", id.number());
    let detail = Some(format!("{} {what}", purpose_of(id)?.name()));
    change::begins("destroy_account_key", About { account: Some(&account), detail, field: None })?;
    account::require(&account)?;
    if data_or_index_key(&account, id)?.state != KeyState::Disabled {
        return Err(Error::NotDisabled(what).into());
    }
    let concerned = |found: &Use| found.concerns_key(id, &account);
    let lost = uses(&call, 2, &what, concerned)?;
    let destroyed = write::run(
        "UPDATE fieldcrypt.account_key SET state = 'destroyed', wrapped = NULL, \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE key_id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'disabled' \
             AND changed_at OPERATOR(pg_catalog.<) pg_catalog.now() RETURNING 1",
        &[id.number().cast_signed().into()],
    )?;
    if destroyed == 0 {
        return Err(Error::NotDisabled(what).into());
    }
    usage::push(&Rows::of(fcinfo), lost.iter());
    Ok(Answer::NULL)
}

/// `destroy_account(account text, lose_values boolean) → SETOF usage`: what nobody can read any more.
#[pg_extern(sql = false)]
fn destroy_account(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "destroy_account")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let what = format!("account \"{account}\"");
    let detail = Some("all keys".to_owned());
    change::begins("destroy_account", About { account: Some(&account), detail, field: None })?;
    if account::require(&account)? != AccountState::Disabled {
        return Err(Error::NotDisabled(what).into());
    }
    let lost = uses(&call, 1, &what, |found| found.concerns(&account))?;
    let wrapping_key = StoredKey::newest(&account, Purpose::Wrapping)?;
    let destroyed = write::run(
        "UPDATE fieldcrypt.account SET state = 'destroyed', rotate_after = NULL, \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE account OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'disabled' \
             AND changed_at OPERATOR(pg_catalog.<) pg_catalog.now() RETURNING 1",
        &[account.as_ref().into()],
    )?;
    if destroyed == 0 {
        return Err(Error::NotDisabled(what).into());
    }
    write::run(
        "UPDATE fieldcrypt.account_key SET state = 'destroyed', wrapped = NULL, \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE account OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.<>) 'destroyed'",
        &[account.as_ref().into()],
    )?;
    // whoever could unwrap it anew waits for this transaction by now
    if let Some(wrapping_key) = wrapping_key {
        keyring::forget(wrapping_key.id);
    }
    usage::push(&Rows::of(fcinfo), lost.iter());
    Ok(Answer::NULL)
}

fn key_argument(call: &Call) -> Result<(String, KeyId)> {
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    if call.is_null(1) {
        return Err(Error::Null("the key"));
    }
    let id = KeyId::new(call.bigint(1).cast_unsigned()).ok_or_else(|| no_key(&account))?;
    Ok((account.into_owned(), id))
}

/// A data or index key of that account.
fn data_or_index_key(account: &str, id: KeyId) -> Result<StoredKey> {
    let key = StoredKey::find(id)?.filter(|key| key.account == account);
    let key = key.filter(|key| matches!(key.purpose, Purpose::Data | Purpose::Index));
    let key = key.ok_or_else(|| no_key(account))?;
    if key.state == KeyState::Destroyed { Err(Error::KeyDestroyed(id)) } else { Ok(key) }
}

/// What a key is for, to say it; of one that there is not, what it would mostly be for.
fn purpose_of(id: KeyId) -> Result<Purpose> {
    Ok(StoredKey::find(id)?.map_or(Purpose::Data, |key| key.purpose))
}

fn no_key(account: &str) -> Error {
    let hint = format!(
        "It is the id of a data or index key of account \"{account}\" in the view fieldcrypt.keys."
    );
    Error::InvalidArgument { name: "key_id", hint }
}

/// Fails if values may be under a key.
fn require_unused(id: KeyId, account: &str, what: &str) -> Result<()> {
    let uses = usage::find(Writers::GoOn)?;
    match uses.iter().find(|found| found.concerns_key(id, account)) {
        Some(found) => Err(Error::StillUsed(what.to_owned(), found.describe())),
        None => Ok(()),
    }
}

/// What is under the key or account that is to be destroyed; an error if that may be anything, and
/// the caller has not given it up.
fn uses(
    call: &Call,
    lose_values: usize,
    what: &str,
    concerned: impl Fn(&Use) -> bool,
) -> Result<Vec<Use>> {
    if backend::has_transaction_snapshot() {
        return Err(Error::DestroySnapshot);
    }
    let gives_up = !call.is_null(lose_values) && call.boolean(lose_values);
    let find = |writers| -> Result<Vec<Use>> {
        let uses = usage::find(writers)?.into_iter();
        Ok(uses.filter(&concerned).collect())
    };
    let mut uses = find(Writers::GoOn)?;
    // nobody is kept waiting for what is refused anyway
    if !gives_up && uses.is_empty() {
        uses = find(Writers::Wait)?;
    }
    if gives_up {
        let values: i64 = uses.iter().filter_map(|found| found.count).sum();
        change::add_detail(&format!("uses given up: {values}"));
    } else if let Some(first) = uses.first() {
        return Err(Error::StillUsed(what.to_owned(), first.describe()));
    }
    Ok(uses)
}
