//! The functions that users call by name.

use fieldcrypt_core::envelope::{Envelope, PlaintextType};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::input::accepts_envelopes;
use super::{declared, native};
use crate::audit::statement::{Entity, with_entity};
use crate::call::{Answer, Call, NewVarlena, map_array, varlena_bytes};
use crate::catalog::family::native;
use crate::catalog::field::{By, Field};
use crate::document::open::{self, Reading};
use crate::document::search;
use crate::error::{Error, Result};
use crate::keyring::cache;
use crate::{transparent, value};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `encrypt(value native, field text, account text) → encrypted_…`
#[pg_extern(sql = false)]
fn encrypt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let field = call.required_text(1, "the field")?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    // SAFETY: the declaration says that the argument is of the type's native type
    let canonical = unsafe { native::from_datum(declared::plaintext_type(&call)?, call.datum(0))? };
    let plaintext = canonical.plaintext()?;
    let field = By::Name(&field);
    let sealed = value::with_account(&call, 2, |account| value::seal(plaintext, field, account))?;
    Ok(Answer::datum(sealed))
}

/// `decrypt(encrypted_…) → native`
#[pg_extern(sql = false)]
fn decrypt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let plain = read(call.bytes(0), declared::plaintext_type(&call)?, Reading::Decrypt)?;
    Ok(plain.map_or(Answer::NULL, Answer::datum))
}

/// `reveal(encrypted_…) → native`
#[pg_extern(sql = false)]
fn reveal(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let bytes = call.bytes(0);
    let plaintext_type = declared::plaintext_type(&call)?;
    let shown = match read(bytes, plaintext_type, Reading::Reveal) {
        Err(Error::Transit) if transparent::may_be_added(&call) => {
            Some(given(bytes, plaintext_type)?)
        }
        shown => shown?,
    };
    Ok(shown.map_or(Answer::NULL, Answer::datum))
}

/// `decrypt(encrypted_…, entity text) → native`
#[pg_extern(sql = false)]
fn decrypt_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of(Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(encrypted_…, entity text) → native`
#[pg_extern(sql = false)]
fn reveal_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of(Call::new(fcinfo), Reading::Reveal)
}

/// `decrypt(encrypted_…, entity "any") → native`
#[pg_extern(sql = false)]
fn decrypt_of_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of_key(Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(encrypted_…, entity "any") → native`
#[pg_extern(sql = false)]
fn reveal_of_key(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of_key(Call::new(fcinfo), Reading::Reveal)
}

fn read_of(call: Call, reading: Reading) -> Answered {
    let entity = Entity::text(&call.text(1)?)?;
    read_with(entity, call, reading)
}

fn read_of_key(call: Call, reading: Reading) -> Answered {
    let entity = Entity::Key { kind: call.argument_type(1), value: call.datum(1) };
    read_with(entity, call, reading)
}

fn read_with(entity: Entity, call: Call, reading: Reading) -> Answered {
    let plaintext_type = declared::plaintext_type(&call)?;
    let read = || read(call.bytes(0), plaintext_type, reading);
    Ok(with_entity(entity, read)?.map_or(Answer::NULL, Answer::datum))
}

/// A literal or parameter of the client's own statement, such as `COALESCE(ssn, $1)`, goes back to it
/// as it came.
fn given(bytes: &[u8], plaintext_type: PlaintextType) -> Result<Datum> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header();
    let is_given = header.field_id.is_none() && header.plaintext_type == plaintext_type;
    // who may put envelopes in could have it from anywhere
    if !is_given || accepts_envelopes() {
        return Err(Error::Transit);
    }
    native::datum(value::open_in_transit(&envelope)?.plaintext()?)
}

/// A stored value as it is read; `None` is SQL NULL.
pub fn read(
    bytes: &[u8],
    plaintext_type: PlaintextType,
    reading: Reading,
) -> Result<Option<Datum>> {
    match (plaintext_type, reading) {
        (PlaintextType::Json, reading) => open::value(bytes, reading),
        (_, Reading::Decrypt) => value::decrypt(bytes, plaintext_type).map(Some),
        (_, Reading::Reveal) => value::reveal(bytes, plaintext_type),
    }
}

/// `decrypt(encrypted_…[]) → native[]`
#[pg_extern(sql = false)]
fn decrypt_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_array(Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(encrypted_…[]) → native[]`
#[pg_extern(sql = false)]
fn reveal_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_array(Call::new(fcinfo), Reading::Reveal)
}

fn read_array(call: Call, reading: Reading) -> Answered {
    let plaintext_type = declared::plaintext_type(&call)?;
    // SAFETY: the declaration says an array of the encrypted type, which is a varlena, and what
    // is read of an element is of the native type
    let array = unsafe {
        map_array(call.datum(0), native(plaintext_type), |element| {
            read(varlena_bytes(element), plaintext_type, reading)
        })?
    };
    Ok(Answer::datum(array))
}

/// `blind_index(value text, field text, account text) → bytea`: the 16 bytes of the token.
#[pg_extern(sql = false)]
fn blind_index(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let field = call.required_text(1, "the field")?;
    let Some(text) = call.optional_text(0)? else { return Ok(Answer::NULL) };
    let token = search::search_token(&call, &field, &text, 2)?;
    Ok(Answer::datum(NewVarlena::of(&token.token)))
}

/// `account_of(encrypted_…) → text`; NULL for a value in transit, or whose key is not here.
#[pg_extern(sql = false)]
fn account_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    if envelope.in_transit() {
        return Ok(Answer::NULL);
    }
    let account = cache::account_of(envelope.header().key_id)?;
    Ok(Answer::optional_text(account.as_deref()))
}

/// `field_of(encrypted_…) → text`; NULL for a value without a field, or of a field that the
/// catalog does not know.
#[pg_extern(sql = false)]
fn field_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    let field = Field::find(By::Id(envelope.header().field_id))?;
    Ok(field.map_or(Answer::NULL, |field| Answer::text(&field.name)))
}

/// `key_of(encrypted_…) → bigint`: the id of the key that sealed it.
#[pg_extern(sql = false)]
fn key_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    Ok(envelope.header().key_id.number().cast_signed().into())
}
