//! Rewriting documents: a [`Transform`] says what becomes of each value, and what it keeps is copied
//! as it lies.

use std::{iter, mem};

use zeroize::Zeroizing;

use crate::jsonb::{
    CONTAINER, Child, Children, Container, Kind, MAXIMUM_LENGTH, Malformed, NULL, NUMBER, OBJECT,
    Value, WORD,
};
use crate::output::{Head, Output};

pub use crate::merge::merge;
pub use crate::node::{Node, array, document_of, object};
pub use crate::output::give_back;

/// How many containers within each other can be entered.
pub const MAXIMUM_DEPTH: usize = 2000;

/// What becomes of a value.
#[derive(Debug)]
pub enum Change<S> {
    /// It stays, with all that is in it.
    Keep,
    /// It goes, with its key. Only a pair of an object can: for others [`Malformed::NoPair`].
    Remove,
    /// Another value takes its place.
    Replace(Node),
    /// It is an object or array whose values are visited in turn. A scalar stays.
    Enter(S),
}

/// From a container to one of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The value of this key.
    Key(&'a [u8]),
    /// The element at this index, from 0.
    Index(usize),
}

/// What [`rewrite`] asks about the values of a document.
pub trait Transform {
    /// What it has to know of the way to a value.
    type State;
    /// Its own errors, and those of the format.
    type Error: From<Malformed>;

    /// The state in which the value of `key` is visited, in an object that was entered in `state`;
    /// `None` keeps the value.
    ///
    /// # Errors
    /// Its own.
    fn key(&mut self, state: &Self::State, key: &[u8]) -> Result<Option<Self::State>, Self::Error>;

    /// The same for the element at `index`, from 0, of an array that was entered in `state`.
    ///
    /// # Errors
    /// Its own.
    fn element(
        &mut self,
        state: &Self::State,
        index: usize,
    ) -> Result<Option<Self::State>, Self::Error>;

    /// What becomes of a value.
    ///
    /// # Errors
    /// Its own.
    fn value(
        &mut self,
        state: Self::State,
        value: Value<'_>,
    ) -> Result<Change<Self::State>, Self::Error>;

    /// Called with an error for each step to where it arose, from the innermost to the outermost, so
    /// that the error can tell where.
    fn locate(&mut self, error: Self::Error, step: Step<'_>) -> Self::Error {
        let _ = step;
        error
    }
}

/// The document as `transform` changes it, after the varlena header; `None` if it keeps everything.
/// The document itself is the first value that is visited, in `state`.
///
/// To drop the result takes longer than to [`give_back`] it.
///
/// # Errors
/// Those of `transform`, and [`Malformed`]: `Format` if what is visited cannot be read, `TooDeep` if
/// more than [`MAXIMUM_DEPTH`] containers within each other are entered, `TooLong` and `NoPair`.
pub fn rewrite<T: Transform>(
    document: Container<'_>,
    state: T::State,
    transform: &mut T,
) -> Result<Option<Zeroizing<Vec<u8>>>, T::Error> {
    let root = document.root()?;
    match (transform.value(state, root)?, root) {
        (Change::Keep, _) => Ok(None),
        (Change::Remove, _) => Err(Malformed::NoPair.into()),
        (Change::Replace(node), _) => {
            node.value()?;
            let document = document_of(&node);
            if document.len() > MAXIMUM_LENGTH {
                return Err(Malformed::TooLong.into());
            }
            Ok(Some(document))
        }
        (Change::Enter(state), Value::Container(root)) => {
            let mut walk =
                Walk { top: Frame::new(root, state), outer: Vec::new(), output: Output::default() };
            match walk.run(transform) {
                Ok(()) if walk.top.head.is_some() => Ok(Some(walk.output.finish())),
                Ok(()) => Ok(None),
                Err(error) => Err(walk.locate(error, transform)),
            }
        }
        (Change::Enter(_), _) => Ok(None),
    }
}

