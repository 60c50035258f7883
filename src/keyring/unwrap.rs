//! The root keys as this process holds them, and the way from a stored key to its bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use fieldcrypt_core::key::SecretKey;
use fieldcrypt_core::wrap;
use pgrx::pg_sys;

use super::file::{KeyringFile, RootEntry, State};
use super::locked::{lock_after_fork, without_traces};
use super::provider::{Held, keyring};
use super::root::Root;
use crate::backend;
use crate::catalog::invalidation;
use crate::catalog::key::{RootRecord, RootState, StoredKey};
use crate::error::{Error, Result};
use crate::guc;

/// The root keys, read once and again after each reload of the configuration.
struct Keyring {
    /// When the configuration was last loaded before they were read.
    configured: pg_sys::TimestampTz,
    /// In which statement they were read.
    read_in: i64,
    path: String,
    /// Of a customer's key no copy is kept: it counts that it can be had now.
    roots: BTreeMap<String, Held>,
    /// What the file says of each, whether or not it could be read.
    entries: BTreeMap<String, RootEntry>,
    current: String,
    /// The customers' keys that could not be had in a statement, with the reason.
    missed: BTreeMap<String, (i64, String)>,
    /// In which generation of the catalog each was compared with its recorded check value.
    verified: BTreeMap<String, u64>,
}

thread_local! {
    static KEYRING: RefCell<Option<Keyring>> = const { RefCell::new(None) };
}

/// When the configuration was last loaded.
pub(super) fn configuration_loaded() -> pg_sys::TimestampTz {
    // SAFETY: a variable of the only thread
    unsafe { pg_sys::PgReloadTime }
}

