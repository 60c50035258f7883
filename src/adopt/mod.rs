//! Values that other software encrypted become values of a field, without their plaintext leaving the
//! server.
//!
//! Invariant: nothing is opened before the caller's role and his right to encrypt are checked, and
//! what is opened goes into an envelope and nowhere else. The decoders are in `fieldcrypt_core::adopt`,
//! the keys in [`crate::keyring::foreign`].

mod check;
mod document;
mod hash;
mod paths;
mod value;

use fieldcrypt_core::adopt::{Foreign, ForeignKey, Format};
use fieldcrypt_core::error::AdoptError;

use crate::audit::statement;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::keyring::foreign::with_key;

/// What stands for the account in the name of a key.
const ACCOUNT: &str = "{account}";

const DONE: &str = "done";
const CHECKED: &str = "checked";
const FAILED: &str = "failed";

/// How values are opened.
struct Adoption<'a> {
    format: Format,
    account: &'a str,
    /// The key, and those before it.
    keys: Vec<String>,
    associated_data: Option<Vec<u8>>,
    iv: Option<&'a [u8]>,
}

/// Where the arguments stand that all functions have.
struct Places {
    format: usize,
    key: usize,
    previous_keys: usize,
    associated_data: usize,
    iv: Option<usize>,
}

impl<'a> Adoption<'a> {
    fn of(call: &'a Call, places: &Places, account: &'a str) -> Result<Self> {
        let format = Format::from_name(&call.required_text(places.format, "the format")?);
        let format = format.ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            Error::InvalidArgument { name: "format", hint: format!("It is one of: {names}.") }
        })?;
        let mut keys = vec![call.required_text(places.key, "the key")?.into_owned()];
        keys.extend(call.texts(places.previous_keys)?.unwrap_or_default());
        if keys.len() > 1 && !format.is_authenticated() {
            let hint = "A wrong key passes for one in 256 values of this format: adopt the values of each \
                        key apart.";
            return Err(Error::InvalidArgument { name: "previous_keys", hint: hint.to_owned() });
        }
        for key in &mut keys {
            *key = name_of_key(key, account);
        }
        let associated_data = call.optional_text(places.associated_data)?;
        let iv = places.iv.filter(|&index| !call.is_null(index)).map(|index| call.bytes(index));
        Ok(Self {
            format,
            account,
            keys,
            associated_data: associated_data.map(|data| data.as_bytes().to_vec()),
            iv,
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
        let foreign =
            Foreign { value, associated_data: self.associated_data.as_deref(), iv: self.iv };
        let mut keys = self.keys.iter().peekable();
        while let Some(name) = keys.next() {
            let opened = with_key(name, self.account, |key| open(self.format, key, &foreign))?;
            match opened {
                Ok(opened) => return Ok((opened, name)),
                Err(AdoptError::Failed) if keys.peek().is_some() => {}
                Err(error) => {
                    let key = match error {
                        AdoptError::Failed => self.keys.join("\", \""),
                        _ => name.clone(),
                    };
                    self.note(FAILED, field, &key)?;
                    return Err(Error::Adopt { error, format: self.format.name(), key });
                }
            }
        }
        Err(Error::Null("the key"))
    }

    /// Tells the audit.
    fn note(&self, outcome: &'static str, field: &str, key: &str) -> Result<()> {
        let detail = format!("format {}, key \"{key}\"", self.format.name());
        statement::adopted(outcome, field, self.account, detail)
    }
}

/// The name of a key for an account.
fn name_of_key(name: &str, account: &str) -> String {
    name.replace(ACCOUNT, account)
}
