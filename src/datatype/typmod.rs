//! The type modifier: a handle of the field, the first 31 bits of its id. Reading and writing it
//! needs no catalog row, so that CREATE TABLE works in a restore before any row is loaded.

use fieldcrypt_core::field::{FieldId, check_field_name};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_extern};

use crate::call::{Answer, Call, cstring_elements};
use crate::catalog::field::{By, Field};
use crate::error::{Error, Result};

#[pg_extern(sql = false)]
fn encrypted_typmod_in(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    // SAFETY: the declaration says cstring[]
    let modifiers = unsafe { cstring_elements(call.datum(0)) };
    let [modifier] = modifiers.as_slice() else {
        return Err(
            invalid("An encrypted type names one field: encrypted_text('lead.ssn').").into()
        );
    };
    let modifier = modifier.to_str().unwrap_or_default();
    // what encrypted_typmod_out prints for a field that the catalog does not know
    if let Ok(handle) = modifier.parse::<i32>()
        && handle >= 0
    {
        return Ok(handle.into());
    }
    check_field_name(modifier).map_err(|error| Error::Name("field", error))?;
    let known = match Field::find(By::Name(modifier)) {
        Ok(field) => field.is_some(),
        Err(Error::NotInstalled) => true,
        Err(error) => return Err(error.into()),
    };
    if !known {
        warn_of_unknown(modifier)?;
    }
    Ok(FieldId::of(modifier).handle().into())
}

fn invalid(hint: &str) -> Error {
    Error::InvalidArgument { name: "type modifier", hint: hint.to_owned() }
}

fn warn_of_unknown(name: &str) -> Result<()> {
    let nearest = Field::names()?
        .into_iter()
        .map(|known| (distance(name, &known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    let hint = match nearest {
        Some((_, nearest)) => format!("Perhaps you meant \"{nearest}\"."),
        None => {
            "Create it before values are written: SELECT fieldcrypt.create_field(...).".to_owned()
        }
    };
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    ErrorReport::new(code, format!("field \"{name}\" does not exist"), "fieldcrypt")
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
    Ok(())
}

/// Levenshtein distance, as PostgreSQL computes it for its own hints.
fn distance(a: &str, b: &str) -> i32 {
    // SAFETY: both are at most 63 bytes, which the function's limit of 255 allows
    unsafe {
        pg_sys::varstr_levenshtein(
            a.as_ptr().cast(),
            a.len() as i32,
            b.as_ptr().cast(),
            b.len() as i32,
            1,
            1,
            1,
            true,
        )
    }
}

#[pg_extern(sql = false)]
fn encrypted_typmod_out(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let handle = Call::new(fcinfo).int(0);
    match Field::find(By::Handle(handle)) {
        // a field's name needs no escaping
        Ok(Some(field)) => Answer::ascii_cstring(&format!("('{}')", field.name)),
        _ => Answer::ascii_cstring(&format!("({handle})")),
    }
}