impl Keyring {
    fn read() -> Result<Self> {
        let path = configured_path()?;
        let file = KeyringFile::read(Path::new(&path))?;
        let mut roots = BTreeMap::new();
        let own = file.roots.iter().filter(|(_, entry)| entry.state != State::Customer);
        for (name, entry) in own {
            match entry.provider.hold(name) {
                Ok(held) => {
                    roots.insert(name.clone(), held);
                }
                // a previous key that is gone is missed when something needs it
                Err(error) if *name == file.current => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Self {
            configured: configuration_loaded(),
            read_in: backend::statement_start(),
            path,
            roots,
            entries: file.roots,
            current: file.current,
            missed: BTreeMap::new(),
            verified: BTreeMap::new(),
        })
    }

    /// The root key of that name, compared with its recorded check value: one that is kept only once
    /// per generation of the catalog. One that a program uses is compared when it is about to wrap.
    fn root(&mut self, name: &str) -> Result<Root> {
        let entry = self.entries.get(name).ok_or_else(|| {
            keyring(
                format!("root key \"{name}\" is not in the keyring"),
                "Add it to the keyring file, as \"previous\" if another is current, and reload.",
            )
        })?;
        let kept = self.roots.get(name).cloned();
        let generation = invalidation::generation();
        let is_verified = kept.is_some() && self.verified.get(name) == Some(&generation);
        let held = match kept {
            Some(held) => held,
            None => entry.provider.hold(name)?,
        };
        let root = Root::new(name, entry.state, held);
        if root.is_here() && !is_verified {
            root.verify()?;
            self.verified.insert(name.to_owned(), generation);
        }
        Ok(root)
    }
}

/// The path of the keyring file.
pub fn configured_path() -> Result<String> {
    guc::keyring_file().ok_or_else(|| {
        keyring(
            "fieldcrypt.keyring_file is not set".to_owned(),
            "Name the keyring file in postgresql.conf and reload.",
        )
    })
}

/// Uses the keyring, which is read first if need be.
fn with_keyring<T>(work: impl FnOnce(&mut Keyring) -> Result<T>) -> Result<T> {
    lock_after_fork();
    KEYRING.with_borrow_mut(|slot| {
        let loaded = slot.take_if(|keyring| {
            // read again after a reload, or where the path was changed
            keyring.configured == configuration_loaded()
                && Some(&keyring.path) == guc::keyring_file().as_ref()
        });
        let keyring = match loaded {
            Some(keyring) => keyring,
            None => {
                *slot = None;
                without_traces(Keyring::read)?
            }
        };
        work(slot.insert(keyring))
    })
}

/// Reads the root keys in the postmaster, so that sessions are born with them. A keyring that
/// cannot be read is a warning there: sessions that need it get the error.
pub fn load_in_postmaster() {
    if let Err(error) = with_keyring(|_| Ok(())) {
        let hint = error.hint().unwrap_or_default();
        pgrx::warning!("fieldcrypt: {error} ({hint})");
    }
}

/// The current root key.
pub fn current_root() -> Result<Root> {
    with_keyring(|keyring| keyring.root(&keyring.current.clone()))
}

/// The current root key, after the keyring was read anew.
pub fn current_root_read_anew() -> Result<Root> {
    with_keyring(|keyring| {
        *keyring = without_traces(Keyring::read)?;
        keyring.root(&keyring.current.clone())
    })
}

/// The root key of that name.
pub fn root(name: &str) -> Result<Root> {
    with_keyring(|keyring| {
        let is_new = !keyring.entries.contains_key(name);
        if is_new && keyring.read_in != backend::statement_start() {
            // another session may have heard of a newer file already, and wrapped keys under it
            *keyring = without_traces(Keyring::read)?;
        }
        keyring.root(name)
    })
}

/// Fails unless the keyring names all of these root keys.
pub fn require_roots(names: &[String]) -> Result<()> {
    with_keyring(|keyring| match names.iter().find(|&name| !keyring.entries.contains_key(name)) {
        Some(name) => Err(Error::UnknownRoot(name.clone())),
        None => Ok(()),
    })
}

/// The name of a root key of which that is true, among those whose bytes can be had.
pub(super) fn root_that(is: impl Fn(&SecretKey) -> bool) -> Result<Option<String>> {
    with_keyring(|keyring| {
        let is_one = |(name, entry): &(&String, &RootEntry)| {
            let held = keyring.roots.get(*name).cloned();
            match held.or_else(|| entry.provider.hold(name).ok()) {
                Some(Held::Key(key)) => is(&key),
                _ => false,
            }
        };
        Ok(keyring.entries.iter().find(is_one).map(|(name, _)| name.clone()))
    })
}

/// The wrapping key of an account, and when it was unwrapped.
pub fn wrapping_key(account: &str) -> Result<(SecretKey, i64)> {
    unwrap_under_root(&StoredKey::wrapping(account)?)
}

/// Unwraps an account's wrapping key; when that was done. Where a customer's root key cannot be had, the account is
/// locked; that is remembered until the statement ends.
pub fn unwrap_under_root(stored: &StoredKey) -> Result<(SecretKey, i64)> {
    let name = stored.wrapped_by.as_deref().ok_or(Error::Catalog("root of a wrapping key"))?;
    let statement = backend::statement_start();
    let locked = |reason| Err(Error::AccountLocked(stored.account.clone(), reason));
    let missed = with_keyring(|keyring| Ok(keyring.missed.get(name).cloned()))?;
    if let Some((_, reason)) = missed.filter(|(missed_in, _)| *missed_in == statement) {
        return locked(reason);
    }
    match root(name).and_then(|root| root.unwrap(stored)) {
        Err(error @ (Error::Keyring(..) | Error::WrongRoot(_)))
            if RootRecord::find(name)?.is_some_and(|root| root.state == RootState::Customer) =>
        {
            let reason = error.to_string();
            let missed = (statement, reason.clone());
            with_keyring(|keyring| Ok(keyring.missed.insert(name.to_owned(), missed)))?;
            locked(reason)
        }
        result => result,
    }
}

/// The bytes of a data, index or transit key, and when the key above it was unwrapped: so old they
/// are.
pub fn unwrap_account_key(stored: &StoredKey) -> Result<(SecretKey, i64)> {
    let (wrapping_key, at) = wrapping_key(&stored.account)?;
    Ok((unwrap(&wrapping_key, stored)?, at))
}

/// Unwraps a key under the one that has wrapped it here.
pub fn unwrap(wrapping_key: &SecretKey, stored: &StoredKey) -> Result<SecretKey> {
    wrap::unwrap(wrapping_key, &stored.name(), &stored.wrapped, &stored.check_value)
        .map_err(|error| Error::Unwrap(stored.purpose.name(), stored.account.clone(), error))
}
