//! Events on their way to the table: a ring of bytes for each database, in shared memory.
//!
//! Positions count all bytes that were ever written; what lies between `tail` and `head` waits for
//! the worker, and what is before `tail` is on disk. Records stand behind their lengths (4 bytes), as
//! they do in the table.
//!
//! Invariant: everything in a ring but its latches is read and written under its lock, while which
//! nothing raises an error.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use fieldcrypt_core::audit::Seal;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{IntoDatum, pg_guard};

use crate::backend;
use crate::error::{Error, Result};
use crate::guc;
use crate::shared_memory::Held;

const NAME: &CStr = c"fieldcrypt audit";
/// How long a worker that was asked for may take until another is asked for, in microseconds.
const START_TIME: i64 = 3_000_000;
/// How long there is no worker after one was stopped, in microseconds: PostgreSQL waits at most 5 s
/// for a database to have no connections.
const STOP_TIME: i64 = 10_000_000;
/// How long a statement waits for a worker that it has stopped.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How often to look whether a worker has ended.
const POLL: Duration = Duration::from_millis(10);
/// What stands before a record in a ring: its length.
const RECORD_HEADER: usize = 4;

/// What stands before the bytes of a ring.
#[repr(C)]
struct Slot {
    state: State,
    /// Signalled when events were written. It has a lock of its own.
    written: pg_sys::ConditionVariable,
}

#[derive(Default)]
struct State {
    /// Whose events these are; 0 if the ring is free.
    database: Oid,
    /// The process that writes them to the table, or 0.
    worker: i32,
    latch: Latch,
    /// When a worker was last asked for.
    asked: i64,
    /// The worker has nothing to do and waits for its latch.
    idle: bool,
    /// How many wait: the worker is not to wait for more events.
    urgent: u32,
    /// Until then there is to be no worker: its database is about to be dropped, renamed or copied.
    none_until: i64,
    /// Somebody has waited for room in vain; nobody does again before something is taken out.
    stalled: bool,
    head: u64,
    tail: u64,
    /// Events for which there was no room, since this was last written.
    lost: u64,
    /// What the chain had come to when the worker last wrote.
    seen: Option<Head>,
}

impl State {
    fn waiting(&self) -> u64 {
        self.head - self.tail
    }
}

/// The latch of the process that writes; null if there is none.
#[derive(Clone, Copy)]
struct Latch(*mut pg_sys::Latch);

impl Default for Latch {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl Latch {
    fn set(self) {
        if !self.0.is_null() {
            // SAFETY: a latch in shared memory, which outlives its process
            unsafe { pg_sys::SetLatch(self.0) };
        }
    }
}

/// How far a chain has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The table that holds it: another one after the extension was created anew.
    pub table: Oid,
    pub seq: i64,
    pub seal: Seal,
}

/// What a ring holds.
pub struct Status {
    /// The process that writes it to the table, or 0.
    pub worker: i32,
    /// Bytes that wait.
    pub waiting: u64,
    /// Events for which there was no room.
    pub lost: u64,
    /// What the chain had come to when the worker last wrote.
    pub seen: Option<Head>,
}

/// What is to be written next.
pub struct Next {
    /// Records of events, each behind its length (4 bytes).
    pub records: Vec<u8>,
    /// How many there are.
    pub count: i64,
    /// The position after them.
    pub position: u64,
    /// Events for which there was no room.
    pub lost: u64,
    /// How many sessions wait.
    pub urgent: u32,
}

/// The ring of a database.
#[derive(Clone, Copy)]
pub struct Ring {
    lock: *mut pg_sys::LWLock,
    slot: *mut Slot,
    bytes: *mut u8,
    /// In bytes.
    capacity: usize,
}

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;
/// Where the rings are; null where the library was not preloaded. Inherited by every process.
static mut RINGS: *mut u8 = std::ptr::null_mut();

thread_local! {
    static OF_DATABASE: Cell<Option<Ring>> = const { Cell::new(None) };
}

/// Hooks into the reservation of shared memory.
pub fn init() {
    // SAFETY: called once, from _PG_init in the postmaster
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

/// Of a ring with its bytes, and of all of them.
fn sizes() -> (usize, usize) {
    let one = (size_of::<Slot>() + guc::audit_buffer()).next_multiple_of(128);
    (one, one * guc::audit_databases())
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: PostgreSQL calls it while it adds up what is needed
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(sizes().1);
        // one for each ring, and before them one for whose each is
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), guc::audit_databases() as i32 + 1);
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
        RINGS = pg_sys::ShmemInitStruct(NAME.as_ptr(), sizes().1, &mut found).cast();
        if !found {
            for ring in Ring::all() {
                (&raw mut (*ring.slot).state).write(State::default());
                pg_sys::ConditionVariableInit(&raw mut (*ring.slot).written);
            }
        }
    }
}

