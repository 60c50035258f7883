//! The reads of one statement of the client, counted up until it ends.
//!
//! Invariant: what is counted is handed over before the statement's result is complete, whether it
//! succeeds, fails or is rolled back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use super::Mode;
use super::event::{Event, shortened};
use super::sink;
use crate::access::Privilege;
use crate::backend;
use crate::call::output;
use crate::error::{Error, Result};
use crate::guc;
use crate::keyring::OpenKey;

/// Different entities that an event names at most.
const MOST_ENTITIES: usize = 32;
/// Longest entity, in bytes.
const LONGEST_ENTITY: usize = 200;
/// Events that a statement collects at most before it hands them over. Of a scan of more accounts in
/// no order, nearly every value is an event of its own.
const MOST_EVENTS: usize = 1 << 14;

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// By `decrypt()`.
    Decrypt,
    /// By `reveal()`.
    Reveal,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
            Self::Reveal => "reveal",
        }
    }
}

/// What is seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The value.
    Plain,
    /// A part of it.
    Masked,
    /// Nothing.
    Hidden,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Masked => "masked",
            Self::Hidden => "hidden",
        }
    }
}

/// What a value belongs to.
#[derive(Clone)]
pub enum Entity {
    /// As the caller names it.
    Text(String),
    /// A value, such as a row's key; its text is made only if there is room for it.
    Key { kind: Oid, value: Datum },
}

impl Entity {
    /// As the caller names it.
    pub fn text(entity: &str) -> Result<Self> {
        if entity.len() > LONGEST_ENTITY {
            let hint = format!("An entity has at most {LONGEST_ENTITY} bytes.");
            return Err(Error::InvalidArgument { name: "entity", hint });
        }
        Ok(Self::Text(entity.to_owned()))
    }

    /// As much of its text as an event holds; `None` in an encoding that has no texts.
    fn to_text(&self) -> Option<String> {
        match *self {
            Self::Text(ref text) => Some(text.clone()),
            Self::Key { kind, value } => {
                // what most keys are is faster without a look-up of its output function
                let mut text = match kind {
                    pg_sys::INT8OID => (value.value() as i64).to_string(),
                    pg_sys::INT4OID => (value.value() as i32).to_string(),
                    // SAFETY: the value is of that type
                    _ => unsafe { output(kind, value) }.ok()?,
                };
                text.truncate(text.floor_char_boundary(LONGEST_ENTITY));
                Some(text)
            }
        }
    }
}

/// Where the reads of a key are counted, kept with the key: valid while `flush` is the number of
/// the last flush.
#[derive(Clone, Copy)]
pub struct Counted {
    flush: u64,
    user: Oid,
    index: u32,
    kind: (Action, Outcome),
}

impl Default for Counted {
    fn default() -> Self {
        let kind = (Action::Decrypt, Outcome::Plain);
        Self { flush: 0, user: Oid::INVALID, index: 0, kind }
    }
}

/// By what events of reads are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind<'a> {
    action: &'a str,
    outcome: &'a str,
    user: Oid,
    field: Option<&'a str>,
    account: Option<&'a str>,
    detail: Option<&'a str>,
}

/// An event, and whose it is.
struct Noted {
    event: Event,
    user: Oid,
}

impl Noted {
    fn kind(&self) -> Kind<'_> {
        let Self { event, user } = self;
        Kind {
            action: &event.action,
            outcome: &event.outcome,
            user: *user,
            field: event.field.as_deref(),
            account: event.account.as_deref(),
            detail: event.detail.as_deref(),
        }
    }
}

struct Reads {
    /// Counts the flushes.
    flush: u64,
    events: VecDeque<Noted>,
    /// What was counted since the last flush into the event at each index: apart from the events, of
    /// which many would not stay in the processor's cache.
    counts: Vec<i64>,
    /// Where the events are that are still counted into, by their kind.
    open: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

thread_local! {
    static READS: RefCell<Reads> = RefCell::new(Reads {
        flush: 1,
        events: VecDeque::new(),
        counts: Vec::new(),
        open: HashTable::new(),
        hasher: DefaultHashBuilder::default(),
    });
    static ENTITY: RefCell<Option<Entity>> = const { RefCell::new(None) };
    /// The client's statement that runs, by when it began, and how many of ours run within it.
    static RUNNING: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

/// Registers the callbacks.
pub fn init() {
    // SAFETY: called once, from _PG_init; the callback is guarded
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) };
}

