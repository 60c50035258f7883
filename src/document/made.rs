//! The envelopes that this session has just made: in documents, and in columns for roles that may
//! not decrypt. A row may pass the trigger twice in
//! one statement: `ON CONFLICT DO UPDATE SET data = EXCLUDED.data`, or a row that moves to another
//! partition. What was sealed then must not be taken for an envelope from elsewhere.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::backend;

/// How many are remembered at least; of a statement that makes more, the oldest are forgotten.
const REMEMBERED: usize = 1 << 15;

#[derive(Default)]
struct Made {
    statement: i64,
    /// Keyed by a random number, so that no one can make a text with the hash of another.
    hasher: RandomState,
    recent: HashSet<u64>,
    before: HashSet<u64>,
    /// The document from which values were gathered last, in a row that was inserted.
    emptied: Option<u64>,
}

thread_local! {
    static MADE: RefCell<Made> = RefCell::default();
}

impl Made {
    /// Forgets what an earlier statement made.
    fn catch_up(&mut self) {
        let statement = backend::statement_start();
        if self.statement != statement {
            self.statement = statement;
            self.recent.clear();
            self.before.clear();
            self.emptied = None;
        }
    }
}

/// The last bytes of an envelope, which hold most of its tag: no one can make another that opens
/// with the same.
const TOLD_BY: usize = 24;

fn told_by(envelope: &[u8]) -> &[u8] {
    envelope.last_chunk::<TOLD_BY>().map_or(envelope, |tag| tag)
}

/// Who has made an envelope.
#[derive(Clone, Copy, Hash)]
enum By {
    /// The row trigger of a document.
    Trigger,
    /// An assignment to a column: what users write is no work of the trigger's.
    Assignment,
}

impl Made {
    fn hash(&self, by: By, envelope: &[u8]) -> u64 {
        self.hasher.hash_one((by, told_by(envelope)))
    }

    fn remember(&mut self, by: By, envelope: &[u8]) {
        self.catch_up();
        // where no trigger makes room
        if self.recent.len() > 4 * REMEMBERED {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(self.hash(by, envelope));
    }

    fn contains(&mut self, by: By, envelope: &[u8]) -> bool {
        self.catch_up();
        let hash = self.hash(by, envelope);
        self.recent.contains(&hash) || self.before.contains(&hash)
    }
}

/// Remembers an envelope that was made in a document, in text form or not.
pub fn remember(envelope: &[u8]) {
    MADE.with_borrow_mut(|made| made.remember(By::Trigger, envelope));
}

/// Remembers a value that was sealed for a column.
pub fn remember_assigned(envelope: &[u8]) {
    MADE.with_borrow_mut(|made| made.remember(By::Assignment, envelope));
}

/// Makes room, if it must: called between rows, so that those of one row stay together.
pub fn next_row() {
    MADE.with_borrow_mut(|made| {
        if made.recent.len() > REMEMBERED {
            made.before = std::mem::take(&mut made.recent);
        }
    });
}

/// Whether this session made it in a document, in this statement.
pub fn contains(envelope: &[u8]) -> bool {
    MADE.with_borrow_mut(|made| made.contains(By::Trigger, envelope))
}

/// Whether this session sealed it for a column, in this statement.
pub fn is_assigned(envelope: &[u8]) -> bool {
    MADE.with_borrow_mut(|made| made.contains(By::Assignment, envelope))
}

/// Remembers the document that is left where values were gathered from it.
pub fn remember_emptied(document: &[u8]) {
    MADE.with_borrow_mut(|made| {
        made.catch_up();
        made.emptied = Some(made.hasher.hash_one(document));
    });
}

/// Whether it is the document that was left in the row before, in this statement: `EXCLUDED` of an
/// `ON CONFLICT DO UPDATE`.
pub fn is_emptied(document: &[u8]) -> bool {
    MADE.with_borrow_mut(|made| {
        made.catch_up();
        let hash = made.hasher.hash_one(document);
        made.emptied.take() == Some(hash)
    })
}
