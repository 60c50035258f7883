//! Values that other software encrypted become values of a field, without their plaintext leaving the
//! server.
//!
//! Invariant: nothing is opened before the caller's role and his right to encrypt are checked, and
//! what is opened goes into an envelope and nowhere else. The decoders are in `fieldcrypt_core::adopt`,
//! the keys in [`crate::keyring::foreign`].

mod check;
mod document;
mod hash;
pub mod job;
mod paths;
mod value;

use std::borrow::Cow;
use std::rc::Rc;

use fieldcrypt_core::adopt::{Foreign, ForeignKey, Format};
use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::error::AdoptError;
use zeroize::Zeroizing;

use crate::audit::statement;
use crate::call::Call;
use crate::datatype::native::{self, Canonical};
use crate::error::{Error, Result};
use crate::keyring::foreign::with_key;

/// What stands for the account in the name of a key.
const ACCOUNT: &str = "{account}";

/// The outcome of what was adopted, in the audit.
pub const DONE: &str = "done";
const CHECKED: &str = "checked";
const FAILED: &str = "failed";

/// How values are opened, for whichever account.
struct Terms {
    format: Format,
    /// The key, and those before it; `{account}` stands in their names for the account.
    keys: Vec<String>,
    associated_data: Option<Vec<u8>>,
    iv: Option<Vec<u8>>,
}

/// What belongs to a value and stands in other columns of its row.
pub struct Beside {
    pub associated_data: Option<Vec<u8>>,
    pub iv: Option<Vec<u8>>,
}

impl Beside {
    pub fn of(associated_data: Option<Cow<'_, str>>, iv: Option<&[u8]>) -> Self {
        let associated_data = associated_data.map(|data| data.into_owned().into_bytes());
        Self { associated_data, iv: iv.map(<[u8]>::to_vec) }
    }
}

static NOTHING: Beside = Beside { associated_data: None, iv: None };

/// How values of an account are opened.
pub struct Adoption<'a> {
    terms: Rc<Terms>,
    beside: &'a Beside,
    account: &'a str,
    /// The key, and those before it.
    keys: Vec<String>,
}

/// Where the arguments stand that all functions have.
struct Places {
    format: usize,
    key: usize,
    previous_keys: usize,
    associated_data: usize,
    iv: Option<usize>,
}

impl Terms {
    fn of(call: &Call, places: &Places) -> Result<Self> {
        let format = call.required_text(places.format, "the format")?;
        let key = call.required_text(places.key, "the key")?;
        let previous = call.texts(places.previous_keys)?.unwrap_or_default();
        let associated_data = call.optional_text(places.associated_data)?;
        let iv = places.iv.filter(|&index| !call.is_null(index)).map(|index| call.bytes(index));
        let terms = Self::new(&format, key.into_owned(), previous, associated_data.as_deref())?;
        Ok(Self { iv: iv.map(<[u8]>::to_vec), ..terms })
    }

    fn new(
        format: &str,
        key: String,
        previous_keys: Vec<String>,
        associated_data: Option<&str>,
    ) -> Result<Self> {
        let format = Format::from_name(format).ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            Error::InvalidArgument { name: "format", hint: format!("It is one of: {names}.") }
        })?;
        let mut keys = vec![key];
        keys.extend(previous_keys);
        if keys.len() > 1 && !format.is_authenticated() {
            let hint = "A wrong key passes for one in 256 values of this format: adopt the values of each \
                        key apart.";
            return Err(Error::InvalidArgument { name: "previous_keys", hint: hint.to_owned() });
        }
        let associated_data = associated_data.map(|data| data.as_bytes().to_vec());
        Ok(Self { format, keys, associated_data, iv: None })
    }
}

impl<'a> Adoption<'a> {
    fn of(call: &Call, places: &Places, account: &'a str) -> Result<Self> {
        Ok(Self::by(Rc::new(Terms::of(call, places)?), &NOTHING, account))
    }

    fn by(terms: Rc<Terms>, beside: &'a Beside, account: &'a str) -> Self {
        let keys = terms.keys.iter().map(|key| name_of_key(key, account)).collect();
        Self { terms, beside, account, keys }
    }

