//! What older keys of an account have sealed, or made tokens of, sealed anew under those that it has
//! now.
//!
//! Invariant: nothing else of a value changes. Account, field and type are those of its envelope,
//! which opening it has authenticated, and so are its tokens, unless they are under an older index
//! key; the plain value goes nowhere. So it takes the right to encrypt, and none to read.

use fieldcrypt_core::envelope::{
    self, Envelope, FIXED_HEADER_LENGTH, Flags, Header, PlaintextType, is_reserved_text,
};
use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::key::KeyId;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::token::{self, Kind};
use fieldcrypt_document::jsonb::{Container, Value, strings};
use fieldcrypt_document::rewrite::{Change, Node, Step, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use crate::access::Privilege;
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::By;
use crate::document::at::Located;
use crate::document::open::may_hold_envelopes;
use crate::document::search::header_of_text;
use crate::document::{blob, json};
use crate::error::{Error, Result};
use crate::keyring::sealer::Sealer;
use crate::keyring::{OpenKey, cache};
use crate::value::{self, NewValue};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `reencrypt(encrypted_…) → encrypted_…`
#[pg_extern(sql = false)]
fn reencrypt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let sealed = value_anew(call.bytes(0))?;
    Ok(Answer::datum(sealed.map_or(call.datum(0), |sealed| NewVarlena::of(&sealed))))
}

/// `reencrypt(document jsonb) → jsonb`: each envelope in it.
#[pg_extern(sql = false)]
fn reencrypt_document(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let Some(mut document) = document_anew(container)? else {
        return Ok(Answer::datum(call.datum(0)));
    };
    let datum = NewVarlena::of(&document);
    // nothing to wipe
    document.clear();
    Ok(Answer::datum(datum))
}

/// `needs_reencryption(encrypted_…) → boolean`: whether an older key has sealed it, or made its
/// tokens.
#[pg_extern(sql = false)]
fn needs_reencryption(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = value::stored(call.bytes(0))?;
    Ok((is_older_value(&envelope)? || gathers_older(&envelope)?).into())
}

/// `needs_reencryption(document jsonb) → boolean`: whether an older key has sealed something in it, or
/// made its tokens.
#[pg_extern(sql = false)]
fn document_needs_reencryption(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    Ok(holds_older(Container::new(call.bytes(0)).map_err(Error::from)?)?.into())
}

/// Whether the data key of a header, or an index key of its tokens, is an older one.
fn is_older(key: KeyId, sections: &[u8]) -> Result<bool> {
    if cache::is_superseded(key)? {
        return Ok(true);
    }
    has_older_tokens(sections)
}