/// The lock of that number in our tranche.
///
/// # Safety
/// There are rings, and at least `index` of them.
unsafe fn lock(index: usize) -> *mut pg_sys::LWLock {
    // SAFETY: the caller's; as many were requested, and one more
    unsafe { &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr()).add(index)).lock }
}

impl Ring {
    /// All rings; there must be shared memory.
    fn all() -> impl Iterator<Item = Self> {
        (0..guc::audit_databases()).map(|index| {
            // SAFETY: a ring has a header and, behind it, its bytes
            unsafe {
                let slot = RINGS.add(index * sizes().0).cast::<Slot>();
                Self {
                    lock: lock(index + 1),
                    slot,
                    bytes: slot.add(1).cast(),
                    capacity: guc::audit_buffer(),
                }
            }
        })
    }

    /// The ring of the database to which this process is connected; `None` without shared memory,
    /// on a standby, in single-user mode, and where all rings belong to other databases.
    pub fn of_database() -> Option<Self> {
        // a server that is no standby does not become one
        if let Some(ring) = OF_DATABASE.get() {
            return Some(ring);
        }
        // SAFETY: variables that are set before the process starts; the state of the server
        let has_worker = unsafe {
            !RINGS.is_null() && pg_sys::IsUnderPostmaster && !pg_sys::RecoveryInProgress()
        };
        if !has_worker {
            return None;
        }
        // SAFETY: a variable of the only thread
        let ring = Self::claim(unsafe { pg_sys::MyDatabaseId });
        OF_DATABASE.set(ring);
        ring
    }

    /// The ring of a database; one that is free, or whose database is gone, becomes it.
    fn claim(database: Oid) -> Option<Self> {
        if database == Oid::INVALID {
            return None;
        }
        let find = |wanted: &dyn Fn(&State) -> bool| {
            Self::all().find(|ring| ring.with(|state| wanted(state)))
        };
        // SAFETY: there is shared memory
        let claims = unsafe { lock(0) };
        let mut held = Held::new(claims);
        let mut ring = find(&|state| state.database == database)
            .or_else(|| find(&|state| state.database == Oid::INVALID));
        // SAFETY: reads the transaction's state: in one that ends no catalog is read
        if ring.is_none() && unsafe { pg_sys::IsTransactionState() } {
            drop(held);
            let owners = Self::all().map(|ring| ring.with(|state| state.database));
            let gone: Vec<Oid> = owners.filter(|&owner| !exists(owner)).collect();
            held = Held::new(claims);
            ring = find(&|state| state.worker == 0 && gone.contains(&state.database));
        }
        let _held = held;
        let ring = ring?;
        ring.with(|state| {
            if state.database != database {
                let (head, tail) = (state.head, state.head);
                *state = State { database, head, tail, ..State::default() };
            }
        });
        Some(ring)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let _held = Held::new(self.lock);
        // SAFETY: the lock is held, and the state is reached through here only
        work(unsafe { &mut (*self.slot).state })
    }

    /// How many bytes it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What it holds.
    pub fn status(&self) -> Status {
        self.with(|state| Status {
            worker: state.worker,
            waiting: state.waiting(),
            lost: state.lost,
            seen: state.seen,
        })
    }

    /// Adds a record, and returns the position after it; `None` if there is no room.
    /// `is_urgent` if somebody will wait for it.
    pub fn push(&self, record: &[u8], is_urgent: bool) -> Option<u64> {
        let length = record.len() + RECORD_HEADER;
        let (position, wakes, has_worker) = self.with(|state| {
            let waiting = state.waiting() as usize + length;
            let half = self.capacity / 2;
            let is_filling = waiting > half && waiting - length <= half;
            let is_full = waiting > self.capacity;
            state.urgent += u32::from(is_urgent);
            let wakes = (state.idle || is_urgent || is_filling || is_full).then_some(state.latch);
            if is_full {
                return (None, wakes, state.worker != 0);
            }
            self.write(state.head, &(record.len() as u32).to_be_bytes());
            self.write(state.head + RECORD_HEADER as u64, record);
            state.head += length as u64;
            (Some(state.head), wakes, state.worker != 0)
        });
        wakes.unwrap_or_default().set();
        if !has_worker {
            self.require_worker();
        }
        position
    }

    /// Counts an event for which there was no room.
    pub fn lose(&self) {
        self.with(|state| {
            state.lost += 1;
            state.stalled = true;
        });
    }

