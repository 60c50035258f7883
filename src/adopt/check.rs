//! Whether values would open, without keeping or showing what is in them.

use fieldcrypt_core::adopt::Format;
use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_core::error::AdoptError;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::Change;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::paths::{flags, rewrite_at};
use super::{Adoption, CHECKED, Places};
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call};
use crate::document::json;
use crate::error::{Error, Result};

const PLACES: Places =
    Places { format: 1, key: 2, previous_keys: 4, associated_data: 5, iv: Some(6) };

/// Where no account is given, keys have no account in their names.
const NO_ACCOUNT: &str = "";

/// `adopt_check(value, format, key, account, previous_keys, associated_data, iv) → text`: what would
/// become of the value, which is text or bytea.
#[pg_extern(sql = false)]
fn adopt_check(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt_check")?;
    let account = call.optional_text(3)?;
    let adoption = Adoption::of(&call, &PLACES, account.as_deref().unwrap_or(NO_ACCOUNT))?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    Ok(Answer::text(&outcome(call.bytes(0), &adoption)?))
}

const PLACES_OF_DOCUMENT: Places =
    Places { format: 2, key: 3, previous_keys: 5, associated_data: 6, iv: None };

/// `adopt_check(document jsonb, paths text[], format, key, account, previous_keys, associated_data) →
/// text[]`: the same of each value at the paths, but null.
#[pg_extern(sql = false)]
fn adopt_check_at_paths(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt_check")?;
    let flags = flags(&call.texts(1)?.ok_or(Error::Null("the paths"))?)?;
    let account = call.optional_text(4)?;
    let account = account.as_deref().unwrap_or(NO_ACCOUNT);
    let adoption = Adoption::of(&call, &PLACES_OF_DOCUMENT, account)?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let mut outcomes = Vec::new();
    rewrite_at(&flags, container, |value| {
        outcomes.push(match value {
            Value::Null => return Ok(Change::Keep),
            Value::String(text) => outcome(text, &adoption)?,
            Value::Container(object) if !value.is_array() => {
                outcome(json::document_text(object)?.as_bytes(), &adoption)?
            }
            _ => NOT_ENCRYPTED.to_owned(),
        });
        Ok(Change::Keep)
    })?;
    Ok(Answer::texts(&outcomes))
}

const NOT_ENCRYPTED: &str = "is not of this format";

fn outcome(value: &[u8], adoption: &Adoption<'_>) -> Result<String> {
    if is_reserved_text(value) {
        return Ok("is adopted".to_owned());
    }
    let error = match adoption.open(value, "", Format::open_text) {
        Ok((_, key)) => {
            adoption.note(CHECKED, "", key)?;
            return Ok(format!("opens with {key}"));
        }
        Err(Error::Adopt { error, format, key }) => match error {
            AdoptError::NotText | AdoptError::NotString => {
                return Ok(format!("opens with {key}, but is no text"));
            }
            // about the call, not about the value
            AdoptError::Iv | AdoptError::AssociatedData | AdoptError::KeyLength => {
                return Err(Error::Adopt { error, format, key });
            }
            error => error,
        },
        Err(error) => return Err(error),
    };
    Ok(match error {
        AdoptError::Failed => "fails: wrong key, or altered",
        AdoptError::NotEncrypted => NOT_ENCRYPTED,
        AdoptError::Malformed => "is malformed",
        _ => "is not supported",
    }
    .to_owned())
}