fn has_older_tokens(sections: &[u8]) -> Result<bool> {
    let mut last = None;
    for token in token::tokens(sections) {
        // the tokens of one index key stand together
        if last.replace(token.key_id) != Some(token.key_id) && cache::is_superseded(token.key_id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_older_value(envelope: &Envelope<'_>) -> Result<bool> {
    is_older(envelope.header().key_id, envelope.token_sections())
}

fn holds_older(document: Container<'_>) -> Result<bool> {
    let mut found = false;
    if may_hold_envelopes(document) {
        strings(document, |text| {
            if found || !is_reserved_text(text) {
                return Ok(());
            }
            let bytes = header_of_text(text)?;
            let (header, length) = Header::read(&bytes)?;
            if header.flags.contains(Flags::TRANSIT) {
                return Err(Error::Transit);
            }
            let sections = bytes.get(FIXED_HEADER_LENGTH..length).unwrap_or_default();
            found = is_older(header.key_id, sections)?;
            Ok(())
        })?;
    }
    Ok(found)
}

/// Whether a value is the blob of a document, and something in it is under an older key than its own.
fn gathers_older(envelope: &Envelope<'_>) -> Result<bool> {
    if !may_gather(envelope) {
        return Ok(false);
    }
    match gathered(&opened(&*value::key_of(envelope)?, envelope)?)? {
        Some(document) => holds_older(Container::new(&document)?),
        None => Ok(false),
    }
}

/// The envelope of the same value under the account's keys of now; `None` if there is nothing to do.
fn value_anew(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let envelope = value::stored(bytes)?;
    let is_older = is_older_value(&envelope)?;
    if !is_older && !may_gather(&envelope) {
        return Ok(None);
    }
    let key = value::key_of(&envelope)?;
    let plaintext = opened(&key, &envelope)?;
    let content = match may_gather(&envelope) {
        true => content_anew(&plaintext)?,
        false => None,
    };
    match content {
        Some(content) => {
            let content = Container::new(&content)?;
            let text = Zeroizing::new(json::document_text(content)?);
            // a blob is found by what is gathered in it
            let is_blob = envelope.tokens().any(|token| token.kind == Kind::Member as u8);
            let sections = if is_blob { blob::sections(content)? } else { Vec::new() };
            sealed(&key, &envelope, text.as_bytes(), &sections).map(Some)
        }
        None if is_older => sealed_with_tokens(&key, &envelope, &plaintext).map(Some),
        None => Ok(None),
    }
}

/// JSON text as a document with the envelopes in it sealed anew; `None` if there is nothing to do.
fn content_anew(plaintext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match gathered(plaintext)? {
        Some(document) => document_anew(Container::new(&document)?),
        None => Ok(None),
    }
}

fn document_anew(document: Container<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    rewrite(document, (), &mut Reencrypt).map_err(Located::of_any)
}

/// Only JSON can have envelopes inside: the blob of a document, which has a key of its own.
fn may_gather(envelope: &Envelope<'_>) -> bool {
    envelope.header().plaintext_type == PlaintextType::Json && !envelope.is_token_only()
}

/// JSON text as a document, if there may be an envelope in it.
fn gathered(plaintext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    if memchr::memmem::find(plaintext, b"\"fc").is_none() {
        return Ok(None);
    }
    json::document(std::str::from_utf8(plaintext).map_err(|_| OpenError)?).map(Some)
}

/// The plaintext; of a value that is not kept, nothing.
fn opened(key: &OpenKey, envelope: &Envelope<'_>) -> Result<Zeroizing<Vec<u8>>> {
    let mut plaintext = Zeroizing::new(vec![0; envelope.ciphertext().len()]);
    let length = key.key.open(envelope, &mut plaintext)?;
    plaintext.truncate(length);
    Ok(plaintext)
}

/// What was opened of an envelope, with its tokens under the index key that the account has now.
fn sealed_with_tokens(key: &OpenKey, envelope: &Envelope<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
    if !has_older_tokens(envelope.token_sections())? {
        return sealed(key, envelope, plaintext, envelope.token_sections());
    }
    let header = envelope.header();
    let sealer = Sealer::to_encrypt(By::Id(header.field_id), &key.account)?;
    if envelope.is_token_only() {
        return Err(Error::TokensCannotBeMade(sealer.field().name.clone()));
    }
    let value = Plaintext::new(header.plaintext_type, plaintext).ok_or(OpenError)?;
    sealed(key, envelope, plaintext, value::sections(&sealer, value)?.as_bytes())
}

/// What was opened of an envelope, under the data key that the account has now, with these tokens,
/// for whoever may encrypt.
fn sealed(
    key: &OpenKey,
    envelope: &Envelope<'_>,
    plaintext: &[u8],
    sections: &[u8],
) -> Result<Vec<u8>> {
    // only the key of values in transit has none
    let field = key.field.as_deref().ok_or(Error::Transit)?;
    let newest = cache::to_seal(&key.account, field)?;
    newest.require(Privilege::Encrypt)?;
    let value = NewValue::again(&newest, field, envelope, plaintext, sections)?;
    let mut bytes = vec![0; value.length];
    value.seal(&mut bytes)?;
    Ok(bytes)
}

/// Seals the envelopes in a document anew that are under an older key.
struct Reencrypt;

impl Transform for Reencrypt {
    type State = ();
    type Error = Located;

    fn key(&mut self, (): &(), _key: &[u8]) -> std::result::Result<Option<()>, Located> {
        Ok(Some(()))
    }

    fn element(&mut self, (): &(), _index: usize) -> std::result::Result<Option<()>, Located> {
        Ok(Some(()))
    }

    fn value(&mut self, (): (), value: Value<'_>) -> std::result::Result<Change<()>, Located> {
        match value {
            Value::String(text) if is_reserved_text(text) => Ok(text_anew(text)?),
            Value::Container(container) if may_hold_envelopes(container) => Ok(Change::Enter(())),
            _ => Ok(Change::Keep),
        }
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}

fn text_anew(text: &[u8]) -> Result<Change<()>> {
    let bytes = envelope::from_text(text)?;
    let envelope = value::stored(&bytes)?;
    if !is_older_value(&envelope)? {
        return Ok(Change::Keep);
    }
    let key = value::key_of(&envelope)?;
    let sealed = sealed_with_tokens(&key, &envelope, &opened(&key, &envelope)?)?;
    Ok(Change::Replace(Node::String(envelope::to_text(&sealed).into_bytes())))
}
