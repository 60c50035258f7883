//! The wrapping keys that programs have unwrapped, for `fieldcrypt.key_lifetime`: in shared memory,
//! so that a key service is asked once for each account and lifetime, not once for each session.
//!
//! Invariants: what stands there is wrapped under a key that the server's processes inherit in
//! locked memory, which is in no core dump, so that shared memory shows nothing of it. A key that is
//! taken from there is verified as one from the program is. It is as old as the answer that it came
//! from, whoever takes it.

use std::cell::RefCell;
use std::ffi::CStr;
use std::time::Duration;

use fieldcrypt_core::key::{KeyId, SecretKey};
use fieldcrypt_core::wrap::{self, WRAPPED_LENGTH};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Oid};

use super::command::Failure;
use super::locked::{Locked, lock_after_fork};
use crate::backend;
use crate::catalog::key::StoredKey;
use crate::error::Result;
use crate::guc;
use crate::shared_memory::Held;

const NAME: &CStr = c"fieldcrypt keys";
/// How many places a key can be at.
const WAYS: usize = 8;
/// How many places there are where the library was not preloaded: for one session.
const WITHOUT_SHARED_MEMORY: usize = 64;
/// For how long a failure is remembered, at most, in microseconds.
const FAILURE_TIME: i64 = 5_000_000;
/// How often a waiting session looks again, in milliseconds.
const POLL: i64 = 200;

/// A key of a database, or nothing.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    database: Oid,
    /// 0 if the place is free.
    key: u64,
    /// The answer came, or failed, then; 0 if there is none yet.
    at: i64,
    /// Until then somebody asks for it; 0 if nobody does.
    asked_until: i64,
    /// See [`Failure`]; 0 if there is a key.
    failure: u8,
    wrapped: [u8; WRAPPED_LENGTH],
}

const FREE: Slot = Slot {
    database: Oid::INVALID,
    key: 0,
    at: 0,
    asked_until: 0,
    failure: 0,
    wrapped: [0; WRAPPED_LENGTH],
};

/// What stands before the places.
#[repr(C)]
struct Header {
    /// Signalled when an answer has come. It has a lock of its own.
    answered: pg_sys::ConditionVariable,
}

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;
/// Null where the library was not preloaded. Inherited by every process.
static mut SHARED: *mut Header = std::ptr::null_mut();

