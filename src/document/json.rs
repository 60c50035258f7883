//! Between JSON values and the text that is sealed: a string as text, anything else as JSON text
//! (PostgreSQL's own, so that numbers keep their digits).

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_document::jsonb::{Container, Kind, Value};
use fieldcrypt_document::rewrite::{Node, document_of, give_back};
use pgrx::pg_sys::{self, Datum, Oid};
use zeroize::{Zeroize, Zeroizing};

use crate::call::{NewVarlena, varlena_bytes};
use crate::datatype::native;
use crate::encoding;
use crate::error::{Error, Result};

/// A JSON value as it is sealed.
pub struct Plain<'a> {
    pub text: Cow<'a, str>,
    pub plaintext_type: PlaintextType,
}

impl Drop for Plain<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.text {
            text.zeroize();
        }
    }
}

impl Plain<'_> {
    /// As a value to be sealed.
    pub fn plaintext(&self) -> Plaintext<'_> {
        match self.plaintext_type {
            PlaintextType::Json => Plaintext::json(&self.text),
            _ => Plaintext::text(&self.text),
        }
    }
}

/// A JSON value as it is sealed.
pub fn plain(value: Value<'_>) -> Result<Plain<'_>> {
    let json = |text| Plain { text, plaintext_type: PlaintextType::Json };
    Ok(match value {
        Value::String(text) => {
            Plain { text: encoding::to_utf8(text)?, plaintext_type: PlaintextType::Text }
        }
        Value::Null => json(Cow::Borrowed("null")),
        Value::Bool(true) => json(Cow::Borrowed("true")),
        Value::Bool(false) => json(Cow::Borrowed("false")),
        Value::Number(numeric) => json(Cow::Owned(number_text(numeric)?)),
        Value::Container(container) => json(Cow::Owned(document_text(container)?)),
    })
}

fn number_text(numeric: &[u8]) -> Result<String> {
    // its own copy, aligned as a datum has to be
    let memory = crate::backend::allocate(numeric.len()).cast::<u8>();
    // SAFETY: that much was allocated; the bytes are those of a numeric, header included
    unsafe {
        memory.copy_from_nonoverlapping(numeric.as_ptr(), numeric.len());
        output(pg_sys::F_NUMERIC_OUT, Datum::from(memory))
    }
}

/// A document, or a part of one, as JSON text.
pub fn document_text(container: Container<'_>) -> Result<String> {
    // SAFETY: the bytes are those of a jsonb
    unsafe { output(pg_sys::F_JSONB_OUT, NewVarlena::of(container.as_bytes())) }
}

/// What an output function prints of a datum.
///
/// # Safety
/// `function` is the output function of the datum's type.
pub unsafe fn output(function: u32, datum: Datum) -> Result<String> {
    // SAFETY: the caller's; an output function returns a NUL-terminated text
    let text = unsafe { CStr::from_ptr(pg_sys::OidOutputFunctionCall(Oid::from(function), datum)) };
    Ok(encoding::to_utf8(text.to_bytes())?.into_owned())
}

/// A value as it stands in a document: as PostgreSQL makes JSON of its type.
pub fn node(plaintext: Plaintext<'_>) -> Result<Node> {
    let text = plaintext.as_text();
    let is_json = match plaintext.plaintext_type() {
        PlaintextType::Json | PlaintextType::Bigint | PlaintextType::Boolean => true,
        // NaN and Infinity are no JSON numbers
        PlaintextType::Numeric => text.ends_with(|c: char| c.is_ascii_digit()),
        _ => false,
    };
    if is_json {
        let document = parse(&text)?;
        // SAFETY: a jsonb that was just made
        let container = Container::new(unsafe { varlena_bytes(document) })?;
        return Ok(Node::from_document(container)?);
    }
    Ok(Node::String(encoding::convert_to_server(&text)))
}

/// JSON text as jsonb. PostgreSQL's own error would show the text in its context.
pub fn parse(text: &str) -> Result<Datum> {
    let text = CString::new(encoding::convert_to_server(text)).map_err(|_| Error::InvalidText)?;
    native::input(PlaintextType::Json, &text)
}

/// JSON text as the bytes of a jsonb.
pub fn document(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let document = parse(text)?;
    // SAFETY: a jsonb that was just made
    Ok(Zeroizing::new(unsafe { varlena_bytes(document) }.to_vec()))
}

/// JSON text as it is sealed: the way in which PostgreSQL prints jsonb.
pub fn canonical(text: &str) -> Result<String> {
    // SAFETY: a jsonb that was just made
    unsafe { output(pg_sys::F_JSONB_OUT, parse(text)?) }
}

/// A document as it was made anew.
pub fn rewritten(document: Zeroizing<Vec<u8>>) -> Datum {
    let datum = NewVarlena::of(&document);
    give_back(document);
    datum
}

/// A JSON value as a document of its own.
pub fn datum(node: &Node) -> Datum {
    NewVarlena::of(&document_of(node))
}

/// Whether a document is an object.
pub fn is_object(container: Container<'_>) -> bool {
    matches!(container.kind(), Kind::Object)
}
