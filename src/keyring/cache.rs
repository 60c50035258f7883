//! The keys that this session has set up: field keys and token keys, the least recently used
//! dropped first, all dropped when the catalog changes, each unwrapped again after its lifetime.
//!
//! Invariant: the state of key and account is checked here, where the key is handed out, so that
//! no caller can forget it.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;

use fieldcrypt_core::field::{DATABASE_ACCOUNT, FieldId};
use fieldcrypt_core::key::{KeyId, Purpose};
use fieldcrypt_core::seal::FieldKey;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::TokenKey;
use lru::LruCache;
use pgrx::pg_sys::Oid;

use super::locked::Locked;
use super::unwrap::unwrap_account_key;
use super::usage;
use crate::access::{Privilege, Privileges, rights};
use crate::backend;
use crate::catalog::field::{By, Field};
use crate::catalog::key::StoredKey;
use crate::catalog::{account, fields, invalidation};
use crate::error::{Error, Result};
use crate::guc;

/// A field key that is set up, with what is needed to use it.
pub struct OpenKey {
    pub key: Locked<FieldKey>,
    pub account: Rc<str>,
    /// `None` for the transit key, which has no policy.
    pub field: Option<Rc<Field>>,
    /// Whether it has sealed as many values as its suite allows.
    pub exhausted: bool,
    loaded: i64,
    privileges: Cell<(Oid, Privileges)>,
}

impl OpenKey {
    /// The privileges of the current user on this field of this account.
    pub fn privileges(&self) -> Result<Privileges> {
        let user = backend::user();
        let (known, privileges) = self.privileges.get();
        if known == user {
            return Ok(privileges);
        }
        let Some(field) = &self.field else { return Ok(Privileges::default()) };
        let privileges = rights::of(user, &self.account, &field.name)?;
        self.privileges.set((user, privileges));
        Ok(privileges)
    }

    /// Fails unless the current user has the privilege.
    pub fn require(&self, privilege: Privilege) -> Result<()> {
        if self.privileges()?.contains(privilege) {
            return Ok(());
        }
        let field = self.field.as_ref().map_or_else(String::new, |field| field.name.clone());
        Err(Error::Privilege(privilege, field, self.account.to_string()))
    }
}

/// A token key that is set up.
pub struct TokenHandle {
    pub key: Locked<TokenKey>,
    loaded: i64,
}

impl OpenKey {
    /// Whether its lifetime has not passed.
    pub fn is_fresh(&self) -> bool {
        is_fresh(self.loaded)
    }
}

impl TokenHandle {
    /// Whether its lifetime has not passed.
    pub fn is_fresh(&self) -> bool {
        is_fresh(self.loaded)
    }
}

fn is_fresh(loaded: i64) -> bool {
    backend::statement_start().saturating_sub(loaded) < guc::key_lifetime()
}

#[derive(Clone)]
enum Entry {
    Field(Rc<OpenKey>),
    Token(Rc<TokenHandle>),
}

/// A key, the field, the suite (0 for token keys), and of a value in transit the role.
type Place = (KeyId, FieldId, u8, Oid);

/// The keys with which an account encrypts now.
#[derive(Clone, Copy)]
struct Newest {
    data: KeyId,
    index: KeyId,
}

struct Cache {
    generation: u64,
    keys: LruCache<Place, Entry>,
    /// The key that was used last, which most often is the next as well.
    last: Option<(Place, Rc<OpenKey>)>,
    newest: LruCache<String, Newest>,
    owners: LruCache<KeyId, Rc<str>>,
    transit: Option<KeyId>,
}

