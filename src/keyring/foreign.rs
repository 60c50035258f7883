//! The keys of other software, by which `adopt()` opens its values.
//!
//! ```toml
//! [adopt.crm]
//! provider = "file"                   # or "env", for development
//! path = "/etc/fieldcrypt/crm.key"    # with "env": variable = "NAME"
//! encoding = "hex"                    # or "base64", or "text": a passphrase as it is
//! derive = "pbkdf2-sha256"            # how the software makes its key of it, where it does
//! salt = "…"
//! iterations = 65536
//! account = "acme"                    # only values of this account, where it is one's
//! ```
//!
//! Invariant: no root key is one of them, and none of them is a root key. They are read when they
//! are first needed, and leave this module only to be handed to a decoder.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64ct::Encoding as _;
use fieldcrypt_core::adopt::{Derivation, ForeignKey};
use pgrx::pg_sys;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::file::KeyringFile;
use super::locked::{Locked, without_traces};
use super::provider::{Provider, is_weak, keyring};
use super::unwrap::{configuration_loaded, configured_path, root_that};
use crate::error::{Error, Result};

/// Bytes of a passphrase below which `doctor()` warns.
const SHORTEST_PASSPHRASE: usize = 12;

/// An entry of the keyring file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    path: Option<PathBuf>,
    variable: Option<String>,
    encoding: Encoding,
    #[serde(default)]
    derive: Derive,
    salt: Option<String>,
    info: Option<String>,
    iterations: Option<u32>,
    account: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Hex,
    Base64,
    Text,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Derive {
    #[default]
    None,
    #[serde(rename = "sha256")]
    Sha256,
    #[serde(rename = "sha256-hex")]
    Sha256Hex,
    #[serde(rename = "pbkdf2-sha1")]
    Pbkdf2Sha1,
    #[serde(rename = "pbkdf2-sha256")]
    Pbkdf2Sha256,
    Scrypt,
    #[serde(rename = "hkdf-sha256")]
    HkdfSha256,
}

/// Where a key of other software is, and what is made of it.
struct Source {
    provider: Provider,
    encoding: Encoding,
    derivation: Derivation,
    account: Option<String>,
}

fn is_a_root(name: &str, root: &str) -> Error {
    keyring(
        format!("adoption key \"{name}\" is root key \"{root}\""),
        "A root key opens no values of other software, and their keys wrap no keys here.",
    )
}

impl Source {
    fn of(entry: Entry) -> Option<Self> {
        let provider = match (entry.provider.as_str(), entry.path, entry.variable) {
            ("file", Some(path), None) => Provider::File(path),
            ("env", None, Some(variable)) => Provider::Environment(variable),
            _ => return None,
        };
        let derivation = match (entry.derive, entry.salt, entry.iterations, entry.info) {
            (Derive::None, None, None, None) => Derivation::None,
            (Derive::Sha256, None, None, None) => Derivation::Sha256,
            (Derive::Sha256Hex, None, None, None) => Derivation::Sha256Hex,
            (Derive::Pbkdf2Sha1, Some(salt), Some(iterations), None) => {
                Derivation::Pbkdf2Sha1 { salt, iterations }
            }
            (Derive::Pbkdf2Sha256, Some(salt), Some(iterations), None) => {
                Derivation::Pbkdf2Sha256 { salt, iterations }
            }
            (Derive::Scrypt, Some(salt), None, None) => Derivation::Scrypt { salt },
            (Derive::HkdfSha256, Some(salt), None, info) => {
                Derivation::HkdfSha256 { salt, info: info.unwrap_or_default() }
            }
            _ => return None,
        };
        let (encoding, account) = (entry.encoding, entry.account);
        Some(Self { provider, encoding, derivation, account })
    }

    fn read(&self, name: &str) -> Result<ForeignKey> {
        let what = format!("adoption key \"{name}\"");
        let contents = "It holds the key as its encoding says, and nothing else.";
        let text = self.provider.read_text(&what, contents)?;
        let secret = self.decode(&text).ok_or_else(|| {
            keyring(
                format!("{what} is not of the encoding that the keyring file says"),
                "encoding is \"hex\", \"base64\" (also with base64: before it), or \"text\".",
            )
        })?;
        // a passphrase may be what it is
        if self.encoding != Encoding::Text && is_weak(&secret) {
            return Err(keyring(
                format!("{what} is not random: its bytes repeat"),
                "Values under such a key are open to everyone. If it really is the key, write it as text.",
            ));
        }
        let key = ForeignKey::derive(&secret, &self.derivation).map_err(|error| {
            keyring(
                format!("{what} {error}"),
                "A key has 1 to 1,024 bytes; PBKDF2 does 1 to 10,000,000 iterations.",
            )
        })?;
        match root_that(|root| key.is(root))? {
            Some(root) => Err(is_a_root(name, &root)),
            None => Ok(key),
        }
    }

