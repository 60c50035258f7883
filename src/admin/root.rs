//! Which root key wraps the wrapping keys of accounts. Values and all other keys stay as they are.
//!
//! Invariant: who wraps a key under a root holds a lock on the table of keys since before it looked
//! which root that is, so that a rotation leaves no account behind.

use fieldcrypt_core::field::check_account;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::account::hold;
use crate::access::roles::{KEY_ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::key::{RootRecord, RootState, StoredKey};
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::file::State;
use crate::keyring::{self, Root, require_roots, without_traces};

type Answered = std::result::Result<Answer, ErrorReport>;

/// How many rows one statement changes.
const BATCH: usize = 10_000;

/// Waits for a rotation of the root key, and lets none begin before the transaction ends.
fn hold_off_rotation() -> Result<()> {
    write::run("LOCK TABLE fieldcrypt.account_key IN ROW EXCLUSIVE MODE", &[])?;
    Ok(())
}

/// The root key for new accounts: the current one, or what has replaced it. It is recorded.
pub fn for_new_accounts(current: Root) -> Result<Root> {
    hold_off_rotation()?;
    let mut root = current;
    let recorded = RootRecord::find(&root.name)?;
    if recorded.is_some_and(|record| record.state == RootState::Retired) {
        // another session has heard of a newer keyring already, and rotated
        root = keyring::current_root_read_anew()?;
        change::add_detail(&format!("then root key {}", root.name));
    }
    record(&root)?;
    Ok(root)
}

/// Records a root key under which keys come that it has wrapped elsewhere.
pub fn use_root(root: &Root) -> Result<()> {
    hold_off_rotation()?;
    record(root)
}

/// Records a root key that is about to wrap keys.
fn record(root: &Root) -> Result<()> {
    let state = match root.state {
        State::Customer => RootState::Customer,
        State::Current | State::Previous => RootState::Own,
    };
    let recorded = RootRecord::find(&root.name)?.map(|record| record.state);
    match recorded {
        Some(recorded) if recorded == state => return root.verify(),
        Some(RootState::Customer) => return Err(Error::RootOfCustomer(root.name.clone())),
        // a root that this database does not know yet joins those that it uses, and replaces none
        None if state == RootState::Own => {
            let all = RootRecord::all()?.into_iter();
            let own = all.filter(|record| record.state == RootState::Own);
            require_roots(&own.map(|record| record.name).collect::<Vec<_>>())?;
        }
        _ => {}
    }
    if recorded.is_some() {
        root.verify()?;
        write::run(
            "UPDATE fieldcrypt.root_key SET state = $2 WHERE name OPERATOR(pg_catalog.=) $1",
            &[root.name.as_str().into(), state.name().into()],
        )?;
        return Ok(());
    }
    let (check_value, wrapped_check) = root.check()?;
    write::run(
        "INSERT INTO fieldcrypt.root_key (name, check_value, state, wrapped_check) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
        &[
            root.name.as_str().into(),
            check_value.as_slice().into(),
            state.name().into(),
            wrapped_check.into(),
        ],
    )?;
    // of two sessions that do this at once with different keys, one is stopped here
    keyring::root(&root.name)?.verify()
}

/// `rotate_root() → bigint`: wraps the wrapping keys of all accounts under the current root key, but
/// for those under a customer's; how many they were.
#[pg_extern(sql = false)]
fn rotate_root(_fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    require_role(KEY_ADMIN, "rotate_root")?;
    // SAFETY: returns a variable
    if unsafe { pg_sys::XactIsoLevel } > pg_sys::XACT_READ_COMMITTED as i32 {
        return Err(Error::RotationSnapshot.into());
    }
    let root = keyring::current_root()?;
    let detail = Some(format!("root key {}", root.name));
    change::begins("rotate_root", About { detail, ..About::default() })?;
    write::run("LOCK TABLE fieldcrypt.account_key IN SHARE ROW EXCLUSIVE MODE", &[])?;
    record(&root)?;
    let rewrapped = rewrap_all(&root)?;
    for batch in rewrapped.chunks(BATCH) {
        store(batch, &root)?;
    }
    retire_unused(&root)?;
    Ok(i64::try_from(rewrapped.len()).unwrap_or(i64::MAX).into())
}

/// A key, by its id, as another root wraps it.
type Rewrapped = (i64, Vec<u8>);

/// The wrapping keys that are neither under this root nor under a customer's, wrapped under it.
fn rewrap_all(root: &Root) -> Result<Vec<Rewrapped>> {
    let customers: Vec<_> = RootRecord::all()?
        .into_iter()
        .filter(|record| record.state == RootState::Customer)
        .map(|record| record.name)
        .collect();
    let mut rewrapped = Vec::new();
    let mut replaced: Option<Root> = None;
    StoredKey::each_wrapping(|stored| {
        let Some(old) = stored.wrapped_by.as_ref().filter(|_| stored.is_in_use()) else {
            return Ok(());
        };
        if *old == root.name || customers.contains(old) {
            return Ok(());
        }
        pgrx::check_for_interrupts!();
        let old = match &mut replaced {
            Some(last) if last.name == *old => last,
            last => last.insert(keyring::root(old)?),
        };
        rewrapped.push(rewrap(&stored, old, root)?);
        Ok(())
    })?;
    Ok(rewrapped)
}

fn rewrap(stored: &StoredKey, old: &Root, new: &Root) -> Result<Rewrapped> {
    let wrapped = without_traces(|| new.wrap(&stored.name(), &old.unwrap(stored)?.0))?;
    Ok((stored.id.number().cast_signed(), wrapped))
}

fn store(rewrapped: &[Rewrapped], root: &Root) -> Result<()> {
    let ids: Vec<i64> = rewrapped.iter().map(|(id, _)| *id).collect();
    let wrapped: Vec<&[u8]> = rewrapped.iter().map(|(_, wrapped)| wrapped.as_slice()).collect();
    let changed = write::run(
        "UPDATE fieldcrypt.account_key AS k SET wrapped = r.wrapped, wrapped_by = $3 \
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS r (key_id, wrapped) \
         WHERE k.key_id OPERATOR(pg_catalog.=) r.key_id",
        &[ids.into(), wrapped.into(), root.name.as_str().into()],
    )?;
    // the lock on the table keeps everybody else from changing them
    if changed == rewrapped.len() { Ok(()) } else { Err(Error::Catalog("wrapping keys")) }
}

/// Notes which root keys of the installation wrap nothing any more: they may leave the keyring.
fn retire_unused(current: &Root) -> Result<()> {
    write::run(
        "UPDATE fieldcrypt.root_key AS r SET state = 'retired' \
         WHERE r.state OPERATOR(pg_catalog.=) 'own' AND r.name OPERATOR(pg_catalog.<>) $1 \
             AND NOT EXISTS (SELECT FROM fieldcrypt.account_key AS k \
                             WHERE k.wrapped_by OPERATOR(pg_catalog.=) r.name \
                                 AND k.state OPERATOR(pg_catalog.<>) 'destroyed')",
        &[current.name.as_str().into()],
    )?;
    Ok(())
}

/// `set_account_root(account text, root text)`: wraps an account's wrapping key under a customer's
/// root key, or under the current one again.
#[pg_extern(sql = false)]
fn set_account_root(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "set_account_root")?;
    let account = call.required_text(0, "the account")?;
    check_account(&account).map_err(|error| Error::Name("account", error))?;
    let root = match call.optional_text(1)? {
        Some(name) => keyring::root(&name)?,
        None => keyring::current_root()?,
    };
    if root.state == State::Previous {
        let hint = "It is the current root key, or one of state \"customer\".".to_owned();
        return Err(Error::InvalidArgument { name: "root", hint }.into());
    }
    let detail = Some(format!("root key {}", root.name));
    change::begins("set_account_root", About { account: Some(&account), detail, field: None })?;
    hold_off_rotation()?;
    hold(&account)?;
    let stored = StoredKey::wrapping(&account)?;
    if stored.wrapped_by.as_ref() == Some(&root.name) {
        return Ok(Answer::datum(pg_sys::Datum::null()));
    }
    record(&root)?;
    let wrapped =
        without_traces(|| root.wrap(&stored.name(), &keyring::unwrap_under_root(&stored)?.0))?;
    store(&[(stored.id.number().cast_signed(), wrapped)], &root)?;
    retire_unused(&keyring::current_root()?)?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}
