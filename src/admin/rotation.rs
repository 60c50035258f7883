//! New data and index keys for accounts. What older data keys have sealed, they open.
//!
//! Invariant: an index key becomes the active one in the transaction that makes the tokens of every
//! typed column anew, while nobody else writes. So no statement sees such values of one account under
//! two of them.

use fieldcrypt_core::field::check_account;
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::account::{hold, new_name, store};
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::{Answer, Call};
use crate::catalog::account::require_active;
use crate::catalog::key::StoredKey;
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::{without_traces, wrapping_key};
use crate::usage;

type Answered = std::result::Result<Answer, ErrorReport>;

/// `rotate_account_key(account text) → bigint`: a new data key for the account, by which values are
/// sealed from now on; its id. The older ones only decrypt.
#[pg_extern(sql = false)]
fn rotate_account_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "rotate_account_key")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let detail = Some("data key".to_owned());
    change::begins("rotate_account_key", About { account: Some(&account), detail, field: None })?;
    hold(&account)?;
    let id = new_key(&account, Purpose::Data)?;
    change::add_detail(&format!("key {}", id.number()));
    Ok(id.number().cast_signed().into())
}

/// `rotate_index_key(account text, with_documents boolean) → bigint`: a new index key for the
/// account, under which tokens are made from now on; its id. Tokens in typed columns are made anew,
/// and in documents that are unique by a token, or in all.
#[pg_extern(sql = false)]
fn rotate_index_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "rotate_index_key")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let with_documents = !call.is_null(1) && call.boolean(1);
    if backend::has_transaction_snapshot() {
        return Err(Error::RotationSnapshot.into());
    }
    let detail = Some("index key".to_owned());
    change::begins("rotate_index_key", About { account: Some(&account), detail, field: None })?;
    hold(&account)?;
    require_active(&account)?;
    let older = StoredKey::newest(&account, Purpose::Index)?;
    // who writes from now on waits, and hears of the new key
    write::texts("SELECT fieldcrypt.hold_tokens($1)::text", &[with_documents.into()])?;
    let id = new_key(&account, Purpose::Index)?;
    let arguments = [account.as_ref().into(), with_documents.into()];
    let rows = write::texts("SELECT fieldcrypt.make_tokens($1, $2)::text", &arguments)?;
    if let Some(older) = older {
        usage::require_no_tokens(older.id)?;
    }
    let rows = rows.first().map_or("0", String::as_str);
    change::add_detail(&format!("key {}, {rows} rows", id.number()));
    Ok(Answer::from(id.number().cast_signed()))
}

/// Makes a data or index key for an account that is held. The older ones only decrypt, or find, from
/// now on.
pub(super) fn new_key(account: &str, purpose: Purpose) -> Result<KeyId> {
    let newest = StoredKey::latest_version(account, purpose)?;
    write::run(
        "UPDATE fieldcrypt.account_key SET state = 'decrypt-only', \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE account OPERATOR(pg_catalog.=) $1 AND purpose OPERATOR(pg_catalog.=) $2 \
             AND state OPERATOR(pg_catalog.=) 'active'",
        &[account.into(), purpose.name().into()],
    )?;
    without_traces(|| {
        let (wrapping_key, _) = wrapping_key(account)?;
        let name = new_name(account, purpose, newest + 1)?;
        let key = SecretKey::generate()?;
        store(&name, &key, &wrap::wrap(&wrapping_key, &name, &key)?, None)?;
        Ok(name.id)
    })
}

/// `set_rotation(account text, rotate_after interval)`: how old an account's data key may become
/// before `rotate_due()` replaces it; NULL: any age.
#[pg_extern(sql = false)]
fn set_rotation(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "set_rotation")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let age = (!call.is_null(1)).then(|| call.datum(1));
    if age.is_some_and(|age| !is_positive(age)) {
        let hint = "It is an interval such as '1 year', or NULL.".to_owned();
        return Err(Error::InvalidArgument { name: "rotate_after", hint }.into());
    }
    change::begins("set_rotation", About { account: Some(&account), ..About::default() })?;
    // SAFETY: the declaration says interval
    let age = unsafe { DatumWithOid::new(age, pg_sys::INTERVALOID) };
    hold(&account)?;
    write::run(
        "UPDATE fieldcrypt.account SET rotate_after = $2, changed_at = pg_catalog.now(), \
         changed_by = session_user WHERE account OPERATOR(pg_catalog.=) $1",
        &[account.as_ref().into(), age],
    )?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// Whether an interval is longer than nothing, and no part of it goes backwards.
fn is_positive(interval: pg_sys::Datum) -> bool {
    // SAFETY: the declaration says interval
    let interval = unsafe { &*interval.cast_mut_ptr::<pg_sys::Interval>() };
    let parts = [i64::from(interval.month), i64::from(interval.day), interval.time];
    parts.iter().all(|&part| part >= 0) && parts.iter().any(|&part| part > 0)
}
