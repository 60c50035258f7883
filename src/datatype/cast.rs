//! Coercion to a column: here a value learns which field it belongs to.
//!
//! PostgreSQL runs these per row, so that one literal inserted a thousand times gets a thousand
//! nonces.

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::field::FieldId;
use fieldcrypt_document::jsonb::Container;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use zeroize::Zeroizing;

use super::input;
use crate::call::{Answer, Call};
use crate::document::json;
use crate::encoding;
use crate::error::Error;
use crate::value;

/// The length coercion `(T, int4, bool)`: T to a column of T.
#[pg_extern(sql = false)]
fn encrypted_text_coerce(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let typmod = call.int(1);
    if typmod < 0 {
        return Ok(Answer::datum(call.datum(0)));
    }
    let assigned = value::assign(call.bytes(0), typmod)?;
    Ok(Answer::datum(assigned.unwrap_or_else(|| call.datum(0))))
}

/// The assignment cast `(text, int4, bool)`: text to a column of T in one step.
#[pg_extern(sql = false)]
fn encrypted_text_from_text(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    Ok(Answer::datum(input::from_text(&call.text(0)?, call.int(1))?))
}

/// The same from `char(n)`, without its padding.
#[pg_extern(sql = false)]
fn encrypted_text_from_char(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let text = encoding::to_utf8(call.bytes(0).trim_ascii_end())?;
    Ok(Answer::datum(input::from_text(&text, call.int(1))?))
}

/// The same from `name`.
#[pg_extern(sql = false)]
fn encrypted_text_from_name(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    // a name is NUL-terminated, as a cstring is
    let text = encoding::to_utf8(call.cstring(0).to_bytes())?;
    Ok(Answer::datum(input::from_text(&text, call.int(1))?))
}

/// The assignment cast `(jsonb, int4, bool)`.
#[pg_extern(sql = false)]
fn encrypted_jsonb_from_jsonb(
    fcinfo: pg_sys::FunctionCallInfo,
) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let text = Zeroizing::new(json::document_text(container)?);
    let typmod = call.int(1);
    let sealed = if typmod < 0 {
        value::seal_in_transit(&text, PlaintextType::Json, FieldId::NONE)?
    } else {
        value::assign_text(&text, PlaintextType::Json, typmod)?
    };
    Ok(Answer::datum(sealed))
}
