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

use super::locked::{Locked, without_traces};
use super::recent::Recent;
use super::unwrap::unwrap_account_key;
use super::usage;
use crate::access::{Privilege, Privileges, refused, rights};
use crate::audit::statement::Counted;
use crate::backend;
use crate::catalog::field::{By, Field};
use crate::catalog::key::{KeyState, StoredKey};
use crate::catalog::{account, fields, invalidation};
use crate::error::{Error, Result};
use crate::guc;

/// A field key that is set up, with what is needed to use it.
///
/// In this order, so that what is looked at for each value lies in one cache line: where a scan
/// meets many keys, most of its time is waiting for memory.
#[repr(C)]
pub struct OpenKey {
    loaded: i64,
    privileges: Cell<(Oid, Privileges)>,
    /// Where the audit counts its reads.
    pub counted: Cell<Counted>,
    /// Whether it has sealed as many values as its suite allows.
    pub exhausted: bool,
    /// See [`Place`].
    role: Oid,
    pub key: FieldKey,
    pub account: Rc<str>,
    /// `None` for the transit key, which has no policy.
    pub field: Option<Rc<Field>>,
}

impl OpenKey {
    /// Whether it is the key of that place.
    pub fn is_at(&self, place: &Place) -> bool {
        let key = &self.key;
        *place == (key.key_id(), key.field_id(), key.suite().number(), self.role)
    }

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
        Err(refused(privilege, field, self.account.to_string()))
    }
}

/// A token key that is set up.
pub struct TokenHandle {
    pub key: TokenKey,
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
    Field(Locked<OpenKey>),
    Token(Locked<TokenHandle>),
}

/// A key, the field, the suite (0 for token keys), and of a value in transit the role.
pub type Place = (KeyId, FieldId, u8, Oid);

/// The keys with which an account encrypts now.
#[derive(Clone, Copy)]
struct Newest {
    data: KeyId,
    index: KeyId,
    /// Whether the index key is the first that the account has had.
    index_is_first: bool,
}

