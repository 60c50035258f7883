//! Values of one's own, and documents made of them.

use std::fmt;

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::jsonb::{ARRAY, Container, MAXIMUM_LENGTH, Malformed, OBJECT, SCALAR, Value, WORD};
use crate::output::{Head, Output, wipe};

/// A value of its own. Wiped when dropped; `Debug` does not show its bytes.
#[derive(PartialEq, Eq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A numeric with its own varlena header, without padding.
    Number(Vec<u8>),
    /// The bytes of a string, without NUL, in the database's encoding.
    String(Vec<u8>),
    /// An object or array as it is stored, from its header word on. A raw scalar stands for its
    /// scalar.
    Container(Vec<u8>),
}

impl Node {
    /// A copy of a document.
    ///
    /// # Errors
    /// [`Malformed::Format`] if it is a single scalar that cannot be read.
    pub fn from_document(document: Container<'_>) -> Result<Self, Malformed> {
        Ok(match document.root()? {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(bytes) => Self::Number(bytes.to_vec()),
            Value::String(bytes) => Self::String(bytes.to_vec()),
            Value::Container(container) => Self::Container(container.as_bytes().to_vec()),
        })
    }

    /// The value as it can be read.
    ///
    /// # Errors
    /// [`Malformed::Format`] if the container's bytes are none, [`Malformed::TooLong`] if they, the
    /// string or the number are longer than a document can be.
    #[inline]
    pub fn value(&self) -> Result<Value<'_>, Malformed> {
        let (bytes, value) = match self {
            Self::Null => return Ok(Value::Null),
            Self::Bool(value) => return Ok(Value::Bool(*value)),
            Self::Number(bytes) => (bytes, Value::Number(bytes)),
            Self::String(bytes) => (bytes, Value::String(bytes)),
            Self::Container(bytes) => (bytes, Container::new(bytes)?.root()?),
        };
        if bytes.len() > MAXIMUM_LENGTH { Err(Malformed::TooLong) } else { Ok(value) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Self::Number(bytes) | Self::String(bytes) | Self::Container(bytes) = self {
            wipe(bytes);
        }
    }
}

impl ZeroizeOnDrop for Node {}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Null => return f.write_str("Null"),
            Self::Bool(_) => return f.write_str("Bool(..)"),
            Self::Number(bytes) => ("Number", bytes),
            Self::String(bytes) => ("String", bytes),
            Self::Container(bytes) => ("Container", bytes),
        };
        write!(f, "{name}(.. {} bytes)", bytes.len())
    }
}

/// The document of one value: the bytes of a jsonb datum after its varlena header of 4 bytes.
///
/// The caller sees to it that [`Node::value`] has no complaint: a string or number of more than
/// [`MAXIMUM_LENGTH`] less 8 bytes would be cut.
pub fn document_of(node: &Node) -> Zeroizing<Vec<u8>> {
    let value = match node {
        Node::Null => Value::Null,
        Node::Bool(value) => Value::Bool(*value),
        Node::Number(bytes) => Value::Number(bytes),
        Node::String(bytes) => Value::String(bytes),
        Node::Container(bytes) => return Zeroizing::new(bytes.clone()),
    };
    let data = 2 * WORD;
    let mut output = match value {
        Value::Number(bytes) | Value::String(bytes) => Output::with_capacity(data + bytes.len()),
        _ => Output::with_capacity(data),
    };
    output.extend(&(ARRAY | SCALAR | 1).to_ne_bytes());
    output.extend(&[0; WORD]);
    let kind = output.value(value);
    output.entry(Head::new(0, data), 0, kind, data, output.len());
    output.finish()
}

/// An object of these pairs. Of a key that comes twice the last wins, as in PostgreSQL.
///
/// # Errors
/// [`Malformed::Format`] if a container's bytes are none, [`Malformed::TooLong`].
pub fn object(mut pairs: Vec<(Vec<u8>, Node)>) -> Result<Node, Malformed> {
    pairs.reverse();
    pairs.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    pairs.dedup_by(|(a, _), (b, _)| a == b);
    let mut output = Output::default();
    let mut open = output.open(OBJECT, pairs.len())?;
    for (key, _) in &pairs {
        output.child(&mut open, Value::String(key));
    }
    for (_, node) in &pairs {
        output.child(&mut open, node.value()?);
    }
    output.close(open)?;
    Ok(Node::Container(std::mem::take(&mut *output.finish())))
}

/// An array of these elements.
///
/// # Errors
/// [`Malformed::Format`] if a container's bytes are none, [`Malformed::TooLong`].
pub fn array(elements: Vec<Node>) -> Result<Node, Malformed> {
    let mut output = Output::default();
    let mut open = output.open(ARRAY, elements.len())?;
    for node in &elements {
        output.child(&mut open, node.value()?);
    }
    output.close(open)?;
    Ok(Node::Container(std::mem::take(&mut *output.finish())))
}
