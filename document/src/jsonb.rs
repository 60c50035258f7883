//! Reading PostgreSQL's stored jsonb.
//!
//! A container is a header word (flags and count), an entry word for each child (type and length),
//! and the children's data. An object's children are all its keys, sorted by length and then by
//! bytes, and after them the values in the same order.

use std::cmp::Ordering;
use std::{mem, slice};

use thiserror::Error;

/// Longest container, and longest string or number with its padding, in bytes.
pub const MAXIMUM_LENGTH: usize = LENGTH_MASK as usize;

/// Size of a header or entry word, in bytes. Numbers and containers are aligned to it.
pub(crate) const WORD: usize = 4;

// the header: a count and one of object and array
pub(crate) const COUNT_MASK: u32 = 0x0FFF_FFFF;
pub(crate) const SCALAR: u32 = 0x1000_0000;
pub(crate) const OBJECT: u32 = 0x2000_0000;
pub(crate) const ARRAY: u32 = 0x4000_0000;
const HEADER_FLAGS: u32 = !COUNT_MASK;

// an entry: a length, or the offset of the end of the child's data; a type
pub(crate) const LENGTH_MASK: u32 = 0x0FFF_FFFF;
pub(crate) const HAS_OFFSET: u32 = 0x8000_0000;
pub(crate) const TYPE_MASK: u32 = 0x7000_0000;
pub(crate) const STRING: u32 = 0x0000_0000;
pub(crate) const NUMBER: u32 = 0x1000_0000;
pub(crate) const FALSE: u32 = 0x2000_0000;
pub(crate) const TRUE: u32 = 0x3000_0000;
pub(crate) const NULL: u32 = 0x4000_0000;
pub(crate) const CONTAINER: u32 = 0x5000_0000;

/// Why bytes cannot be read or written as jsonb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// They do not follow the format.
    #[error("not in the stored format of jsonb")]
    Format,
    /// Containers are nested too deep to be rewritten.
    #[error("document is nested too deep")]
    TooDeep,
    /// A container would be longer than [`MAXIMUM_LENGTH`].
    #[error("document is too long for jsonb")]
    TooLong,
    /// Something other than an object's pair was to be removed.
    #[error("only a pair of an object can be removed")]
    NoPair,
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object.
    Object,
    /// An array.
    Array,
    /// A document that is a single scalar: stored as an array of one element.
    Scalar,
}

/// A container where it lies, from its header word on.
///
/// That its header and entries are there was checked; each child is checked when it is read.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    bytes: &'a [u8],
    header: u32,
}

