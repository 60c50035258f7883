//! Coercion to a column: here a value learns which field it belongs to.
//!
//! PostgreSQL runs these per row, so that one literal inserted a thousand times gets a thousand
//! nonces.

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::{declared, input, native};
use crate::call::{Answer, Call};
use crate::value;

/// The length coercion `(T, int4, bool)`: T to a column of T.
#[pg_extern(sql = false)]
fn encrypted_coerce(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let typmod = call.int(1);
    if typmod < 0 {
        return Ok(Answer::datum(call.datum(0)));
    }
    let assigned = value::assign(call.bytes(0), typmod)?;
    Ok(Answer::datum(assigned.unwrap_or_else(|| call.datum(0))))
}

/// The assignment cast `(native, int4, bool)`: a plain value to a column of T in one step.
#[pg_extern(sql = false)]
fn encrypted_from(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let plaintext_type = declared::plaintext_type(&call)?;
    // SAFETY: the declaration says that the argument is of the type's native type
    Ok(Answer::datum(unsafe { input::from_datum(plaintext_type, call.datum(0), call.int(1))? }))
}

/// The same from json: PostgreSQL's own cast to jsonb would show it in errors.
#[pg_extern(sql = false)]
fn encrypted_from_json(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let canonical = native::from_text(PlaintextType::Json, &call.text(0)?)?;
    Ok(Answer::datum(input::from_plaintext(canonical.plaintext()?, call.int(1))?))
}