    /// What is in a value, read as one of that type, and the key that opened it.
    fn read(
        &self,
        value: &[u8],
        field: &str,
        plaintext_type: PlaintextType,
    ) -> Result<(Canonical<'static>, &str)> {
        if plaintext_type == PlaintextType::Bytea {
            let (mut bytes, key) = self.try_open(value, Format::open)?;
            return Ok((Canonical::of(plaintext_type, std::mem::take(&mut *bytes)), key));
        }
        let (text, key) = self.text(value)?;
        Ok((self.typed(&text, field, plaintext_type)?, key))
    }

    /// A text as the type's input reads it; the error tells what it was to become, and not the text.
    fn typed(
        &self,
        text: &str,
        field: &str,
        plaintext_type: PlaintextType,
    ) -> Result<Canonical<'static>> {
        native::from_text(plaintext_type, text).map_err(|error| match error {
            Error::InvalidInput(plaintext_type, code) => Error::AdoptInput {
                plaintext_type,
                code,
                field: field.to_owned(),
                account: self.account.to_owned(),
            },
            error => error,
        })
    }

    /// Opens a value by the first of the keys that does, whose name is returned too. A failure is
    /// noted in the audit.
    fn open<T>(
        &self,
        value: &[u8],
        field: &str,
        open: impl Fn(Format, &ForeignKey, &Foreign<'_>) -> std::result::Result<T, AdoptError>,
    ) -> Result<(T, &str)> {
        self.noted(field, self.try_open(value, open))
    }

    fn try_open<T>(
        &self,
        value: &[u8],
        open: impl Fn(Format, &ForeignKey, &Foreign<'_>) -> std::result::Result<T, AdoptError>,
    ) -> Result<(T, &str)> {
        let Terms { format, .. } = &*self.terms;
        let associated_data =
            self.beside.associated_data.as_deref().or(self.terms.associated_data.as_deref());
        let iv = self.beside.iv.as_deref().or(self.terms.iv.as_deref());
        let foreign = Foreign { value, associated_data, iv };
        let mut keys = self.keys.iter().peekable();
        while let Some(name) = keys.next() {
            let opened = with_key(name, self.account, |key| open(*format, key, &foreign))?;
            match opened {
                Ok(opened) => return Ok((opened, name)),
                Err(AdoptError::Failed) if keys.peek().is_some() => {}
                Err(error) => {
                    let key = match error {
                        AdoptError::Failed => self.all_keys(),
                        _ => name.clone(),
                    };
                    return Err(Error::Adopt { error, format: format.name(), key });
                }
            }
        }
        Err(Error::Null("the key"))
    }

    /// Tells the audit of a failure.
    pub fn noted<T>(&self, field: &str, result: Result<T>) -> Result<T> {
        match &result {
            Err(Error::Adopt { key, .. }) => self.note(FAILED, field, key)?,
            Err(Error::AdoptInput { .. }) => self.note(FAILED, field, &self.all_keys())?,
            _ => {}
        }
        result
    }

    /// The text in a value, and the key that opened it.
    pub fn text(&self, value: &[u8]) -> Result<(Zeroizing<String>, &str)> {
        self.try_open(value, Format::open_text)
    }

    /// The error of what cannot be of the format.
    pub fn not_encrypted(&self) -> Error {
        let format = self.terms.format.name();
        let key = self.keys.first().cloned().unwrap_or_default();
        Error::Adopt { error: AdoptError::NotEncrypted, format, key }
    }

    fn all_keys(&self) -> String {
        self.keys.join("\", \"")
    }

    /// Tells the audit.
    pub fn note(&self, outcome: &'static str, field: &str, key: &str) -> Result<()> {
        let detail = format!("format {}, key \"{key}\"", self.terms.format.name());
        statement::adopted(outcome, field, self.account, detail)
    }
}

/// The name of a key for an account.
fn name_of_key(name: &str, account: &str) -> String {
    name.replace(ACCOUNT, account)
}