/// A value where it lies.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A numeric with its own varlena header, which is not looked at, and without padding.
    Number(&'a [u8]),
    /// The bytes of a string, in the database's encoding.
    String(&'a [u8]),
    /// An object or array.
    Container(Container<'a>),
}

impl<'a> Container<'a> {
    /// The container that `bytes` are: a jsonb datum after its varlena header of 4 bytes.
    ///
    /// # Errors
    /// [`Malformed::Format`] if the header or the entries are wrong or missing.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes.split_first_chunk::<WORD>().ok_or(Malformed::Format)?;
        let container = Self { bytes, header: u32::from_ne_bytes(*header) };
        let known = match container.header & HEADER_FLAGS {
            OBJECT | ARRAY => true,
            flags => flags == ARRAY | SCALAR && container.len() == 1,
        };
        if known && rest.len() / WORD >= container.child_count() {
            Ok(container)
        } else {
            Err(Malformed::Format)
        }
    }

    /// What it is.
    #[inline]
    pub fn kind(self) -> Kind {
        match self.header & (OBJECT | SCALAR) {
            0 => Kind::Array,
            OBJECT => Kind::Object,
            _ => Kind::Scalar,
        }
    }

    /// Number of its pairs or elements.
    #[inline]
    pub fn len(self) -> usize {
        (self.header & COUNT_MASK) as usize
    }

    /// Whether it has no pair or element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its bytes, from the header word on.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The scalar, if the document is one, otherwise the container itself.
    ///
    /// # Errors
    /// [`Malformed::Format`] if there is no such scalar.
    pub fn root(self) -> Result<Value<'a>, Malformed> {
        if self.kind() != Kind::Scalar {
            return Ok(Value::Container(self));
        }
        match self.elements().next() {
            Some(Ok(Value::Container(_))) | None => Err(Malformed::Format),
            Some(scalar) => scalar,
        }
    }

    /// The value of a key; `None` if there is none or this is no object.
    ///
    /// # Errors
    /// [`Malformed::Format`] if a key that was compared, or the value, is none.
    pub fn get(self, key: &[u8]) -> Result<Option<Value<'a>>, Malformed> {
        if self.kind() != Kind::Object {
            return Ok(None);
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let other = self.child(middle)?.key()?;
            match (other.len(), other).cmp(&(key.len(), key)) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    return self.child(self.len() + middle)?.value().map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The element at `index`, from 0; `None` if there is none or this is no array.
    ///
    /// # Errors
    /// [`Malformed::Format`] if there is an entry but no such element.
    pub fn element(self, index: usize) -> Result<Option<Value<'a>>, Malformed> {
        if self.kind() != Kind::Array || index >= self.len() {
            return Ok(None);
        }
        self.child(index)?.value().map(Some)
    }

    /// An object's pairs in the order in which they are stored: short keys first. Empty for others.
    /// Ends after an error.
    pub fn pairs(self) -> impl Iterator<Item = Result<(&'a [u8], Value<'a>), Malformed>> {
        let (keys, values) = match self.kind() {
            Kind::Object => (self.keys(), self.values()),
            Kind::Array | Kind::Scalar => (Children::none(), Children::none()),
        };
        until_error(keys.zip(values).map(|(key, value)| Ok((key?.key()?, value?.value()?))))
    }

    /// An array's elements, or the one scalar. Empty for objects. Ends after an error.
    pub fn elements(self) -> impl Iterator<Item = Result<Value<'a>, Malformed>> {
        let elements = match self.kind() {
            Kind::Object => Children::none(),
            Kind::Array | Kind::Scalar => self.values(),
        };
        until_error(elements.map(|element| element?.value()))
    }

    /// Number of entries.
    #[inline]
    pub(crate) fn child_count(self) -> usize {
        if self.header & OBJECT != 0 { 2 * self.len() } else { self.len() }
    }

    /// Where the children's data begins, in bytes from the header word.
    #[inline]
    pub(crate) fn data_start(self) -> usize {
        WORD + WORD * self.child_count()
    }

    /// An object's keys.
    #[inline]
    pub(crate) fn keys(self) -> Children<'a> {
        self.children(0, self.len())
    }

    /// An object's values, or an array's elements.
    #[inline]
    pub(crate) fn values(self) -> Children<'a> {
        let count = self.child_count();
        self.children(count - self.len(), count)
    }

    fn children(self, first: usize, end: usize) -> Children<'a> {
        Children {
            entries: self.entries()[first..end].iter(),
            container: self.bytes,
            data: self.data_start(),
            offset: self.offset(first),
        }
    }

    /// An object's key.
    pub(crate) fn key(self, index: usize) -> Option<&'a [u8]> {
        if self.kind() != Kind::Object || index >= self.len() {
            return None;
        }
        self.child(index).and_then(|child| child.key()).ok()
    }

    fn child(self, index: usize) -> Result<Child<'a>, Malformed> {
        self.children(index, index + 1).next().unwrap_or(Err(Malformed::Format))
    }

    #[inline]
    fn entries(self) -> &'a [[u8; WORD]] {
        self.bytes[WORD..self.data_start()].as_chunks().0
    }

    /// Where a child begins, in bytes from the header word: behind the lengths since the last entry
    /// that has an offset. Beyond the container's end if they are wrong.
    fn offset(self, index: usize) -> usize {
        let mut offset = self.data_start();
        for entry in self.entries()[..index].iter().rev() {
            let entry = u32::from_ne_bytes(*entry);
            offset = offset.saturating_add((entry & LENGTH_MASK) as usize);
            if entry & HAS_OFFSET != 0 {
                break;
            }
        }
        offset.min(self.bytes.len() + 1)
    }
}

impl Value<'_> {
    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        matches!(self, Self::Container(container) if container.kind() == Kind::Array)
    }
}

