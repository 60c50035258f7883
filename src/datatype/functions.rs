//! The functions that users call by name.

use fieldcrypt_core::envelope::Envelope;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::{By, Field};
use crate::catalog::key::StoredKey;
use crate::document::open::{self, Reading};
use crate::document::search;
use crate::error::Result;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// The account of an argument, or the session's.
fn with_account<T>(call: &Call, index: usize, work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    match call.optional_text(index)? {
        Some(account) => work(&account),
        None => value::session_account(work),
    }
}

/// `encrypt(value text, field text, account text) → encrypted_text`
#[pg_extern(sql = false)]
fn encrypt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let field = call.required_text(1, "the field")?;
    let Some(text) = call.optional_text(0)? else { return Ok(Answer::NULL) };
    let sealed = with_account(&call, 2, |account| value::seal(&text, By::Name(&field), account))?;
    Ok(Answer::datum(sealed))
}

/// `decrypt(encrypted_text) → text`
#[pg_extern(sql = false)]
fn decrypt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(Answer::datum(value::decrypt(Call::new(fcinfo).bytes(0))?))
}

/// `reveal(encrypted_text) → text`
#[pg_extern(sql = false)]
fn reveal(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(value::reveal(Call::new(fcinfo).bytes(0))?.map_or(Answer::NULL, Answer::datum))
}

/// `decrypt(encrypted_jsonb) → jsonb`
#[pg_extern(sql = false)]
fn decrypt_jsonb(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(Answer::datum(open::value(Call::new(fcinfo).bytes(0), Reading::Decrypt)?))
}

/// `reveal(encrypted_jsonb) → jsonb`
#[pg_extern(sql = false)]
fn reveal_jsonb(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(Answer::datum(open::value(Call::new(fcinfo).bytes(0), Reading::Reveal)?))
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

/// `account_of(encrypted_text) → text`; NULL for a value in transit, or whose key is not here.
#[pg_extern(sql = false)]
fn account_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    if envelope.in_transit() {
        return Ok(Answer::NULL);
    }
    let key = StoredKey::find(envelope.header().key_id)?;
    Ok(key.map_or(Answer::NULL, |key| Answer::text(&key.account)))
}

/// `field_of(encrypted_text) → text`; NULL for a value without a field, or of a field that the
/// catalog does not know.
#[pg_extern(sql = false)]
fn field_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    let field = Field::find(By::Id(envelope.header().field_id))?;
    Ok(field.map_or(Answer::NULL, |field| Answer::text(&field.name)))
}

/// `key_of(encrypted_text) → bigint`: the id of the key that sealed it.
#[pg_extern(sql = false)]
fn key_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(crate::error::Error::from)?;
    Ok(envelope.header().key_id.number().cast_signed().into())
}