    /// Whether it is worth waiting for room.
    pub fn may_get_room(&self) -> bool {
        self.with(|state| !state.stalled)
    }

    /// The position after what has been pushed so far; the worker is told that somebody waits.
    pub fn head(&self) -> u64 {
        let (head, latch) = self.with(|state| {
            state.urgent += 1;
            (state.head, state.latch)
        });
        latch.set();
        self.require_worker();
        head
    }

    /// Waits until `is_enough` of the position up to which everything is on disk, or for `longest`;
    /// false if that has passed. It is an error where it would wait for itself: the parallel workers
    /// of this query leave no process to the audit's, or this transaction holds a lock that it
    /// needs. Interrupts, such as a cancelled query, raise theirs.
    pub fn wait(&self, longest: Option<Duration>, is_enough: impl Fn(u64) -> bool) -> Result<bool> {
        let start = Instant::now();
        // SAFETY: the condition variable is in shared memory; what an error leaves, abort cancels
        unsafe {
            let written = &raw mut (*self.slot).written;
            pg_sys::ConditionVariablePrepareToSleep(written);
            let is_done = loop {
                if is_enough(self.with(|state| state.tail)) {
                    break Ok(true);
                }
                if longest.is_some_and(|longest| start.elapsed() > longest) {
                    break Ok(false);
                }
                let milliseconds =
                    longest.map_or(200, |longest| longest.as_millis().min(200) as i64);
                if pg_sys::ConditionVariableTimedSleep(
                    written,
                    milliseconds,
                    pg_sys::PG_WAIT_EXTENSION,
                ) {
                    let is_free = self.require_worker();
                    if !is_free && pg_sys::IsInParallelMode() {
                        break Err(Error::AuditWorker);
                    }
                    if longest.is_none() && waits_for_us(self.with(|state| state.worker)) {
                        break Err(Error::AuditBlocked);
                    }
                }
            };
            pg_sys::ConditionVariableCancelSleep();
            is_done
        }
    }

    /// Waits until everything up to a position is on disk.
    pub fn wait_for(&self, position: u64) -> Result<()> {
        self.wait(None, |tail| tail >= position).map(|_| ())
    }

    /// Waits until a record of that length fits, or for `longest`; false if that has passed.
    pub fn wait_for_room(&self, length: usize, longest: Option<Duration>) -> Result<bool> {
        let needed = (length + RECORD_HEADER) as u64;
        let head = self.with(|state| state.head);
        self.wait(longest, |tail| head + needed <= tail + self.capacity as u64)
    }

    /// Asks for a worker, if there is none and none was asked for just now; false if no process is
    /// free for it.
    pub fn require_worker(&self) -> bool {
        let database = self.with(|state| {
            if state.worker != 0 {
                return None;
            }
            let now = backend::now();
            let asks = now - state.asked > START_TIME && now > state.none_until;
            if asks {
                state.asked = now;
            }
            asks.then_some(state.database)
        });
        let Some(database) = database else { return true };
        let started = BackgroundWorkerBuilder::new("fieldcrypt audit")
            .set_type("fieldcrypt audit")
            .set_library("fieldcrypt")
            .set_function("fieldcrypt_audit_worker")
            .set_argument(Some(Datum::from(database)))
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .enable_spi_access()
            .set_restart_time(None)
            .load_dynamic();
        if started.is_err() {
            // whoever comes next asks again
            self.with(|state| state.asked = 0);
        }
        started.is_ok()
    }

    // What the worker does.

    /// Takes over the writing; false if another process has.
    pub fn attach(&self) -> bool {
        self.with(|state| {
            let is_free = state.worker == 0 && backend::now() > state.none_until;
            if is_free {
                // SAFETY: variables of the only thread
                (state.worker, state.latch) =
                    unsafe { (pg_sys::MyProcPid, Latch(pg_sys::MyLatch)) };
            }
            is_free
        })
    }

    /// Lets go of the writing, as a process does that ends.
    pub fn detach(&self) {
        self.with(|state| {
            // SAFETY: a variable of the only thread
            if state.worker == unsafe { pg_sys::MyProcPid } {
                (state.worker, state.latch, state.idle) = (0, Latch::default(), false);
            }
        });
    }

    /// Lets go of the writing so that the next event asks for another process; false if there are
    /// events.
    pub fn retire(&self) -> bool {
        self.with(|state| {
            let is_empty = state.waiting() == 0 && state.lost == 0;
            if is_empty {
                (state.worker, state.latch, state.idle, state.asked) =
                    (0, Latch::default(), false, 0);
            }
            is_empty
        })
    }

