//! A root key in use: its bytes, or the program that uses it elsewhere.

use std::rc::Rc;

use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap::{self, KeyName};

use super::command::{Conversation, Failure};
use super::file::State;
use super::locked::Locked;
use super::provider::{Held, keyring};
use super::{unwrap, unwrapped, without_traces};
use crate::backend;
use crate::catalog::key::{RootRecord, StoredKey};
use crate::error::{Error, Result};

/// What stands before a key that was wrapped elsewhere.
const WRAPPED_BY_COMMAND: u8 = 2;

type CheckValue = [u8; wrap::CHECK_VALUE_LENGTH];

/// A root key, to wrap and unwrap with.
pub struct Root {
    pub name: String,
    pub state: State,
    access: Access,
}

enum Access {
    Key(Locked<SecretKey>),
    Command(Rc<Conversation>),
}

impl Root {
    /// A root key of the keyring.
    pub fn new(name: &str, state: State, held: Held) -> Self {
        let access = match held {
            Held::Key(key) => Access::Key(key),
            Held::Command(command) => Access::Command(Rc::new(Conversation::new(command, name))),
        };
        Self { name: name.to_owned(), state, access }
    }

    /// By which it is known again: a check value, and the key that this is of, wrapped, where the
    /// root key itself is not here.
    pub fn check(&self) -> Result<(CheckValue, Option<Vec<u8>>)> {
        match &self.access {
            Access::Key(key) => Ok((wrap::root_check_value(key), None)),
            Access::Command(program) => without_traces(|| {
                let key = SecretKey::generate()?;
                let wrapped = program.wrap(&check_name()?, &key).map_err(|f| self.failed(f))?;
                Ok((wrap::check_value(&key, &check_name()?), Some(wrapped)))
            }),
        }
    }

    /// Whether its bytes are.
    pub const fn is_here(&self) -> bool {
        matches!(self.access, Access::Key(_))
    }

    /// Fails if it is not the one that this database has recorded, or cannot be used. Asks the
    /// program, if there is one.
    pub fn verify(&self) -> Result<()> {
        let Some(record) = RootRecord::find(&self.name)? else {
            return self.check().map(|_| ());
        };
        let wrong = || Error::WrongRoot(self.name.clone());
        let program = match &self.access {
            Access::Key(key) => {
                let is_right = wrap::verify(&wrap::root_check_value(key), &record.check_value);
                return if is_right { Ok(()) } else { Err(wrong()) };
            }
            Access::Command(program) => program,
        };
        let wrapped = record.wrapped_check.ok_or_else(wrong)?;
        let unwrapped = without_traces(|| {
            let key = program.unwrap(&check_name()?, &wrapped, &record.check_value);
            Ok::<_, Error>(key.map(drop))
        })?;
        unwrapped.map_err(|failure| match failure {
            Failure::OtherKey => wrong(),
            failure => self.failed(failure),
        })
    }

    /// Wraps an account's wrapping key.
    pub fn wrap(&self, name: &KeyName<'_>, key: &SecretKey) -> Result<Vec<u8>> {
        match &self.access {
            Access::Key(root) => Ok(wrap::wrap(root, name, key)?.to_vec()),
            Access::Command(program) => {
                let mut wrapped = program.wrap(name, key).map_err(|f| self.failed(f))?;
                wrapped.insert(0, WRAPPED_BY_COMMAND);
                Ok(wrapped)
            }
        }
    }

    /// Unwraps an account's wrapping key; when that was done, by itself or for another session.
    pub fn unwrap(&self, stored: &StoredKey) -> Result<(SecretKey, i64)> {
        let program = match &self.access {
            Access::Key(root) => {
                return Ok((unwrap::unwrap(root, stored)?, backend::statement_start()));
            }
            Access::Command(program) => program,
        };
        let Some((&WRAPPED_BY_COMMAND, wrapped)) = stored.wrapped.split_first() else {
            return Err(Error::WrongRoot(self.name.clone()));
        };
        let ask = || program.unwrap(&stored.name(), wrapped, &stored.check_value);
        unwrapped::key_or(stored, program.time_limit(), ask)?.map_err(|f| self.failed(f))
    }

    fn failed(&self, failure: Failure) -> Error {
        keyring(
            format!("the program of root key \"{}\" {failure}", self.name),
            "It wraps and unwraps keys as docs/keyring.md says. SELECT * FROM fieldcrypt.status tries it out.",
        )
    }
}

/// The name of the key by which a root key that is not here is known again.
fn check_name() -> Result<KeyName<'static>> {
    let id = KeyId::new(1).ok_or(Error::Catalog("key id"))?;
    Ok(KeyName { account: "", purpose: Purpose::Root, version: 1, id })
}
