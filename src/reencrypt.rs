//! What older keys of an account have sealed or made tokens of, or an older policy of a field, sealed
//! anew under those of now.
//!
//! Invariant: account, field and type are those of the envelope, which opening it has authenticated,
//! and so are the tokens, unless the index key or the policy asks for others; the plain value goes nowhere. So it
//! takes the right to encrypt, and none to read.

use fieldcrypt_core::envelope::{self, Envelope, PlaintextType, is_reserved_text};
use fieldcrypt_core::error::OpenError;
use fieldcrypt_document::jsonb::{Container, strings};
use fieldcrypt_document::rewrite::Node;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use crate::access::Privilege;
use crate::call::{Answer, Call, NewVarlena};
use crate::document::everywhere::{may_hold_envelopes, rewrite_envelopes};
use crate::document::{blob, json};
use crate::error::{Error, Result};
use crate::keyring::{OpenKey, cache};
use crate::policy;
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
    let document = document_anew(container)?;
    Ok(Answer::datum(document.map_or(call.datum(0), json::rewritten)))
}

/// `needs_reencryption(encrypted_…) → boolean`: whether an older key or policy has sealed it.
#[pg_extern(sql = false)]
fn needs_reencryption(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let envelope = value::stored(call.bytes(0))?;
    Ok((is_older(&envelope)? || gathers_older(&envelope)?).into())
}

/// `needs_reencryption(document jsonb) → boolean`: whether an older key or policy has sealed
/// something in it.
#[pg_extern(sql = false)]
fn document_needs_reencryption(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    Ok(holds_older(Container::new(call.bytes(0)).map_err(Error::from)?)?.into())
}

fn is_older(envelope: &Envelope<'_>) -> Result<bool> {
    Ok(cache::is_superseded(envelope.header().key_id)? || !policy::is_followed(envelope)?)
}

fn holds_older(document: Container<'_>) -> Result<bool> {
    let mut found = false;
    if may_hold_envelopes(document) {
        strings(document, |text| {
            if found || !is_reserved_text(text) {
                return Ok::<_, Error>(());
            }
            let bytes = envelope::from_text(text)?;
            found = is_older(&value::stored(&bytes)?)?;
            Ok(())
        })?;
    }
    Ok(found)
}

/// Whether a value is the blob of a document, and something in it is older than itself.
fn gathers_older(envelope: &Envelope<'_>) -> Result<bool> {
    if !may_gather(envelope) {
        return Ok(false);
    }
    match gathered(&opened(&*value::key_of(envelope)?, envelope)?)? {
        Some(document) => holds_older(Container::new(&document)?),
        None => Ok(false),
    }
}

/// The envelope of the same value under the key and the policy of now; `None` if there is nothing to
/// do.
fn value_anew(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let envelope = value::stored(bytes)?;
    let is_older = is_older(&envelope)?;
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
        Some(Content { text, sections }) => {
            sealed(&key, &envelope, &text, sections.as_deref()).map(Some)
        }
        None if is_older => sealed(&key, &envelope, &plaintext, None).map(Some),
        None => Ok(None),
    }
}

/// JSON text with the envelopes in it sealed anew.
struct Content {
    text: Zeroizing<Vec<u8>>,
    /// Of a blob its token sections, which are of what is in it.
    sections: Option<Vec<u8>>,
}

/// `None` if there is nothing to do.
fn content_anew(plaintext: &[u8]) -> Result<Option<Content>> {
    let Some(document) = gathered(plaintext)? else { return Ok(None) };
    let Some(document) = document_anew(Container::new(&document)?)? else { return Ok(None) };
    let document = Container::new(&document)?;
    let text = Zeroizing::new(json::document_text(document)?.into_bytes());
    Ok(Some(Content { text, sections: blob::sections_of(document)? }))
}

/// The document with what an older key or policy has sealed in it sealed anew; `None` if there is
/// nothing.
fn document_anew(document: Container<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    rewrite_envelopes(document, text_anew)
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

/// What was opened of an envelope, under the key and the policy of now, with these token sections or
/// those of the policy, for whoever may encrypt.
fn sealed(
    key: &OpenKey,
    envelope: &Envelope<'_>,
    plaintext: &[u8],
    sections: Option<&[u8]>,
) -> Result<Vec<u8>> {
    // only the key of values in transit has none
    let field = key.field.as_deref().ok_or(Error::Transit)?;
    let newest = cache::to_seal(&key.account, field)?;
    newest.require(Privilege::Encrypt)?;
    let sections = match sections {
        Some(sections) => sections.into(),
        None => policy::sections(envelope, field, &key.account, plaintext)?,
    };
    let value = NewValue::again(&newest, field, envelope, plaintext, &sections)?;
    let mut bytes = vec![0; value.length];
    value.seal(&mut bytes)?;
    Ok(bytes)
}

fn text_anew(text: &[u8]) -> Result<Option<Node>> {
    let bytes = envelope::from_text(text)?;
    let envelope = value::stored(&bytes)?;
    if !is_older(&envelope)? {
        return Ok(None);
    }
    let key = value::key_of(&envelope)?;
    let sealed = sealed(&key, &envelope, &opened(&key, &envelope)?, None)?;
    Ok(Some(Node::String(envelope::to_text(&sealed).into_bytes())))
}