    /// What is to be written next: as many records, each behind its length, as fit into `most` bytes;
    /// how many events were lost; and how many sessions wait.
    pub fn next(&self, most: usize) -> Next {
        let (tail, head, lost, urgent) = self.with(|state| {
            state.idle = state.waiting() == 0 && state.lost == 0;
            (state.tail, state.head, state.lost, std::mem::take(&mut state.urgent))
        });
        let (mut position, mut count) = (tail, 0);
        while position < head {
            let mut length = [0; RECORD_HEADER];
            self.read(position, &mut length);
            let after = position + RECORD_HEADER as u64 + u64::from(u32::from_be_bytes(length));
            // one at least, or there would be no end of it
            if count > 0 && after - tail > most as u64 {
                break;
            }
            (position, count) = (after, count + 1);
        }
        let mut records = vec![0; (position - tail) as usize];
        self.read(tail, &mut records);
        Next { records, count, position, lost, urgent }
    }

    /// How many wait now.
    pub fn urgent(&self) -> u32 {
        self.with(|state| state.urgent)
    }

    /// Notes what is on disk now, and wakes who waits for it.
    pub fn written(&self, position: u64, lost: u64, head: Option<Head>) {
        self.with(|state| {
            (state.tail, state.seen, state.stalled) = (position, head, false);
            state.lost -= lost;
        });
        // SAFETY: the condition variable is in shared memory
        unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*self.slot).written) };
    }

    /// Whether the worker is to end.
    pub fn is_to_stop(&self) -> bool {
        self.with(|state| backend::now() < state.none_until)
    }

    /// Copies bytes to a position. The caller holds the lock and has seen that there is room.
    fn write(&self, position: u64, bytes: &[u8]) {
        let at = (position % self.capacity as u64) as usize;
        let first = bytes.len().min(self.capacity - at);
        // SAFETY: both parts lie within the ring's bytes
        unsafe {
            self.bytes.add(at).copy_from_nonoverlapping(bytes.as_ptr(), first);
            self.bytes.copy_from_nonoverlapping(bytes[first..].as_ptr(), bytes.len() - first);
        }
    }

    /// Copies bytes from between `tail` and `head`, which nobody writes to.
    fn read(&self, position: u64, to: &mut [u8]) {
        let at = (position % self.capacity as u64) as usize;
        let (first, rest) = to.split_at_mut(to.len().min(self.capacity - at));
        // SAFETY: both parts lie within the ring's bytes
        unsafe {
            first.as_mut_ptr().copy_from_nonoverlapping(self.bytes.add(at), first.len());
            rest.as_mut_ptr().copy_from_nonoverlapping(self.bytes, rest.len());
        }
    }
}

/// Ends the worker of a database, for a statement that needs it to have no connections.
pub fn stop_worker(database: Oid) {
    // SAFETY: a variable that is set before the process starts
    if unsafe { RINGS.is_null() } {
        return;
    }
    for ring in Ring::all() {
        let of_database = ring.with(|state| state.database == database);
        if of_database {
            let latch = ring.with(|state| {
                state.none_until = backend::now() + STOP_TIME;
                state.latch
            });
            latch.set();
            let start = Instant::now();
            let is_ended = || ring.with(|state| state.worker == 0);
            let wait = || ring.wait(Some(POLL), |_| is_ended());
            while start.elapsed() < STOP_WAIT && matches!(wait(), Ok(false)) {}
        }
    }
}

/// Whether a process waits for a lock of this transaction.
fn waits_for_us(process: i32) -> bool {
    if process == 0 {
        return false;
    }
    // SAFETY: a process has its entry in shared memory, as has the leader of its group; a function of PostgreSQL with one argument, an integer;
    // its result is an array of integers
    unsafe {
        // of parallel workers it tells for whom they work
        let leader = (*pg_sys::MyProc).lockGroupLeader;
        let ours = if leader.is_null() { pg_sys::MyProcPid } else { (*leader).pid };
        let process = process.into_datum();
        pgrx::direct_function_call::<Vec<i32>>(pg_sys::pg_blocking_pids, &[process])
            .is_some_and(|blocking| blocking.contains(&ours))
    }
}

/// Whether a database exists.
fn exists(database: Oid) -> bool {
    let cache = pg_sys::SysCacheIdentifier::DATABASEOID as i32;
    // SAFETY: a syscache look-up by OID
    unsafe {
        pg_sys::SearchSysCacheExists(
            cache,
            Datum::from(database),
            Datum::null(),
            Datum::null(),
            Datum::null(),
        )
    }
}