thread_local! {
    /// Under which the keys in the table are wrapped. Inherited by every process.
    static PROCESS_KEY: RefCell<Option<Locked<SecretKey>>> = const { RefCell::new(None) };
    /// The places of a session without shared memory.
    static OWN: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// Hooks into the reservation of shared memory, and makes the key for it.
pub fn init_shared_memory() {
    if let Err(error) = process_key() {
        // sessions each get the error
        pgrx::warning!("fieldcrypt: {error}");
        return;
    }
    // SAFETY: called once, from _PG_init in the postmaster
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

fn process_key() -> Result<Locked<SecretKey>> {
    lock_after_fork();
    PROCESS_KEY.with_borrow_mut(|slot| match slot {
        Some(key) => Ok(key.clone()),
        None => {
            let key = super::without_traces(|| SecretKey::generate().map(Locked::new))?;
            Ok(slot.insert(key).clone())
        }
    })
}

fn places() -> usize {
    guc::shared_keys().next_multiple_of(WAYS)
}

fn size() -> usize {
    size_of::<Header>().next_multiple_of(64) + places() * size_of::<Slot>()
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: PostgreSQL calls it while it adds up what is needed
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: PostgreSQL calls it when there is shared memory. What is new is ours alone as long
    // as the lock is held
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        let _held = Held::for_startup();
        let mut found = false;
        SHARED = pg_sys::ShmemInitStruct(NAME.as_ptr(), size(), &mut found).cast();
        if !found {
            pg_sys::ConditionVariableInit(&raw mut (*SHARED).answered);
            for index in 0..places() {
                first_place().add(index).write(FREE);
            }
        }
    }
}

/// # Safety
/// There is shared memory.
unsafe fn first_place() -> *mut Slot {
    // SAFETY: the places lie behind the header, aligned to 64 bytes
    unsafe { SHARED.byte_add(size_of::<Header>().next_multiple_of(64)).cast() }
}

/// Whether there is shared memory for keys.
fn is_shared() -> bool {
    // SAFETY: a variable that is set before the process starts
    unsafe { !SHARED.is_null() && pg_sys::IsUnderPostmaster }
}

/// Uses all places. Nothing in `work` may raise an error.
fn with_places<T>(work: impl FnOnce(&mut [Slot]) -> T) -> T {
    if !is_shared() {
        return OWN.with_borrow_mut(|own| {
            own.resize(WITHOUT_SHARED_MEMORY, FREE);
            work(own)
        });
    }
    // SAFETY: the lock was requested; the places are reached through here only, while it is held
    unsafe {
        let _held = Held::new(&raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock);
        work(std::slice::from_raw_parts_mut(first_place(), places()))
    }
}

/// The place of a key, or the one that it gets: that of the oldest answer.
fn place_of(places: &mut [Slot], database: Oid, key: u64) -> &mut Slot {
    // ids are random
    let sets = places.len() / WAYS;
    let set = (key as usize % sets) * WAYS;
    let set = &mut places[set..set + WAYS];
    let known = set.iter().position(|slot| slot.key == key && slot.database == database);
    let index = known.unwrap_or_else(|| {
        let oldest = set.iter().enumerate().min_by_key(|(_, slot)| slot.at.max(slot.asked_until));
        let index = oldest.map_or(0, |(index, _)| index);
        set[index] = Slot { database, key, ..FREE };
        index
    });
    &mut set[index]
}

/// What the table says of a key.
enum Found {
    Key([u8; WRAPPED_LENGTH], i64),
    Failure(Failure),
    /// Somebody else asks for it.
    Asked,
    /// This session is to ask for it.
    Nothing,
}

fn look(database: Oid, key: u64, time_limit: Duration) -> Found {
    let lifetime = guc::key_lifetime();
    let statement = backend::statement_start();
    let now = backend::now();
    with_places(|places| {
        let slot = place_of(places, database, key);
        if slot.at != 0 && slot.failure == 0 && statement - slot.at < lifetime {
            return Found::Key(slot.wrapped, slot.at);
        }
        if slot.failure != 0 && now - slot.at < FAILURE_TIME.min(lifetime) {
            return Found::Failure(Failure::from_number(slot.failure));
        }
        if now < slot.asked_until {
            return Found::Asked;
        }
        let limit = i64::try_from(time_limit.as_micros()).unwrap_or(i64::MAX);
        slot.asked_until = now.saturating_add(limit);
        Found::Nothing
    })
}

/// Tells the others, when it is dropped, that this session asks no more.
struct Asking {
    database: Oid,
    key: u64,
}

impl Asking {
    fn answer(&self, answer: std::result::Result<[u8; WRAPPED_LENGTH], Failure>, at: i64) {
        with_places(|places| {
            let slot = place_of(places, self.database, self.key);
            slot.at = at;
            (slot.wrapped, slot.failure) = match answer {
                Ok(wrapped) => (wrapped, 0),
                Err(failure) => ([0; WRAPPED_LENGTH], failure as u8),
            };
        });
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        with_places(|places| place_of(places, self.database, self.key).asked_until = 0);
        if is_shared() {
            // SAFETY: the condition variable is in shared memory
            unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*SHARED).answered) };
        }
    }
}

/// A wrapping key as `ask` unwraps it, or has unwrapped it not long ago, in this session or another;
/// and when the answer came. Where another session asks already, this one waits.
pub fn key_or(
    stored: &StoredKey,
    time_limit: Duration,
    ask: impl FnOnce() -> std::result::Result<SecretKey, Failure>,
) -> Result<std::result::Result<(SecretKey, i64), Failure>> {
    let process_key = process_key()?;
    // SAFETY: a variable of the only thread
    let database = unsafe { pg_sys::MyDatabaseId };
    let key = stored.id.number();
    loop {
        match look(database, key, time_limit) {
            Found::Key(wrapped, at) => {
                let name = stored.name();
                match wrap::unwrap(&process_key, &name, &wrapped, &stored.check_value) {
                    Ok(key) => return Ok(Ok((key, at))),
                    // the catalog has another key by that id now
                    Err(_) => forget(stored.id),
                }
            }
            Found::Failure(failure) => return Ok(Err(failure)),
            Found::Asked => wait(),
            Found::Nothing => break,
        }
    }
    let asking = Asking { database, key };
    let at = backend::now();
    match ask() {
        Ok(secret) => {
            asking.answer(Ok(wrap::wrap(&process_key, &stored.name(), &secret)?), at);
            Ok(Ok((secret, at)))
        }
        Err(failure) => {
            // it counts from its end, however long it has taken
            asking.answer(Err(failure), backend::now());
            Ok(Err(failure))
        }
    }
}

/// Drops a wrapping key of this database.
pub fn forget(key: KeyId) {
    // SAFETY: a variable of the only thread
    let database = unsafe { pg_sys::MyDatabaseId };
    with_places(|places| *place_of(places, database, key.number()) = FREE);
}

/// Waits until an answer has come, or for a moment. Cancelling the query raises its error.
fn wait() {
    // SAFETY: another session asks, so there is shared memory; what an error leaves, abort cancels
    unsafe {
        let answered = &raw mut (*SHARED).answered;
        pg_sys::ConditionVariablePrepareToSleep(answered);
        pg_sys::ConditionVariableTimedSleep(answered, POLL, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ConditionVariableCancelSleep();
    }
}
