//! Whether values would open, without keeping or showing what is in them.

use fieldcrypt_core::adopt::Format;
use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_core::error::AdoptError;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::{Adoption, CHECKED, Places};
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call};
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
        AdoptError::NotEncrypted => "is not of this format",
        AdoptError::Malformed => "is malformed",
        _ => "is not supported",
    }
    .to_owned())
}
