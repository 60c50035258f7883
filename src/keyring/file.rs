//! The keyring file: which root keys there are, and where. It holds no key bytes.
//!
//! ```toml
//! [root.main]
//! provider = "file"                   # or "command", or "env", for development
//! path = "/etc/fieldcrypt/root.key"   # with "env": variable = "NAME"
//! state = "current"                   # exactly one; others are "previous", or a "customer"'s own
//! ```
//!
//! Keys of other software, by which its values are adopted, are in [`super::foreign`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::command::Command;
use super::provider::{Provider, check_file, keyring};
use crate::error::Result;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    root: BTreeMap<String, Entry>,
    #[serde(default)]
    adopt: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    path: Option<PathBuf>,
    variable: Option<String>,
    command: Option<Vec<String>>,
    time_limit: Option<u64>,
    #[serde(default)]
    state: State,
}

/// How long a program may take to answer, in seconds.
const TIME_LIMIT: u64 = 10;
/// How long it may be given, in seconds.
const LONGEST_TIME_LIMIT: u64 = 300;

impl Entry {
    /// Where the key is; `None` if that is not clear.
    fn provider(self) -> Option<Provider> {
        let Self { path, variable, command, time_limit, .. } = self;
        match (self.provider.as_str(), path, variable, command, time_limit) {
            ("file", Some(path), None, None, None) => Some(Provider::File(path)),
            ("env", None, Some(variable), None, None) => Some(Provider::Environment(variable)),
            ("command", None, None, Some(command), time_limit) => {
                let seconds = time_limit.unwrap_or(TIME_LIMIT);
                let (program, arguments) = command.split_first()?;
                (1..=LONGEST_TIME_LIMIT).contains(&seconds).then(|| {
                    Provider::Command(Command {
                        program: program.into(),
                        arguments: arguments.to_vec(),
                        time_limit: Duration::from_secs(seconds),
                    })
                })
            }
            _ => None,
        }
    }
}

/// What a root key is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// New accounts are wrapped under it.
    #[default]
    Current,
    /// It was current.
    Previous,
    /// Accounts of a customer are wrapped under it, who can withdraw it.
    Customer,
}

impl State {
    /// Its name in the file and in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Customer => "customer",
        }
    }
}

/// What the file says of one root key.
#[derive(Clone, Debug)]
pub struct RootEntry {
    pub provider: Provider,
    pub state: State,
}

/// What a keyring file says.
#[derive(Debug)]
pub struct KeyringFile {
    pub roots: BTreeMap<String, RootEntry>,
    pub current: String,
    /// The entries of keys of other software, not looked at: a fault in one must not stop the roots.
    pub foreign: BTreeMap<String, toml::Value>,
}

impl KeyringFile {
    /// Reads the file and checks it; reads no key.
    pub fn read(path: &Path) -> Result<Self> {
        check_file(path, "keyring file", 0o022)?;
        let text = fs::read_to_string(path).map_err(|_| {
            keyring("could not read the keyring file".to_owned(), "Check its permissions.")
        })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        // the parser's own message quotes the file
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            keyring(
                format!("the keyring file is invalid at line {line}"),
                "A root key is [root.NAME] with provider, path, variable or command, and state.",
            )
        })?;
        let mut current = None;
        let mut roots = BTreeMap::new();
        for (name, entry) in document.root {
            if entry.state == State::Current && current.replace(name.clone()).is_some() {
                return Err(keyring(
                    "the keyring file names more than one current root key".to_owned(),
                    "Set state = \"previous\" or \"customer\" on all but one.",
                ));
            }
            let state = entry.state;
            let provider = entry.provider().ok_or_else(|| {
                keyring(
                    format!("the keyring file describes root key \"{name}\" wrongly"),
                    "Use provider = \"file\" with path, \"env\" with variable, or \"command\" with \
                     command (a list) and time_limit (1 to 300 seconds).",
                )
            })?;
            roots.insert(name, RootEntry { provider, state });
        }
        let current = current.ok_or_else(|| {
            keyring(
                "the keyring file names no current root key".to_owned(),
                "Set state = \"current\" on one.",
            )
        })?;
        Ok(Self { roots, current, foreign: document.adopt })
    }
}

#[cfg(any(test, feature = "pg_test"))]
pub mod tests {
    use super::*;

    /// Why a keyring's text is refused.
    pub fn refusal(text: &str) -> Option<String> {
        KeyringFile::parse(text).err().map(|error| error.to_string())
    }
}
