//! New data keys for accounts. What older ones have sealed, they open.

use fieldcrypt_core::field::check_account;
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::account::{hold, new_name, store};
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::key::StoredKey;
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::{without_traces, wrapping_key};

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
    let id = new_data_key(&account)?;
    change::add_detail(&format!("key {}", id.number()));
    Ok(id.number().cast_signed().into())
}

/// Makes a data key for an account that is held. The older ones only decrypt from now on.
pub(super) fn new_data_key(account: &str) -> Result<KeyId> {
    let newest = StoredKey::latest_version(account, Purpose::Data)?;
    write::run(
        "UPDATE fieldcrypt.account_key SET state = 'decrypt-only', \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE account OPERATOR(pg_catalog.=) $1 AND purpose OPERATOR(pg_catalog.=) 'data' \
             AND state OPERATOR(pg_catalog.=) 'active'",
        &[account.into()],
    )?;
    without_traces(|| {
        let (wrapping_key, _) = wrapping_key(account)?;
        let name = new_name(account, Purpose::Data, newest + 1)?;
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