    /// Whether it is a text of fewer than 12 bytes, or one that repeats: a passphrase has no bound on
    /// how it was chosen.
    fn is_guessable(&self, name: &str) -> Result<bool> {
        let text = self.provider.read_text(&format!("adoption key \"{name}\""), "")?;
        let secret = self.decode(&text).unwrap_or_default();
        let is_text = self.encoding == Encoding::Text;
        Ok(is_text && (secret.len() < SHORTEST_PASSPHRASE || is_weak(&secret)))
    }

    /// The secret, without the line's end behind it.
    fn decode(&self, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = match self.encoding {
            Encoding::Text => {
                let line = text.strip_suffix('\n').unwrap_or(text);
                Some(line.strip_suffix('\r').unwrap_or(line).as_bytes().to_vec())
            }
            Encoding::Hex => base16ct::mixed::decode_vec(text.trim()).ok(),
            Encoding::Base64 => {
                let text = text.trim();
                let text = text.strip_prefix("base64:").unwrap_or(text).trim_end_matches('=');
                if text.contains(['-', '_']) {
                    base64ct::Base64UrlUnpadded::decode_vec(text).ok()
                } else {
                    base64ct::Base64Unpadded::decode_vec(text).ok()
                }
            }
        };
        bytes.map(Zeroizing::new)
    }
}

/// A key, and the account whose values alone it opens.
type Owned = (Locked<ForeignKey>, Option<String>);

/// The keys that were needed since the configuration was last loaded.
#[derive(Default)]
struct Keys {
    loaded: pg_sys::TimestampTz,
    keys: HashMap<String, Owned>,
}

thread_local! {
    static KEYS: RefCell<Keys> = RefCell::default();
}

/// Hands the key of that name to `work`, to open values that are to become those of `account`.
pub fn with_key<T>(name: &str, account: &str, work: impl FnOnce(&ForeignKey) -> T) -> Result<T> {
    let loaded = configuration_loaded();
    let known = KEYS.with_borrow_mut(|known| {
        if known.loaded != loaded {
            *known = Keys { loaded, keys: HashMap::new() };
        }
        known.keys.get(name).cloned()
    });
    let (key, owner) = match known {
        Some(known) => known,
        None => {
            let read = read(name)?;
            KEYS.with_borrow_mut(|known| known.keys.insert(name.to_owned(), read.clone()));
            read
        }
    };
    if owner.as_deref().is_some_and(|owner| owner != account) {
        return Err(keyring(
            format!("adoption key \"{name}\" is another account's"),
            "Its values are adopted for the account that the keyring file says, and for no other.",
        ));
    }
    Ok(work(&key))
}

/// Fails unless there is a key of that name.
pub fn require(name: &str) -> Result<()> {
    read(name).map(|_| ())
}

fn read(name: &str) -> Result<Owned> {
    let path = configured_path()?;
    let file = KeyringFile::read(Path::new(&path))?;
    let source = source(&file, name)?;
    let key = without_traces(|| source.read(name).map(Locked::new))?;
    Ok((key, source.account))
}

fn source(file: &KeyringFile, name: &str) -> Result<Source> {
    let entry = file.foreign.get(name).cloned().ok_or_else(|| {
        keyring(
            format!("adoption key \"{name}\" is not in the keyring"),
            "Name it in the keyring file as [adopt.NAME], and reload.",
        )
    })?;
    let source = entry.try_into().ok().and_then(Source::of).ok_or_else(|| {
        keyring(
            format!("the keyring file describes adoption key \"{name}\" wrongly"),
            "Use provider = \"file\" with path, or provider = \"env\" with variable; encoding; and what \
             derive asks for: salt and iterations (pbkdf2), salt (scrypt), salt and info (hkdf).",
        )
    })?;
    match file.roots.iter().find(|(_, root)| root.provider == source.provider) {
        Some((root, _)) => Err(is_a_root(name, root)),
        None => Ok(source),
    }
}

/// What there is to say of a key of other software, which is read anew and made, as when it is used.
pub struct Examined {
    pub provider: Option<Provider>,
    /// Whose values alone it opens.
    pub account: Option<String>,
    /// Whether it is a passphrase that is soon guessed.
    pub is_guessable: bool,
    pub result: Result<()>,
}

/// Examines an entry of the keyring file.
pub fn examine(file: &KeyringFile, name: &str) -> Examined {
    match source(file, name) {
        Err(error) => {
            Examined { provider: None, account: None, is_guessable: false, result: Err(error) }
        }
        Ok(source) => {
            let examined = without_traces(|| {
                source.read(name)?;
                source.is_guessable(name)
            });
            let is_guessable = *examined.as_ref().unwrap_or(&false);
            let (provider, account) = (Some(source.provider), source.account);
            Examined { provider, account, is_guessable, result: examined.map(|_| ()) }
        }
    }
}
