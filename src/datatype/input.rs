//! Text and binary input and output.
//!
//! Input takes plain text and seals it; only restores, replication and the like may put an
//! envelope in as it is. Input is never echoed.

use fieldcrypt_core::envelope::{self, Envelope, FORMAT, MAGIC, PlaintextType};
use fieldcrypt_core::field::FieldId;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use crate::access::roles;
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::{describe, describe_handle};
use crate::document::json;
use crate::encoding;
use crate::error::{Error, Result};
use crate::guc;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// Whether the current user may put envelopes in as they are: else a user could paste a
/// colleague's ciphertext into his own field and have the application show it to him.
pub fn accepts_envelopes() -> bool {
    guc::accept_envelopes()
        || roles::has_role(roles::RESTORE)
        // SAFETY: tells whether this process applies changes of a subscription
        || unsafe { pg_sys::IsLogicalWorker() }
}

/// A text given as input for `encrypted_text` with this modifier, or -1.
pub fn from_text(text: &str, typmod: i32) -> Result<Datum> {
    from_input(text, PlaintextType::Text, typmod)
}

/// The same for `encrypted_jsonb`.
pub fn from_json(text: &str, typmod: i32) -> Result<Datum> {
    from_input(text, PlaintextType::Json, typmod)
}

fn from_input(text: &str, plaintext_type: PlaintextType, typmod: i32) -> Result<Datum> {
    if envelope::is_reserved_text(text.as_bytes()) {
        if !accepts_envelopes() {
            return Err(Error::EnvelopeRefused);
        }
        return from_envelope(&envelope::from_text(text.as_bytes())?, typmod);
    }
    let canonical = match plaintext_type {
        PlaintextType::Json => Some(Zeroizing::new(json::canonical(text)?)),
        _ => None,
    };
    let text = canonical.as_ref().map_or(text, |canonical| canonical.as_str());
    if typmod < 0 {
        // a literal or a parameter: which column it is for, its coercion will say
        value::seal_in_transit(text, plaintext_type, FieldId::NONE)
    } else {
        value::assign_text(text, plaintext_type, typmod)
    }
}

/// An envelope given as input: it needs no key, only a sound form and the column's field.
fn from_envelope(bytes: &[u8], typmod: i32) -> Result<Datum> {
    let field_id = Envelope::parse(bytes)?.header().field_id;
    if typmod >= 0 && (field_id.is_none() || field_id.handle() != typmod) {
        return Err(Error::FieldMismatch(describe(field_id), describe_handle(typmod)));
    }
    Ok(NewVarlena::of(bytes))
}

#[pg_extern(sql = false)]
fn encrypted_text_in(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let text = encoding::to_utf8(call.cstring(0).to_bytes())?;
    Ok(Answer::datum(from_text(&text, call.int(2))?))
}

#[pg_extern(sql = false)]
fn encrypted_text_out(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Answer::ascii_cstring(&envelope::to_text(Call::new(fcinfo).bytes(0)))
}

#[pg_extern(sql = false)]
fn encrypted_jsonb_in(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let text = encoding::to_utf8(call.cstring(0).to_bytes())?;
    Ok(Answer::datum(from_json(&text, call.int(2))?))
}

#[pg_extern(sql = false)]
fn encrypted_text_recv(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    receive(Call::new(fcinfo), |bytes, typmod| from_text(&encoding::from_client(bytes)?, typmod))
}

#[pg_extern(sql = false)]
fn encrypted_jsonb_recv(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    receive(Call::new(fcinfo), |bytes, typmod| match bytes {
        // the version of jsonb's binary form, and the text
        [1, text @ ..] => from_json(&encoding::from_client(text)?, typmod),
        _ => Err(Error::InvalidJson),
    })
}

fn receive(call: Call, plain: impl FnOnce(&[u8], i32) -> Result<Datum>) -> Answered {
    let message: *mut pg_sys::StringInfoData = call.pointer(0);
    // SAFETY: PostgreSQL passes the message, with the cursor inside it
    let bytes = unsafe {
        let length = (*message).len - (*message).cursor;
        let start = pg_sys::pq_getmsgbytes(message, length);
        std::slice::from_raw_parts(start.cast::<u8>(), usize::try_from(length).unwrap_or(0))
    };
    if bytes.starts_with(&[MAGIC, FORMAT]) {
        if !accepts_envelopes() {
            return Err(Error::EnvelopeRefused.into());
        }
        return Ok(Answer::datum(from_envelope(bytes, call.int(2))?));
    }
    Ok(Answer::datum(plain(bytes, call.int(2))?))
}

#[pg_extern(sql = false)]
fn encrypted_text_send(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Answer::datum(NewVarlena::of(Call::new(fcinfo).bytes(0)))
}