/// The containers that are entered. Nothing is written before something changes.
struct Walk<'a, S> {
    top: Frame<'a, S>,
    /// From the outermost inwards.
    outer: Vec<Frame<'a, S>>,
    output: Output,
}

/// A container that is entered.
struct Frame<'a, S> {
    container: Container<'a>,
    state: S,
    keys: Children<'a>,
    values: Children<'a>,
    /// The value that is visited, counted from 0, and where it lies.
    index: usize,
    child: Child<'a>,
    /// Its key, in an object.
    key: Child<'a>,
    /// Where the container is in the output, once something in it has changed.
    head: Option<Head>,
    /// Its bytes before this are in the output, or have been replaced there. Those from here to the
    /// value that is visited will be copied in one piece.
    copied: usize,
    /// Where the value that is visited begins in the output, if it is a container that has changed.
    child_start: usize,
    /// Indices of the pairs that are removed in the end, in order. In the output they are null.
    removed: Vec<usize>,
}

impl<'a, S> Walk<'a, S> {
    fn run<T: Transform<State = S>>(&mut self, transform: &mut T) -> Result<(), T::Error> {
        loop {
            let frame = &mut self.top;
            if !frame.values.advance(&mut frame.child)? {
                if self.close()? {
                    return Ok(());
                }
                continue;
            }
            let state = if frame.keys.advance(&mut frame.key)? {
                transform.key(&frame.state, frame.key.key()?)?
            } else {
                transform.element(&frame.state, frame.index)?
            };
            if let Some(state) = state {
                let value = frame.child.value()?;
                match (transform.value(state, value)?, value) {
                    (Change::Replace(node), _) => self.replace(node.value()?),
                    (Change::Remove, _) => self.remove()?,
                    (Change::Enter(state), Value::Container(container)) => {
                        self.enter(container, state)?;
                        continue;
                    }
                    (Change::Keep | Change::Enter(_), _) => self.top.keep(&mut self.output)?,
                }
            } else if frame.head.is_some() {
                // asked here too, for the speed of a walk that keeps everything
                frame.keep(&mut self.output)?;
            }
            self.top.index += 1;
        }
    }

    fn enter(&mut self, container: Container<'a>, state: S) -> Result<(), Malformed> {
        if self.outer.len() + 1 == MAXIMUM_DEPTH {
            return Err(Malformed::TooDeep);
        }
        if self.outer.capacity() == 0 {
            // enough for most documents, and little enough for malloc to be quick
            self.outer.reserve_exact(2);
        }
        self.outer.push(mem::replace(&mut self.top, Frame::new(container, state)));
        Ok(())
    }

    /// Leaves the innermost container; true if it was the outermost.
    fn close(&mut self) -> Result<bool, Malformed> {
        if let Some(head) = self.top.head {
            self.top.copy_to(self.top.values.position(), &mut self.output);
            self.output.check_length(head.header)?;
            if !self.top.removed.is_empty() {
                remove_pairs(&mut self.output, head, &self.top.removed)?;
            }
        }
        let Some(outer) = self.outer.pop() else { return Ok(true) };
        let inner = mem::replace(&mut self.top, outer);
        match (inner.head, self.top.head) {
            (Some(_), Some(head)) => {
                self.output.check_length(self.top.child_start)?;
                self.top.replaced(head, CONTAINER, self.top.child_start, &mut self.output);
            }
            _ => self.top.keep(&mut self.output)?,
        }
        self.top.index += 1;
        Ok(false)
    }

    fn replace(&mut self, value: Value<'_>) {
        let head = self.open();
        let start = self.output.len();
        let kind = self.output.value(value);
        self.top.replaced(head, kind, start, &mut self.output);
    }

    fn remove(&mut self) -> Result<(), Malformed> {
        if self.top.container.kind() != Kind::Object {
            return Err(Malformed::NoPair);
        }
        let head = self.open();
        self.top.removed.push(self.top.index);
        self.top.replaced(head, NULL, self.output.len(), &mut self.output);
        Ok(())
    }

