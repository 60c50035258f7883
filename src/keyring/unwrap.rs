//! The root keys as this process holds them, and the way from a stored key to its bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fieldcrypt_core::key::{Purpose, SecretKey};
use fieldcrypt_core::wrap;
use pgrx::pg_sys;

use super::file::KeyringFile;
use super::locked::{Locked, lock_after_fork, without_traces};
use super::provider::keyring;
use crate::catalog::invalidation;
use crate::catalog::key::{StoredKey, root_check_value};
use crate::error::{Error, Result};
use crate::guc;

/// The root keys, read once and again after each reload of the configuration.
struct Keyring {
    /// When the configuration was last loaded before they were read.
    configured: pg_sys::TimestampTz,
    path: String,
    roots: BTreeMap<String, Locked<SecretKey>>,
    /// The names that the file has, whether or not a previous key could be read.
    names: BTreeSet<String>,
    current: String,
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
        for (name, provider) in &file.roots {
            match provider.read(name) {
                Ok(key) => {
                    roots.insert(name.clone(), Locked::new(key));
                }
                // a previous key that is gone is missed when something needs it
                Err(error) if *name == file.current => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Self {
            configured: configuration_loaded(),
            path,
            roots,
            names: file.roots.into_keys().collect(),
            current: file.current,
            verified: BTreeMap::new(),
        })
    }

    /// Compares a root key with its recorded check value, once per generation of the catalog.
    fn verify(&mut self, name: &str) -> Result<()> {
        let generation = invalidation::generation();
        if self.verified.get(name) == Some(&generation) {
            return Ok(());
        }
        verify_root(name, self.root(name)?)?;
        self.verified.insert(name.to_owned(), generation);
        Ok(())
    }

    fn root(&self, name: &str) -> Result<&SecretKey> {
        self.roots.get(name).map(|root| &**root).ok_or_else(|| {
            keyring(
                format!("root key \"{name}\" is not in the keyring"),
                "Add it to the keyring file, as \"previous\" if another is current, and reload.",
            )
        })
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

/// Fails if a root key is not the one whose check value this database has recorded.
pub fn verify_root(name: &str, root: &SecretKey) -> Result<()> {
    match root_check_value(name)? {
        Some(recorded) if !wrap::verify(&wrap::root_check_value(root), &recorded) => {
            Err(Error::WrongRoot(name.to_owned()))
        }
        _ => Ok(()),
    }
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

/// The name and the check value of the current root key, verified.
pub fn current_root() -> Result<(String, [u8; wrap::CHECK_VALUE_LENGTH])> {
    with_keyring(|keyring| {
        let name = keyring.current.clone();
        keyring.verify(&name)?;
        Ok((name.clone(), wrap::root_check_value(keyring.root(&name)?)))
    })
}

/// Fails unless the keyring names all of these root keys.
pub fn require_roots(names: &[String]) -> Result<()> {
    with_keyring(|keyring| match names.iter().find(|name| !keyring.names.contains(*name)) {
        Some(name) => Err(Error::UnknownRoot(name.clone())),
        None => Ok(()),
    })
}

/// The name of a root key of which that is true.
pub(super) fn root_that(is: impl Fn(&SecretKey) -> bool) -> Result<Option<String>> {
    with_keyring(|keyring| {
        let mut roots = keyring.roots.iter();
        Ok(roots.find(|(_, root)| is(root)).map(|(name, _)| name.clone()))
    })
}

/// Unwraps an account's wrapping key, or wraps a new one: hands the root key to `work`.
pub fn with_root<T>(name: &str, work: impl FnOnce(&SecretKey) -> Result<T>) -> Result<T> {
    with_keyring(|keyring| {
        keyring.verify(name)?;
        work(keyring.root(name)?)
    })
}

/// The wrapping key of an account.
pub fn wrapping_key(account: &str) -> Result<SecretKey> {
    let stored = StoredKey::newest(account, Purpose::Wrapping)?
        .ok_or_else(|| Error::AccountMissing(account.to_owned()))?;
    let root = stored.wrapped_by.as_deref().ok_or(Error::Catalog("root of a wrapping key"))?;
    with_root(root, |root| unwrap(root, &stored))
}

/// The bytes of a data, index or transit key.
pub fn unwrap_account_key(stored: &StoredKey) -> Result<SecretKey> {
    unwrap(&wrapping_key(&stored.account)?, stored)
}

fn unwrap(wrapping_key: &SecretKey, stored: &StoredKey) -> Result<SecretKey> {
    wrap::unwrap(wrapping_key, &stored.name(), &stored.wrapped, &stored.check_value)
        .map_err(|error| Error::Unwrap(stored.purpose.name(), stored.account.clone(), error))
}
