//! Writing containers as `convertJsonbArray` and `convertJsonbObject` of PostgreSQL do.

use std::cell::Cell;
use std::mem;

use zeroize::{Zeroize, Zeroizing};

use crate::jsonb::{
    CONTAINER, FALSE, HAS_OFFSET, LENGTH_MASK, MAXIMUM_LENGTH, Malformed, NULL, NUMBER, OBJECT,
    STRING, TRUE, Value, WORD,
};

/// Every so many children the entry has an offset instead of a length.
const STRIDE: usize = 32;

/// Largest buffer that is kept, in bytes.
const MOST_KEPT: usize = 1 << 16;

thread_local! {
    /// A buffer for the next document, empty and wiped: of this size, malloc takes as long as
    /// everything else here.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Wipes a document that is no longer used, and keeps its memory for the next.
pub fn give_back(mut document: Zeroizing<Vec<u8>>) {
    let mut bytes = mem::take(&mut *document);
    // it owns nothing any more: see `wipe`
    mem::forget(document);
    wipe(&mut bytes);
    if bytes.capacity() <= MOST_KEPT {
        SPARE.set(bytes);
    }
}

/// A document that is being written. Wiped when dropped, and when it grows.
#[derive(Debug, Default)]
pub(crate) struct Output(Vec<u8>);

impl Drop for Output {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// A container in an [`Output`] whose children are added in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Where its padding begins, in bytes of the output.
    start: usize,
    head: Head,
    /// Of the next child.
    index: usize,
}

/// Where a container's header word and data are, in bytes of an output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) header: usize,
    data: usize,
}

impl Head {
    pub(crate) fn new(header: usize, data_start: usize) -> Self {
        Self { header, data: header + data_start }
    }
}

impl Output {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Makes room for that many bytes, if there is none yet.
    pub(crate) fn reserve_first(&mut self, capacity: usize) {
        if self.0.capacity() == 0 {
            self.0 = SPARE.take();
            self.0.reserve(capacity);
        }
    }

    pub(crate) fn finish(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(mem::take(&mut self.0))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Zero bytes up to where numbers and containers may begin.
    #[inline]
    pub(crate) fn pad(&mut self) {
        let length = self.len().next_multiple_of(WORD);
        self.fill(length);
    }

    fn fill(&mut self, length: usize) {
        self.reserve(length - self.len());
        self.0.resize(length, 0);
    }

    #[inline]
    fn reserve(&mut self, additional: usize) {
        if self.0.capacity() - self.len() < additional {
            self.grow(additional);
        }
    }

    /// `Vec` itself would leave the old bytes behind.
    #[cold]
    fn grow(&mut self, additional: usize) {
        let capacity = (self.len() + additional).max(2 * self.len());
        let mut larger = Self::with_capacity(capacity);
        larger.0.extend_from_slice(&self.0);
        *self = larger;
    }

    /// Adds a value with the padding before it, and returns its type for the entry.
    #[inline]
    pub(crate) fn value(&mut self, value: Value<'_>) -> u32 {
        match value {
            Value::Null => NULL,
            Value::Bool(false) => FALSE,
            Value::Bool(true) => TRUE,
            Value::String(bytes) => {
                self.extend(bytes);
                STRING
            }
            Value::Number(bytes) => {
                self.pad();
                self.extend(bytes);
                NUMBER
            }
            Value::Container(container) => {
                self.pad();
                self.extend(container.as_bytes());
                CONTAINER
            }
        }
    }

    /// Writes the entry of the child that lies from `start` to `end`. What is too long is cut here,
    /// and found by [`Output::check_length`].
    #[inline]
    pub(crate) fn entry(&mut self, head: Head, index: usize, kind: u32, start: usize, end: usize) {
        let entry = if index.is_multiple_of(STRIDE) {
            kind | HAS_OFFSET | ((end - head.data) as u32 & LENGTH_MASK)
        } else {
            kind | ((end - start) as u32 & LENGTH_MASK)
        };
        let position = head.header + WORD + WORD * index;
        self.0[position..position + WORD].copy_from_slice(&entry.to_ne_bytes());
    }

    /// Checks what was written since `start`: a container with the padding before it.
    ///
    /// # Errors
    /// [`Malformed::TooLong`].
    pub(crate) fn check_length(&self, start: usize) -> Result<(), Malformed> {
        if self.len() - start > MAXIMUM_LENGTH { Err(Malformed::TooLong) } else { Ok(()) }
    }

    /// Begins a container: `flags` and the number of pairs or elements.
    ///
    /// # Errors
    /// [`Malformed::TooLong`] if its entries alone are too many.
    pub(crate) fn open(&mut self, flags: u32, count: usize) -> Result<Open, Malformed> {
        let children = if flags & OBJECT != 0 { 2 * count } else { count };
        if children > MAXIMUM_LENGTH / WORD {
            return Err(Malformed::TooLong);
        }
        let start = self.len();
        self.pad();
        let head = Head::new(self.len(), WORD + WORD * children);
        self.extend(&(flags | count as u32).to_ne_bytes());
        self.fill(head.data);
        Ok(Open { start, head, index: 0 })
    }

    /// Adds a container's next key or value.
    pub(crate) fn child(&mut self, open: &mut Open, value: Value<'_>) {
        let start = self.len();
        let kind = self.value(value);
        self.child_since(open, kind, start);
    }

    /// What was written since `start` is the container's next value.
    pub(crate) fn child_since(&mut self, open: &mut Open, kind: u32, start: usize) {
        self.entry(open.head, open.index, kind, start, self.len());
        open.index += 1;
    }

    /// Ends a container, and returns where its padding begins.
    ///
    /// # Errors
    /// [`Malformed::TooLong`].
    pub(crate) fn close(&self, open: Open) -> Result<usize, Malformed> {
        self.check_length(open.start)?;
        Ok(open.start)
    }
}

/// Zeroes a vector and empties it. Emptied first, since `zeroize` fills the free capacity at once
/// but elements one by one. One that owns no memory is left alone: to fill nothing at no address
/// takes glibc's memset with AVX-512 as long as to encrypt a value.
pub(crate) fn wipe(bytes: &mut Vec<u8>) {
    if bytes.capacity() > 0 {
        bytes.clear();
        bytes.zeroize();
    }
}