/// Notes that a value under a key is about to be read by the current user. In strict mode it
/// returns once that is on disk.
#[inline]
pub fn read(key: &OpenKey, action: Action, outcome: Outcome) -> Result<()> {
    if guc::audit() == Mode::Off {
        return Ok(());
    }
    let (user, kind) = (backend::user(), (action, outcome));
    let counted = key.counted.get();
    let is_counted = READS.with_borrow_mut(|reads| {
        let holds = counted.flush == reads.flush && counted.user == user && counted.kind == kind;
        if holds {
            reads.counts[counted.index as usize] += 1;
        }
        holds
    });
    if is_counted {
        name_entity(counted.index as usize);
        return Ok(());
    }
    let field = key.field.as_ref().map_or("", |field| field.name.as_str());
    let (flush, index) = note(action.name(), outcome.name(), field, &key.account, None)?;
    if let Ok(index) = u32::try_from(index) {
        key.counted.set(Counted { flush, user, index, kind });
    }
    Ok(())
}

/// Notes that a value is hidden whose account is closed.
pub fn hidden(field: &str, account: &str) -> Result<()> {
    if guc::audit() == Mode::Off {
        return Ok(());
    }
    note(Action::Reveal.name(), Outcome::Hidden.name(), field, account, None).map(|_| ())
}

/// Notes that a value of other software was adopted (`done`), would be (`checked`), or was not
/// (`failed`); `detail` says by which format and key.
pub fn adopted(outcome: &'static str, field: &str, account: &str, detail: String) -> Result<()> {
    if guc::audit() == Mode::Off {
        return Ok(());
    }
    note("adopt", outcome, field, account, Some(&detail)).map(|_| ())
}

/// Notes that the current user was refused something.
pub fn denied(privilege: Privilege, field: &str, account: &str) {
    if guc::audit() != Mode::Off {
        // it fails only where it waits for the disk, which it does not for what is refused
        let _ = note(privilege.name(), DENIED, field, account, None);
    }
}

/// Adds an event that is not counted up.
pub fn add(event: Event) {
    let user = backend::user();
    READS.with_borrow_mut(|reads| reads.events.push_back(Noted { event, user }));
}

/// The outcome of what was refused.
pub const DENIED: &str = "denied";
/// The outcome of an event that says what is about to happen.
pub const OPENED: &str = "opened";

/// As much of a name as an event holds, if it is one.
fn named(name: &str) -> Option<&str> {
    (!name.is_empty()).then(|| shortened(name))
}

/// Counts one more; returns the number of the flush and where in it.
fn note(
    action: &'static str,
    outcome: &'static str,
    field: &str,
    account: &str,
    detail: Option<&str>,
) -> Result<(u64, usize)> {
    let kind = Kind {
        action,
        outcome,
        user: backend::user(),
        field: named(field),
        account: named(account),
        detail: detail.map(shortened),
    };
    if let Some(known) = READS.with_borrow_mut(|reads| reads.count_known(&kind)) {
        name_entity(known.1);
        return Ok(known);
    }
    if READS.with_borrow(|reads| reads.events.len() >= MOST_EVENTS) {
        hand_over();
    }
    sink::prepare();
    let event = Event {
        field: kind.field.map(str::to_owned),
        account: kind.account.map(str::to_owned),
        detail: kind.detail.map(str::to_owned),
        ..Event::now(action, outcome)
    };
    let shows = [Outcome::Plain.name(), Outcome::Masked.name()].contains(&outcome);
    if guc::audit() == Mode::Strict && shows {
        sink::store(&Event { outcome: OPENED.into(), ..event.clone() })?;
    }
    let noted = READS.with_borrow_mut(|reads| reads.count_new(&kind, event));
    name_entity(noted.1);
    if !is_running() {
        hand_over();
    }
    Ok(noted)
}

/// Whether something of what the client has sent runs or has run. If not, it is being planned or is
/// a call of a function that is no statement, after which nothing else may come for long.
fn is_running() -> bool {
    RUNNING.get().0 == backend::statement_start()
}