struct Cache {
    generation: u64,
    keys: LruCache<Place, Entry>,
    recent: Recent,
    newest: LruCache<String, Newest>,
    owners: LruCache<KeyId, Rc<str>>,
    superseded: LruCache<KeyId, bool>,
    transit: Option<KeyId>,
    database_index: Option<KeyId>,
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
            recent: Recent::default(),
            newest: LruCache::unbounded(),
            owners: LruCache::unbounded(),
            superseded: LruCache::unbounded(),
            transit: None,
            database_index: None,
        }
    }

    fn open_key(&mut self, place: &Place) -> Option<Locked<OpenKey>> {
        if let Some(key) = self.recent.get(place) {
            return Some(key);
        }
        let Some(Entry::Field(key)) = self.keys.get(place) else { return None };
        let key = key.clone();
        self.recent.put(place, key.clone());
        Some(key)
    }

    /// Adds a key; the one that was used longest ago makes room.
    fn put(&mut self, place: Place, entry: Entry) {
        if let Some((dropped, _)) = self.keys.push(place, entry) {
            self.recent.remove(&dropped);
        }
        self.recent.make_room(self.keys.len());
    }

    /// Makes the bounds those that the setting has now.
    fn bound(&mut self) {
        let capacity = NonZeroUsize::new(guc::key_cache_size()).unwrap_or(NonZeroUsize::MIN);
        if self.keys.cap() != capacity {
            self.keys.resize(capacity);
            self.recent.clear();
            self.newest.resize(capacity);
            self.owners.resize(capacity);
            self.superseded.resize(capacity);
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
pub fn to_open(id: KeyId, field_id: FieldId, suite: Suite) -> Result<Locked<OpenKey>> {
    open_key(id, field_id, suite, Oid::INVALID)
}

/// The key of a value in transit, of a field or of none yet. One that waits for its account opens
/// for the role that sealed it only: it may have been left in a table that others can read.
pub fn in_transit(id: KeyId, field_id: FieldId) -> Result<Locked<OpenKey>> {
    let role = if field_id.is_none() { Oid::INVALID } else { backend::user() };
    open_key(id, field_id, Suite::Xaes256Gcm, role)
}

fn open_key(id: KeyId, field_id: FieldId, suite: Suite, role: Oid) -> Result<Locked<OpenKey>> {
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
    require_readable(&stored)?;
    let field = if transit { None } else { Some(fields::require(By::Id(field_id))?) };
    let exhausted = suite == Suite::Aes256Gcm && usage::is_exhausted(id, field_id)?;
    let account = match role {
        Oid::INVALID => stored.account.clone(),
        role => format!("*row*/{}", role.to_u32()),
    };
    let key = without_traces(|| -> Result<_> {
        let (secret, loaded) = unwrap_account_key(&stored)?;
        Ok(Locked::new(OpenKey {
            loaded,
            privileges: Cell::new((Oid::INVALID, Privileges::default())),
            counted: Cell::default(),
            exhausted,
            role,
            key: FieldKey::derive(&secret, id, stored.purpose, &account, suite, field_id),
            account: stored.account.as_str().into(),
            field,
        }))
    })?;
    keep(generation, |cache| cache.put(place, Entry::Field(key.clone())));
    Ok(key)
}

/// Fails where what is under a key may be neither opened nor looked for.
fn require_readable(stored: &StoredKey) -> Result<()> {
    match stored.state {
        KeyState::Destroyed => Err(Error::KeyDestroyed(stored.id)),
        state if !state.may_decrypt() => Err(Error::KeyState(stored.id, state.name())),
        _ => Ok(()),
    }
}

/// The key with which an account seals new values of a field.
pub fn to_seal(account: &str, field: &Field) -> Result<Locked<OpenKey>> {
    to_open(newest(account)?.data, field.id, field.suite)
}

/// The key with which an account makes tokens of a field.
pub fn to_tokenize(account: &str, field: &Field) -> Result<Locked<TokenHandle>> {
    let id = if account == DATABASE_ACCOUNT { database_index()? } else { newest(account)?.index };
    to_tokenize_under(id, account, field)
}

/// That index key of an account, to make tokens of a field by which values are found.
pub fn to_tokenize_under(id: KeyId, account: &str, field: &Field) -> Result<Locked<TokenHandle>> {
    let place = (id, field.id, 0, Oid::INVALID);
    let (generation, cached) = look_up(|cache| cache.keys.get(&place).cloned());
    if let Some(Entry::Token(key)) = cached
        && key.is_fresh()
    {
        return Ok(key);
    }
    let stored = StoredKey::find(id)?.ok_or(Error::KeyMissing(id))?;
    require_readable(&stored)?;
    let key = without_traces(|| -> Result<_> {
        let (secret, loaded) = unwrap_account_key(&stored)?;
        Ok(Locked::new(TokenHandle {
            key: TokenKey::derive(&secret, id, field.id, account),
            loaded,
        }))
    })?;
    keep(generation, |cache| cache.put(place, Entry::Token(key.clone())));
    Ok(key)
}

/// The key of values in transit, of a field or of none yet.
pub fn transit(field_id: FieldId) -> Result<Locked<OpenKey>> {
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

/// The key of tokens that are comparable across accounts.
fn database_index() -> Result<KeyId> {
    let (generation, cached) = look_up(|cache| cache.database_index);
    if let Some(id) = cached {
        return Ok(id);
    }
    let id = newest_key(DATABASE_ACCOUNT, Purpose::Index)?.id;
    keep(generation, |cache| cache.database_index = Some(id));
    Ok(id)
}

fn newest_key(account: &str, purpose: Purpose) -> Result<StoredKey> {
    StoredKey::newest(account, purpose)?
        .ok_or_else(|| Error::NoActiveKey(purpose.name(), account.to_owned()))
}

fn newest(account: &str) -> Result<Newest> {
    let (generation, cached) = look_up(|cache| cache.newest.get(account).copied());
    if let Some(newest) = cached {
        return Ok(newest);
    }
    account::require_active(account)?;
    let index = newest_key(account, Purpose::Index)?;
    let newest = Newest {
        data: newest_key(account, Purpose::Data)?.id,
        index: index.id,
        index_is_first: index.version == 1,
    };
    keep(generation, |cache| {
        cache.newest.put(account.to_owned(), newest);
    });
    Ok(newest)
}

/// The index key of an account, if it is the first that the account has had.
pub fn first_index_key(account: &str) -> Result<Option<KeyId>> {
    let newest = newest(account)?;
    Ok(newest.index_is_first.then_some(newest.index))
}

/// Whether the account of a data or index key has a newer one now. That is said of closed accounts
/// too.
pub fn is_superseded(id: KeyId) -> Result<bool> {
    let (generation, cached) = look_up(|cache| cache.superseded.get(&id).copied());
    if let Some(is_superseded) = cached {
        return Ok(is_superseded);
    }
    let stored = StoredKey::find(id)?.ok_or(Error::KeyMissing(id))?;
    let newest = StoredKey::newest(&stored.account, stored.purpose)?;
    let is_superseded = newest.is_some_and(|newest| newest.id != id);
    keep(generation, |cache| {
        cache.superseded.put(id, is_superseded);
    });
    Ok(is_superseded)
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
