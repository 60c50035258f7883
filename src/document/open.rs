//! Reading: each envelope in a document becomes what the current user may see of its value.

use fieldcrypt_core::envelope::{self, PlaintextType, is_reserved_text};
use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::mask::HIDDEN;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::path::{Path, PathStep};
use fieldcrypt_document::rewrite::{Node, array, document_of};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use super::everywhere::rewrite_envelopes;
use super::{json, masked};
use crate::access::Privilege;
use crate::audit::statement::{self, Action, Entity, Outcome, with_entity};
use crate::call::{Answer, Call, NewVarlena};
use crate::encoding;
use crate::error::{Error, Result};
use crate::value::{self, Reader, Shown};

type Answered = std::result::Result<Answer, ErrorReport>;

/// How values are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The plain value, or an error.
    Decrypt,
    /// The plain value, its mask, or what stands for it.
    Reveal,
}

/// `decrypt(jsonb) → jsonb`
#[pg_extern(sql = false)]
fn decrypt_document(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read(Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(jsonb) → jsonb`
#[pg_extern(sql = false)]
fn reveal_document(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read(Call::new(fcinfo), Reading::Reveal)
}

/// `reveal(jsonb, entity text) → jsonb`
#[pg_extern(sql = false)]
fn reveal_document_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let entity = Entity::text(&call.text(1)?)?;
    Ok(with_entity(entity, || read_whole(&call, Reading::Reveal))?)
}

fn read(call: Call, reading: Reading) -> Answered {
    Ok(read_whole(&call, reading)?)
}

fn read_whole(call: &Call, reading: Reading) -> Result<Answer> {
    let container = Container::new(call.bytes(0))?;
    Ok(Answer::datum(document(container, reading)?.unwrap_or_else(|| call.datum(0))))
}

/// A value of type `encrypted_jsonb` as it is read, with the values inside it; `None` is SQL NULL.
pub fn value(bytes: &[u8], reading: Reading) -> Result<Option<Datum>> {
    let text = envelope::to_text(bytes);
    let node = open(text.as_bytes(), reading)?.unwrap_or(Node::String(text.into_bytes()));
    match &node {
        Node::Container(bytes) => {
            let read = document(Container::new(bytes)?, reading)?;
            Ok(Some(read.unwrap_or_else(|| NewVarlena::of(bytes))))
        }
        // written back, JSON null would be a value
        Node::Null if reading == Reading::Reveal && masked::is_shown_as_null(bytes) => Ok(None),
        node => Ok(Some(json::datum(node))),
    }
}

/// A document with its values as they are read; `None` if it holds none.
pub fn document(container: Container<'_>, reading: Reading) -> Result<Option<Datum>> {
    Ok(read_everywhere(container, reading)?.map(json::rewritten))
}

/// The document with its values as they are read; `None` if it holds none.
fn read_everywhere(
    document: Container<'_>,
    reading: Reading,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    rewrite_envelopes(document, |text| open(text, reading))
}

/// `decrypt(document jsonb, path text) → jsonb`
#[pg_extern(sql = false)]
fn decrypt_at_path(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(read_at_path(&Call::new(fcinfo))?)
}

/// `decrypt(document jsonb, path text, entity text) → jsonb`; without a path the whole document.
#[pg_extern(sql = false)]
fn decrypt_at_path_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    let read = || {
        if call.is_null(1) { read_whole(&call, Reading::Decrypt) } else { read_at_path(&call) }
    };
    Ok(with_entity(Entity::text(&call.required_text(2, "the entity")?)?, read)?)
}

fn read_at_path(call: &Call) -> Result<Answer> {
    let path = call.text(1)?;
    let path: Path = path.parse().map_err(|error: fieldcrypt_document::path::PathError| {
        Error::InvalidArgument { name: "path", hint: error.to_string() }
    })?;
    let container = Container::new(call.bytes(0))?;
    let mut values = at_path(container.root()?, path.steps())?;
    if path.steps().contains(&PathStep::Each) || values.len() > 1 {
        return Ok(Answer::datum(json::datum(&array(values)?)));
    }
    Ok(values.pop().map_or(Answer::NULL, |value| Answer::datum(json::datum(&value))))
}

/// The plain values to which the steps of a path lead, also into a value that is sealed as a whole.
fn at_path(value: Value<'_>, steps: &[PathStep]) -> Result<Vec<Node>> {
    let mut found = vec![value];
    let mut nodes = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let mut open = Vec::new();
        for value in found {
            match value {
                Value::String(text) if is_reserved_text(text) => {
                    let plain = document_of(&node_of(value, Reading::Decrypt)?);
                    nodes.extend(at_path(Container::new(&plain)?.root()?, &steps[index..])?);
                }
                _ => open.push(value),
            }
        }
        found = follow(open, step)?;
    }
    for value in found {
        nodes.push(node_of(value, Reading::Decrypt)?);
    }
    Ok(nodes)
}

/// The values to which a step leads: a key looks into arrays too, and `[*]` takes what is no array
/// for itself.
fn follow<'a>(values: Vec<Value<'a>>, step: &PathStep) -> Result<Vec<Value<'a>>> {
    let mut found = Vec::new();
    let mut open = values;
    open.reverse();
    while let Some(value) = open.pop() {
        match (step, value) {
            (PathStep::Each, Value::Container(container)) if value.is_array() => {
                for element in container.elements() {
                    found.push(element?);
                }
            }
            (PathStep::Each, value) => found.push(value),
            (PathStep::Key(_), Value::Container(container)) if value.is_array() => {
                let elements = container.elements().collect::<std::result::Result<Vec<_>, _>>()?;
                open.extend(elements.into_iter().rev());
            }
            (PathStep::Key(key), Value::Container(container)) => {
                found.extend(container.get(&encoding::convert_to_server(key))?);
            }
            (PathStep::Key(_), _) => {}
        }
    }
    Ok(found)
}

/// A value as it is read.
fn node_of(value: Value<'_>, reading: Reading) -> Result<Node> {
    match value {
        Value::String(text) if is_reserved_text(text) => {
            Ok(open(text, reading)?.unwrap_or_else(|| Node::String(text.to_vec())))
        }
        Value::Container(container) => {
            let read = read_everywhere(container, reading)?;
            Ok(match read {
                Some(read) => Node::from_document(Container::new(&read)?)?,
                None => Node::Container(container.as_bytes().to_vec()),
            })
        }
        Value::Null => Ok(Node::Null),
        Value::Bool(value) => Ok(Node::Bool(value)),
        Value::Number(bytes) => Ok(Node::Number(bytes.to_vec())),
        Value::String(text) => Ok(Node::String(text.to_vec())),
    }
}

/// What is read in place of an envelope; `None` if the envelope itself.
pub fn open(text: &[u8], reading: Reading) -> Result<Option<Node>> {
    let bytes = envelope::from_text(text)?;
    let envelope = value::stored(&bytes)?;
    let plain = match reading {
        Reading::Decrypt => {
            let key = value::key_of(&envelope)?;
            key.require(Privilege::Decrypt)?;
            statement::read(&key, Action::Decrypt, Outcome::Plain)?;
            value::open(&key, &envelope)?
        }
        Reading::Reveal => match value::show(&envelope, Reader::User)? {
            Shown::Plain(plain) => plain,
            // a mask makes a text of JSON
            Shown::Masked(masked) => {
                let plaintext_type = match envelope.header().plaintext_type {
                    PlaintextType::Json => PlaintextType::Text,
                    other => other,
                };
                let masked = Plaintext::new(plaintext_type, &masked).ok_or(OpenError)?;
                return json::node(masked).map(Some);
            }
            Shown::Null => return Ok(Some(Node::Null)),
            Shown::Hidden => return Ok(Some(Node::String(HIDDEN.as_bytes().to_vec()))),
            Shown::Ciphertext => return Ok(None),
        },
    };
    json::node(plain.plaintext()?).map(Some)
}
