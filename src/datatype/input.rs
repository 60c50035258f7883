//! Text and binary input and output.
//!
//! Input takes plain text and seals it; only restores, replication and the like may put an
//! envelope in as it is. Input is never echoed.

use fieldcrypt_core::envelope::{self, Envelope, FORMAT, MAGIC, PlaintextType};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::plaintext::Plaintext;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::{declared, native};
use crate::access::roles;
use crate::call::{Answer, Call, NewVarlena, varlena_bytes};
use crate::catalog::field::{describe, describe_handle};
use crate::encoding;
use crate::error::{Error, Result};
use crate::guc;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// Whether the current user may put envelopes in as they are: else a user could paste a
/// colleague's ciphertext into his own field and have the application show it to him.
pub fn accepts_envelopes() -> bool {
    guc::accept_envelopes() || roles::has_role(roles::RESTORE) || is_replicated()
}

/// Whether this process applies changes of a subscription.
pub fn is_replicated() -> bool {
    // SAFETY: looks at a variable
    unsafe { pg_sys::IsLogicalWorker() }
}

/// A text given as input for the encrypted type of such values, with this modifier, or -1.
fn from_text(plaintext_type: PlaintextType, text: &str, typmod: i32) -> Result<Datum> {
    if envelope::is_reserved_text(text.as_bytes()) {
        if !accepts_envelopes() {
            return Err(Error::EnvelopeRefused);
        }
        let bytes = envelope::from_text(text.as_bytes())?;
        return from_envelope(plaintext_type, &bytes, typmod);
    }
    if plaintext_type == PlaintextType::Text {
        return from_plaintext(Plaintext::text(text), typmod);
    }
    from_plaintext(native::from_text(plaintext_type, text)?.plaintext()?, typmod)
}

/// A plain value for a column with this modifier; -1 is a literal or a parameter: which column it
/// is for, its coercion will say.
pub fn from_plaintext(plaintext: Plaintext<'_>, typmod: i32) -> Result<Datum> {
    if typmod < 0 {
        value::seal_in_transit(plaintext, FieldId::NONE)
    } else {
        value::assign_plaintext(plaintext, typmod)
    }
}

/// A datum of the native type for a column with this modifier, or -1. A text may be an envelope.
///
/// # Safety
/// `datum` is of PostgreSQL's type of such values, and not NULL.
pub unsafe fn from_datum(
    plaintext_type: PlaintextType,
    datum: Datum,
    typmod: i32,
) -> Result<Datum> {
    // SAFETY: the caller's; a text is a varlena
    unsafe {
        if plaintext_type == PlaintextType::Text {
            return from_text(plaintext_type, &encoding::to_utf8(varlena_bytes(datum))?, typmod);
        }
        from_plaintext(native::from_datum(plaintext_type, datum)?.plaintext()?, typmod)
    }
}

/// An envelope given as input: it needs no key, only a sound form and the column's field.
fn from_envelope(plaintext_type: PlaintextType, bytes: &[u8], typmod: i32) -> Result<Datum> {
    let envelope = Envelope::parse(bytes)?;
    value::require_type(&envelope, plaintext_type)?;
    let field_id = envelope.header().field_id;
    if typmod >= 0 && (field_id.is_none() || field_id.handle() != typmod) {
        return Err(Error::FieldMismatch(describe(field_id), describe_handle(typmod)));
    }
    if typmod >= 0 {
        value::require_newest_tokens(&envelope)?;
    }
    Ok(NewVarlena::of(bytes))
}

/// Whether bytes that a client sent are an envelope, and not a plain value in binary form.
fn is_envelope(plaintext_type: PlaintextType, bytes: &[u8]) -> bool {
    let begins = bytes.starts_with(&[MAGIC, FORMAT]);
    match plaintext_type {
        // a plain value can begin like that: bytes of any kind, and numbers of a fixed size
        PlaintextType::Bytea => begins && Envelope::parse(bytes).is_ok(),
        _ => begins && plaintext_type.length().is_none_or(|length| bytes.len() > length),
    }
}

/// `encrypted_…_in(cstring, oid, integer)`
#[pg_extern(sql = false)]
fn encrypted_in(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let text = encoding::to_utf8(call.cstring(0).to_bytes())?;
    Ok(Answer::datum(from_text(declared::plaintext_type(&call)?, &text, call.int(2))?))
}

/// `encrypted_…_out(encrypted_…)`
#[pg_extern(sql = false)]
fn encrypted_out(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Answer::ascii_cstring(&envelope::to_text(Call::new(fcinfo).bytes(0)))
}

/// `encrypted_…_recv(internal, oid, integer)`
#[pg_extern(sql = false)]
fn encrypted_recv(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let plaintext_type = declared::plaintext_type(&call)?;
    let message: *mut pg_sys::StringInfoData = call.pointer(0);
    // SAFETY: PostgreSQL passes the message, with the cursor inside it
    let bytes = unsafe {
        let start = (*message).data.add((*message).cursor as usize).cast::<u8>();
        std::slice::from_raw_parts(start, ((*message).len - (*message).cursor) as usize)
    };
    if is_envelope(plaintext_type, bytes) {
        if !accepts_envelopes() {
            return Err(Error::EnvelopeRefused.into());
        }
        let sealed = from_envelope(plaintext_type, bytes, call.int(2))?;
        // SAFETY: as above; what was read is taken from the message
        unsafe { (*message).cursor = (*message).len };
        return Ok(Answer::datum(sealed));
    }
    if plaintext_type == PlaintextType::Text {
        let sealed = from_text(plaintext_type, &encoding::from_client(bytes)?, call.int(2))?;
        // SAFETY: as above
        unsafe { (*message).cursor = (*message).len };
        return Ok(Answer::datum(sealed));
    }
    // SAFETY: as above
    let canonical = unsafe { native::from_message(plaintext_type, message)? };
    Ok(Answer::datum(from_plaintext(canonical.plaintext()?, call.int(2))?))
}

/// `encrypted_…_send(encrypted_…)`
#[pg_extern(sql = false)]
fn encrypted_send(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Answer::datum(NewVarlena::of(Call::new(fcinfo).bytes(0)))
}