thread_local! {
    static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

impl Cache {
    fn new(generation: u64) -> Self {
        // bounded by the first `put`: bounded ones would allocate all of their tables at once
        Self {
            generation,
            keys: LruCache::unbounded(),
            last: None,
            newest: LruCache::unbounded(),
            owners: LruCache::unbounded(),
            transit: None,
        }
    }

    fn open_key(&mut self, place: &Place) -> Option<Rc<OpenKey>> {
        if let Some((last, key)) = &self.last
            && last == place
        {
            return Some(Rc::clone(key));
        }
        match self.keys.get(place) {
            Some(Entry::Field(key)) => {
                let key = Rc::clone(key);
                self.last = Some((*place, Rc::clone(&key)));
                Some(key)
            }
            _ => None,
        }
    }

    /// Makes the bounds those that the setting has now.
    fn bound(&mut self) {
        let capacity = NonZeroUsize::new(guc::key_cache_size()).unwrap_or(NonZeroUsize::MIN);
        if self.keys.cap() != capacity {
            self.keys.resize(capacity);
            self.newest.resize(capacity);
            self.owners.resize(capacity);
        }
    }
}

/// The cache and the generation of the catalog that it belongs to; empty if the catalog has
/// changed. `work` must not reach into the cache again.
fn look_up<T>(work: impl FnOnce(&mut Cache) -> T) -> (u64, T) {
    let generation = invalidation::current();
    CACHE.with_borrow_mut(|slot| {
        let cache = slot.get_or_insert_with(|| Cache::new(generation));
        if cache.generation != generation {
            *cache = Cache::new(generation);
        }
        (generation, work(cache))
    })
}

/// Keeps what was read from the catalog in a generation, unless it has changed meanwhile.
fn keep(generation: u64, work: impl FnOnce(&mut Cache)) {
    let (_, ()) = look_up(|cache| {
        if cache.generation == generation {
            cache.bound();
            work(cache);
        }
    });
}

#[cfg(any(test, feature = "pg_test"))]
/// How many keys are set up, and of how many at most.
pub fn occupancy() -> (usize, usize) {
    look_up(|cache| (cache.keys.len(), cache.keys.cap().get())).1
}

/// The key that sealed a stored value, to open it.
pub fn to_open(id: KeyId, field_id: FieldId, suite: Suite) -> Result<Rc<OpenKey>> {
    open_key(id, field_id, suite, Oid::INVALID)
}

/// The key of a value in transit, of a field or of none yet. One that waits for its account opens
/// for the role that sealed it only: it may have been left in a table that others can read.
pub fn in_transit(id: KeyId, field_id: FieldId) -> Result<Rc<OpenKey>> {
    let role = if field_id.is_none() { Oid::INVALID } else { backend::user() };
    open_key(id, field_id, Suite::Xaes256Gcm, role)
}

fn open_key(id: KeyId, field_id: FieldId, suite: Suite, role: Oid) -> Result<Rc<OpenKey>> {
    let place = (id, field_id, suite.number(), role);
    let (generation, cached) = look_up(|cache| cache.open_key(&place));
    if let Some(key) = cached.filter(|key| key.is_fresh()) {
        return Ok(key);
    }
    let stored = StoredKey::find(id)?.ok_or(Error::KeyMissing(id))?;
    let transit = match stored.purpose {
        Purpose::Data => false,
        Purpose::Transit => true,
        _ => return Err(Error::KeyMissing(id)),
    };
    if !transit {
        account::require_active(&stored.account)?;
    }
    if !stored.state.may_decrypt() {
        return Err(Error::KeyState(id, stored.state.name()));
    }
    let field = if transit { None } else { Some(fields::require(By::Id(field_id))?) };
    let secret = unwrap_account_key(&stored)?;
    let account = match role {
        Oid::INVALID => stored.account.clone(),
        role => format!("*row*/{}", role.to_u32()),
    };
    let key = FieldKey::derive(&secret, id, stored.purpose, &account, suite, field_id);
    let key = Rc::new(OpenKey {
        key: Locked::new(key),
        account: stored.account.into(),
        field,
        exhausted: suite == Suite::Aes256Gcm && usage::is_exhausted(id, field_id)?,
        loaded: backend::statement_start(),
        privileges: Cell::new((Oid::INVALID, Privileges::default())),
    });
    keep(generation, |cache| {
        cache.keys.put(place, Entry::Field(Rc::clone(&key)));
        cache.last = Some((place, Rc::clone(&key)));
    });
    Ok(key)
}

/// The key with which an account seals new values of a field.
pub fn to_seal(account: &str, field: &Field) -> Result<Rc<OpenKey>> {
    to_open(newest(account)?.data, field.id, field.suite)
}

/// The key with which an account makes tokens of a field.
pub fn to_tokenize(account: &str, field: &Field) -> Result<Rc<TokenHandle>> {
    let id = newest(account)?.index;
    let place = (id, field.id, 0, Oid::INVALID);
    let (generation, cached) = look_up(|cache| cache.keys.get(&place).cloned());
    if let Some(Entry::Token(key)) = cached
        && key.is_fresh()
    {
        return Ok(key);
    }
    let stored = StoredKey::find(id)?.ok_or(Error::KeyMissing(id))?;
    let secret = unwrap_account_key(&stored)?;
    let key = Rc::new(TokenHandle {
        key: Locked::new(TokenKey::derive(&secret, id, field.id, account)),
        loaded: backend::statement_start(),
    });
    keep(generation, |cache| {
        cache.keys.put(place, Entry::Token(Rc::clone(&key)));
    });
    Ok(key)
}

/// The key of values in transit, of a field or of none yet.
pub fn transit(field_id: FieldId) -> Result<Rc<OpenKey>> {
    let (generation, cached) = look_up(|cache| cache.transit);
    let id = match cached {
        Some(id) => id,
        None => {
            let stored = StoredKey::newest(DATABASE_ACCOUNT, Purpose::Transit)?;
            let id = stored.ok_or(Error::NoTransitKey)?.id;
            keep(generation, |cache| cache.transit = Some(id));
            id
        }
    };
    in_transit(id, field_id)
}

fn newest(account: &str) -> Result<Newest> {
    let (generation, cached) = look_up(|cache| cache.newest.get(account).copied());
    if let Some(newest) = cached {
        return Ok(newest);
    }
    account::require_active(account)?;
    let id = |purpose| {
        StoredKey::newest(account, purpose)?
            .map(|stored| stored.id)
            .ok_or(Error::NoActiveKey(purpose.name(), account.to_owned()))
    };
    let newest = Newest { data: id(Purpose::Data)?, index: id(Purpose::Index)? };
    keep(generation, |cache| {
        cache.newest.put(account.to_owned(), newest);
    });
    Ok(newest)
}

/// The account that a key belongs to; `None` if the key is not in this database. Asks no root key.
pub fn account_of(id: KeyId) -> Result<Option<Rc<str>>> {
    let (generation, cached) = look_up(|cache| cache.owners.get(&id).cloned());
    if cached.is_some() {
        return Ok(cached);
    }
    let Some(stored) = StoredKey::find(id)? else { return Ok(None) };
    let owner = Rc::<str>::from(stored.account);
    keep(generation, |cache| {
        cache.owners.put(id, Rc::clone(&owner));
    });
    Ok(Some(owner))
}
