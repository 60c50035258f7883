//! The index keys by which a statement finds values.
//!
//! Invariant: rotation makes another key active in the transaction that makes the tokens of all typed
//! columns anew. So under the key that is active as a statement's snapshot sees it are exactly the
//! values that the snapshot sees, whatever this session has heard of. Nothing else is asked.

use std::cell::RefCell;
use std::rc::Rc;

use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::pg_guard;

use super::cache;
use crate::backend::{self, Sight};
use crate::catalog::invalidation;
use crate::catalog::key::{KeyState, StoredKey};
use crate::error::{Error, OrRaise, Result};

/// The index keys of an account as a statement sees them.
#[derive(Clone)]
pub struct IndexKeys {
    /// The one that typed columns are under.
    pub active: KeyId,
    /// Those that documents may still be under.
    pub older: Rc<[KeyId]>,
}

/// What was seen last, and by whom.
struct Seen {
    sight: Sight,
    generation: u64,
    account: String,
    keys: IndexKeys,
}

thread_local! {
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// The index keys of an account as the statement sees them that is running.
pub fn of(account: &str) -> Result<IndexKeys> {
    let (sight, generation) = (backend::sight(), invalidation::current());
    let known = SEEN.with_borrow(|seen| {
        let seen = seen.as_ref()?;
        let is_same =
            seen.sight == sight && seen.generation == generation && seen.account == account;
        is_same.then(|| seen.keys.clone())
    });
    if let Some(keys) = known {
        return Ok(keys);
    }
    let keys = look_up(account)?;
    let seen = Seen { sight, generation, account: account.to_owned(), keys: keys.clone() };
    SEEN.set(Some(seen));
    Ok(keys)
}

fn look_up(account: &str) -> Result<IndexKeys> {
    // an account that is closed is so for every statement
    let first = cache::first_index_key(account)?;
    if let Some(active) = first
        && !StoredKey::has_later_index_keys(account)?
    {
        return Ok(IndexKeys { active, older: Rc::from([]) });
    }
    let keys = StoredKey::index_keys_seen(account)?;
    let active = keys.iter().filter(|key| key.state.may_encrypt()).max_by_key(|key| key.version);
    let missing = || Error::NoActiveKey(Purpose::Index.name(), account.to_owned());
    let active = active.ok_or_else(missing)?.id;
    let older = keys.iter().filter(|key| key.state == KeyState::DecryptOnly).map(|key| key.id);
    Ok(IndexKeys { active, older: older.collect() })
}

/// Fails if an index key was rotated since the statement's snapshot was taken: what it reads may be
/// under the older one, and must not be written.
#[pg_guard]
pub extern "C-unwind" fn require_newest() {
    require_newest_seen().or_raise();
}

fn require_newest_seen() -> Result<()> {
    StoredKey::each_later_index_key(|key| {
        let seen = StoredKey::index_keys_seen(&key.account)?;
        if seen.iter().any(|seen| seen.id == key.id) {
            Ok(())
        } else {
            Err(Error::IndexKeyRotated(key.account))
        }
    })
}
