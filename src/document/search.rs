//! Tokens of documents and values: to index them, and to look them up.
//!
//! A document's tokens are a set of 64-bit numbers, each the start of a value's exact token. They
//! are read from the envelopes and need no key; what is looked for does.

use fieldcrypt_core::envelope::{
    self, Envelope, FIXED_HEADER_LENGTH, Header, TEXT_PREFIX, is_reserved_text,
};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::token::{self, Kind, MEMBER_TOKEN_LENGTH, Scope};
use fieldcrypt_document::jsonb::{Container, strings};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::check;
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::By;
use crate::catalog::grant::ALL;
use crate::error::{Error, Result};
use crate::keyring::sealer::Tokenizer;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// `tokens(jsonb) → bigint[]`
#[pg_extern(sql = false)]
fn document_tokens(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let mut tokens = Vec::new();
    if memchr::memmem::find(container.as_bytes(), TEXT_PREFIX.as_bytes()).is_some() {
        strings(container, |text| {
            if is_reserved_text(text) {
                collect(&header_of_text(text)?, &mut tokens);
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(bigints(tokens))
}

/// `tokens(encrypted_text) → bigint[]`, and of any other encrypted type.
#[pg_extern(sql = false)]
fn value_tokens(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let bytes = call.bytes(0);
    let (_, length) = Header::read(bytes).map_err(Error::from)?;
    let mut tokens = Vec::new();
    collect(bytes.get(..length).unwrap_or_default(), &mut tokens);
    Ok(bigints(tokens))
}

/// The header of an envelope in text form: the rest need not be decoded.
pub fn header_of_text(text: &[u8]) -> Result<Vec<u8>> {
    let (_, length) = check::header(text)?;
    let whole = text.get(..TEXT_PREFIX.len() + length.div_ceil(3) * 4).unwrap_or(text);
    let mut bytes = envelope::from_text(whole)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Adds the tokens by which a value can be found.
fn collect(header: &[u8], tokens: &mut Vec<i64>) {
    let sections = header.get(FIXED_HEADER_LENGTH..).unwrap_or_default();
    for token in token::tokens(sections) {
        if token.kind == Kind::Exact as u8 || token.kind == Kind::Member as u8 {
            tokens.extend(number(token.bytes));
        }
    }
}

fn number(token: &[u8]) -> Option<i64> {
    token.first_chunk::<MEMBER_TOKEN_LENGTH>().map(|start| i64::from_be_bytes(*start))
}

/// `search_tokens(field text, value text, account text) → bigint[]`: what to look for in
/// `tokens()`. Never empty.
#[pg_extern(sql = false)]
fn search_tokens(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let field = call.required_text(0, "the field")?;
    let Some(text) = call.optional_text(1)? else { return Ok(Answer::NULL) };
    let token = search_token(&call, &field, &text, 2)?;
    Ok(bigints(number(&token.token).into_iter().collect()))
}

/// `search_tokens_in_transit(field text, value encrypted_text, account text) → bigint[]`: the same for
/// a constant, which the planner seals, so that no plan shows it.
#[pg_extern(sql = false)]
fn search_tokens_in_transit(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let field = call.required_text(0, "the field")?;
    if call.is_null(1) {
        return Ok(Answer::NULL);
    }
    let opened = value::open_in_transit(&Envelope::parse(call.bytes(1)).map_err(Error::from)?)?;
    let token = search_token(&call, &field, opened.as_str()?, 2)?;
    Ok(bigints(number(&token.token).into_iter().collect()))
}

/// The token of a text in the account of the argument at `index`, in the session's, or (`*`) across
/// accounts.
pub fn search_token(
    call: &Call,
    field: &str,
    text: &str,
    index: usize,
) -> Result<token::IndexToken> {
    let field = By::Name(field);
    match call.optional_text(index)?.as_deref() {
        Some(ALL) => Tokenizer::to_search_everywhere(field)?.token(text),
        Some(account) => Tokenizer::to_search(field, account)?.token(text),
        None => value::session_account(|account| Tokenizer::to_search(field, account)?.token(text)),
    }
}

/// `token(document jsonb, field text, scope text) → bytea`: 16 bytes, for unique indexes.
#[pg_extern(sql = false)]
fn document_token(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let field = call.text(1)?;
    let (id, scope) = (FieldId::of(&field), scope(&call.text(2)?)?);
    let mut found: Option<Vec<u8>> = None;
    strings(container, |text| {
        if !is_reserved_text(text) {
            return Ok(());
        }
        let header = header_of_text(text)?;
        if Header::read(&header)?.0.field_id != id {
            return Ok(());
        }
        let Some(token) = equality_token(&header, scope) else { return Ok(()) };
        if found.as_ref().is_some_and(|found| *found != token) {
            return Err(Error::SeveralValues(field.to_string()));
        }
        found = Some(token);
        Ok::<_, Error>(())
    })?;
    Ok(found.map_or(Answer::NULL, |token| Answer::datum(NewVarlena::of(&token))))
}

/// `token(encrypted_text, scope text) → bytea`: 16 bytes.
#[pg_extern(sql = false)]
fn value_token(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = Envelope::parse(call.bytes(0)).map_err(Error::from)?;
    let token = equality_token(envelope.header_bytes(), scope(&call.text(1)?)?);
    Ok(token.map_or(Answer::NULL, |token| Answer::datum(NewVarlena::of(&token))))
}

fn equality_token(header: &[u8], scope: Scope) -> Option<Vec<u8>> {
    token::tokens(header.get(FIXED_HEADER_LENGTH..)?)
        .find(|token| token.is(Kind::Exact, scope) || token.is(Kind::Unique, scope))
        .map(|token| token.bytes.to_vec())
}

fn scope(name: &str) -> Result<Scope> {
    match name {
        "account" => Ok(Scope::Account),
        "database" => Ok(Scope::Database),
        _ => Err(Error::InvalidArgument {
            name: "scope",
            hint: "It is one of: account, database.".to_owned(),
        }),
    }
}

/// A set of numbers as bigint[], in ascending order.
fn bigints(mut numbers: Vec<i64>) -> Answer {
    numbers.sort_unstable();
    numbers.dedup();
    let mut datums: Vec<_> = numbers.into_iter().map(Datum::from).collect();
    // SAFETY: as many elements of int8, which is passed by value and has its length and alignment
    let array = unsafe {
        pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            pg_sys::INT8OID,
            8,
            true,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
        )
    };
    Answer::datum(Datum::from(array))
}