/// Calls `visit` for each string that is a value, not a key, at any depth, in the order in which
/// they are stored.
///
/// # Errors
/// What `visit` returns; [`Malformed::Format`] for what is not in the format.
pub fn strings<'a, E: From<Malformed>>(
    container: Container<'a>,
    mut visit: impl FnMut(&'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut children = container.values();
    let mut outer = Vec::new();
    loop {
        let Some(child) = children.next() else {
            match outer.pop() {
                Some(rest) => children = rest,
                None => return Ok(()),
            }
            continue;
        };
        let child = child?;
        match child.kind {
            STRING => visit(child.bytes())?,
            NUMBER | FALSE | TRUE | NULL => {}
            _ => {
                if let Value::Container(inner) = child.value()? {
                    outer.push(mem::replace(&mut children, inner.values()));
                }
            }
        }
    }
}

/// Children one after the other; each knows where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Children<'a> {
    entries: slice::Iter<'a, [u8; WORD]>,
    container: &'a [u8],
    /// Where the container's data begins, in its bytes.
    data: usize,
    /// Where the next child begins, in the container's bytes.
    offset: usize,
}

impl Children<'_> {
    pub(crate) fn none() -> Self {
        Self { entries: [].iter(), container: &[], data: 0, offset: 0 }
    }

    /// Where the next child begins, in bytes from the container's header word.
    pub(crate) fn position(&self) -> usize {
        self.offset
    }
}

impl<'a> Children<'a> {
    /// Makes the next child of `child`, one of the same container; false if there is none.
    ///
    /// Field by field: what is written so and read as a whole has the processor wait.
    #[inline]
    pub(crate) fn advance(&mut self, child: &mut Child<'a>) -> Result<bool, Malformed> {
        let Some(entry) = self.entries.next() else { return Ok(false) };
        let entry = u32::from_ne_bytes(*entry);
        let start = self.offset;
        let from = if entry & HAS_OFFSET == 0 { start } else { self.data };
        let end = from + (entry & LENGTH_MASK) as usize;
        if start > end || end > self.container.len() {
            return Err(Malformed::Format);
        }
        self.offset = end;
        child.kind = entry & TYPE_MASK;
        child.start = start;
        child.end = end;
        Ok(true)
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Child<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut child = Child::of(self.container);
        self.advance(&mut child).map(|found| found.then_some(child)).transpose()
    }
}

/// A key or value: bytes `start` to `end` of its container, padding included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child<'a> {
    container: &'a [u8],
    pub(crate) kind: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Child<'a> {
    /// None yet of the container that `container` are.
    #[inline]
    pub(crate) fn of(container: &'a [u8]) -> Self {
        Self { container, kind: NULL, start: 0, end: 0 }
    }

    #[inline]
    fn bytes(&self) -> &'a [u8] {
        &self.container[self.start..self.end]
    }

    #[inline]
    pub(crate) fn key(&self) -> Result<&'a [u8], Malformed> {
        if self.kind == STRING { Ok(self.bytes()) } else { Err(Malformed::Format) }
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> Result<Value<'a>, Malformed> {
        Ok(match self.kind {
            STRING => Value::String(self.bytes()),
            NUMBER => Value::Number(self.aligned()?),
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            NULL => Value::Null,
            CONTAINER => match Container::new(self.aligned()?)? {
                inner if inner.kind() == Kind::Scalar => return Err(Malformed::Format),
                inner => Value::Container(inner),
            },
            _ => return Err(Malformed::Format),
        })
    }

    /// Where its payload begins behind the padding, in bytes from the container's header word.
    #[inline]
    pub(crate) fn payload(&self) -> usize {
        match self.kind {
            NUMBER | CONTAINER => self.start.next_multiple_of(WORD),
            _ => self.start,
        }
    }

    #[inline]
    fn aligned(&self) -> Result<&'a [u8], Malformed> {
        self.container.get(self.payload()..self.end).ok_or(Malformed::Format)
    }
}

/// Ends an iterator after its first error.
fn until_error<T>(
    items: impl Iterator<Item = Result<T, Malformed>>,
) -> impl Iterator<Item = Result<T, Malformed>> {
    items.scan(false, |failed, item| {
        let ended = mem::replace(failed, item.is_err());
        if ended { None } else { Some(item) }
    })
}