/// Hands over what was read so far.
pub fn hand_over() {
    hand_over_all(false);
}

impl Reads {
    /// Counts one more into an event that is open.
    fn count_known(&mut self, kind: &Kind<'_>) -> Option<(u64, usize)> {
        if self.open.is_empty() {
            return None;
        }
        let is_it = |&index: &usize| self.events[index].kind() == *kind;
        let &index = self.open.find(self.hasher.hash_one(kind), is_it)?;
        self.counts[index] += 1;
        Some((self.flush, index))
    }

    /// Counts the first into an event, which is open from now on.
    fn count_new(&mut self, kind: &Kind<'_>, event: Event) -> (u64, usize) {
        let index = self.events.len();
        self.events.push_back(Noted { event, user: kind.user });
        let (events, hasher) = (&self.events, &self.hasher);
        self.open.insert_unique(hasher.hash_one(kind), index, |&index| {
            hasher.hash_one(events[index].kind())
        });
        self.counts.resize(index, 0);
        self.counts.push(1);
        (self.flush, index)
    }

    /// From now on nothing more is counted into the events that there are.
    fn close(&mut self) {
        self.flush += 1;
        self.open.clear();
        for (noted, count) in self.events.iter_mut().zip(self.counts.drain(..)) {
            if count > 0 {
                noted.event.count = Some(count);
            }
        }
    }
}

/// Names what the value that was just counted belongs to, if there is room for one more.
fn name_entity(index: usize) {
    let is_full = |reads: &Reads| {
        let entities = reads.events[index].event.entities.as_ref();
        entities.is_some_and(|entities| entities.len() >= MOST_ENTITIES)
    };
    if ENTITY.with_borrow(Option::is_none) || READS.with_borrow(is_full) {
        return;
    }
    // nothing is borrowed while PostgreSQL makes a text of it
    let entity = ENTITY.with_borrow(Clone::clone);
    let Some(text) = entity.and_then(|entity| entity.to_text()) else { return };
    READS.with_borrow_mut(|reads| {
        let entities = reads.events[index].event.entities.get_or_insert_default();
        if !entities.contains(&text) {
            entities.push(text);
        }
    });
}

/// Does `work` and notes with what it reads that it is about `entity`.
pub fn with_entity<T>(entity: Entity, work: impl FnOnce() -> Result<T>) -> Result<T> {
    ENTITY.set(Some(entity));
    // also where an error is caught in a block
    let _forget = ForgetEntity;
    work()
}

struct ForgetEntity;

impl Drop for ForgetEntity {
    fn drop(&mut self) {
        ENTITY.set(None);
    }
}

/// Notes that one of PostgreSQL's functions that run a statement starts; returns what
/// [`leave`] is to be given.
pub fn enter() -> u32 {
    let now = backend::statement_start();
    let (statement, depth) = RUNNING.get();
    // an error has ended the statement of before without `leave`
    let depth = if statement == now { depth } else { 0 };
    RUNNING.set((now, depth + 1));
    depth
}

/// Notes that it has ended; what was read is handed over where it was the client's own.
pub fn leave(depth: u32) {
    RUNNING.set((RUNNING.get().0, depth));
    if depth == 0 && READS.with_borrow(|reads| !reads.events.is_empty()) {
        flush();
    }
}

/// For a hook, which is not guarded itself.
#[pg_guard]
extern "C-unwind" fn flush() {
    hand_over();
}

/// Hands over what was read. Where an error ends the waiting for room, what is left is handed over
/// when the transaction ends.
fn hand_over_all(is_ending: bool) {
    READS.with_borrow_mut(Reads::close);
    while let Some(record) =
        READS.with_borrow(|reads| reads.events.front().map(|noted| noted.event.record()))
    {
        sink::hand_over(&record, is_ending);
        READS.with_borrow_mut(|reads| reads.events.pop_front());
    }
    if !is_ending {
        // what came while it waited is meant for this statement
        pgrx::check_for_interrupts!();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_PARALLEL_PRE_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
    };
    let may_wait = [XACT_EVENT_PRE_COMMIT, XACT_EVENT_PARALLEL_PRE_COMMIT, XACT_EVENT_PRE_PREPARE];
    hand_over_all(!may_wait.contains(&event));
}