    /// Writes what comes before the value that is visited.
    fn open(&mut self) -> Head {
        if self.top.head.is_none() {
            let outermost = self.outer.first().unwrap_or(&self.top).container.as_bytes().len();
            self.output.reserve_first(outermost + outermost / 2 + 512);
            // those that are written come before those that are not
            let written = self.outer.iter().rposition(|frame| frame.head.is_some());
            for frame in &mut self.outer[written.unwrap_or(0)..] {
                frame.open(&mut self.output);
                frame.child_start = self.output.len();
            }
        }
        self.top.open(&mut self.output)
    }

    #[cold]
    fn locate<T: Transform<State = S>>(&self, error: T::Error, transform: &mut T) -> T::Error {
        iter::once(&self.top)
            .chain(self.outer.iter().rev())
            .filter_map(Frame::step)
            .fold(error, |error, step| transform.locate(error, step))
    }
}

impl<'a, S> Frame<'a, S> {
    fn new(container: Container<'a>, state: S) -> Self {
        let keys = match container.kind() {
            Kind::Object => container.keys(),
            Kind::Array | Kind::Scalar => Children::none(),
        };
        Self {
            container,
            state,
            keys,
            values: container.values(),
            index: 0,
            child: Child::of(container.as_bytes()),
            key: Child::of(container.as_bytes()),
            head: None,
            copied: 0,
            child_start: 0,
            removed: Vec::new(),
        }
    }

    /// Writes what comes before the value that is visited.
    fn open(&mut self, output: &mut Output) -> Head {
        let head = *self.head.get_or_insert_with(|| {
            output.pad();
            Head::new(output.len(), self.container.data_start())
        });
        self.copy_to(self.child.start, output);
        head
    }

    fn copy_to(&mut self, end: usize, output: &mut Output) {
        output.extend(&self.container.as_bytes()[self.copied..end]);
        self.copied = end;
    }

    /// The value that is visited stays. Only its padding may change.
    #[inline]
    fn keep(&mut self, output: &mut Output) -> Result<(), Malformed> {
        let Some(head) = self.head else { return Ok(()) };
        let Child { kind, start, end, .. } = self.child;
        let mut new_start = output.len() + start - self.copied;
        if matches!(kind, NUMBER | CONTAINER) && new_start % WORD != start % WORD {
            self.copy_to(start, output);
            new_start = output.len();
            output.pad();
            self.copied = self.child.payload();
            if self.copied > end {
                return Err(Malformed::Format);
            }
        }
        let new_end = output.len() + end - self.copied;
        output.entry(head, self.entry_index(), kind, new_start, new_end);
        Ok(())
    }

    /// What was written since `start` is now the value that is visited.
    fn replaced(&mut self, head: Head, kind: u32, start: usize, output: &mut Output) {
        output.entry(head, self.entry_index(), kind, start, output.len());
        self.copied = self.child.end;
    }

    fn entry_index(&self) -> usize {
        self.container.child_count() - self.container.len() + self.index
    }

    /// To the value that is visited; `None` if there is none any more.
    fn step(&self) -> Option<Step<'a>> {
        match self.container.kind() {
            Kind::Object => self.container.key(self.index).map(Step::Key),
            _ => (self.index < self.container.len()).then_some(Step::Index(self.index)),
        }
    }
}

/// Writes the object at the end of the output again without the pairs at the indices `removed`.
fn remove_pairs(output: &mut Output, head: Head, removed: &[usize]) -> Result<(), Malformed> {
    let object = Container::new(&output.bytes()[head.header..])?;
    let kept = |(index, child)| match removed.binary_search(&index) {
        Ok(_) => None,
        Err(_) => Some(child),
    };
    let mut rest = Output::with_capacity(object.as_bytes().len());
    let mut open = rest.open(OBJECT, object.len() - removed.len())?;
    for child in object.keys().enumerate().filter_map(kept) {
        rest.child(&mut open, child?.value()?);
    }
    for child in object.values().enumerate().filter_map(kept) {
        rest.child(&mut open, child?.value()?);
    }
    output.truncate(head.header);
    output.extend(rest.bytes());
    Ok(())
}
