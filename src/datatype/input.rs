//! Text and binary input and output.
//!
//! Input takes plain text and seals it; only restores, replication and the like may put an
//! envelope in as it is. Input is never echoed.

use fieldcrypt_core::envelope::{self, Envelope, FORMAT, MAGIC};
use fieldcrypt_core::field::FieldId;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use crate::access::roles;
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::{describe, describe_handle};
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

/// A text given as input for a type with this modifier, or -1.
pub fn from_text(text: &str, typmod: i32) -> Result<Datum> {
    if envelope::is_reserved_text(text.as_bytes()) {
        if !accepts_envelopes() {
            return Err(Error::EnvelopeRefused);
        }
        return from_envelope(&envelope::from_text(text.as_bytes())?, typmod);
    }
    if typmod < 0 {
        // a literal or a parameter: which column it is for, its coercion will say
        value::seal_in_transit(text, FieldId::NONE)
    } else {
        value::assign_text(text, typmod)
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
fn encrypted_text_recv(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
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
    let text = encoding::from_client(bytes)?;
    Ok(Answer::datum(from_text(&text, call.int(2))?))
}

#[pg_extern(sql = false)]
fn encrypted_text_send(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Answer::datum(NewVarlena::of(Call::new(fcinfo).bytes(0)))
}
