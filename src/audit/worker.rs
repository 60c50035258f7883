//! The background worker that writes the events of one database to its table.
//!
//! It is started by the first event and ends when there have been none for a while. Whatever waits
//! when it writes goes into one transaction, so that sessions that wait share its commit.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use fieldcrypt_core::{audit, framing};
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use super::chain;
use super::event::Event;
use super::ring::{Head, Next, Ring};
use crate::catalog::write;
use crate::error::{Error, OrRaise, Result};

/// How much is written in one transaction, in bytes.
const BATCH: usize = 1 << 19;
/// How much memory is kept from one transaction to the next, in bytes.
const KEPT_MEMORY: i32 = 1 << 25;
/// How long to gather events for which nobody waits.
const GATHERING: Duration = Duration::from_millis(100);
/// The shortest time that a latch can be waited for.
const LEAST: Duration = Duration::from_millis(1);
/// After how long without an event to end.
const QUIET: Duration = Duration::from_secs(60);
/// How long to go on for sessions that are about to end, when the server stops.
const LAST: Duration = Duration::from_secs(5);

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fieldcrypt_audit_worker(argument: Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let database = Oid::from(argument.value() as u32);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    settle_settings();
    keep_memory();
    let Some(ring) = Ring::of_database() else { return };
    if !ring.attach() {
        return;
    }
    // SAFETY: the callback is guarded, and is called while there is still shared memory
    unsafe { pg_sys::before_shmem_exit(Some(ends), Datum::null()) };
    write_until_told(ring);
}

#[pg_guard]
unsafe extern "C-unwind" fn ends(_code: c_int, _argument: Datum) {
    if let Some(ring) = Ring::of_database() {
        ring.detach();
    }
}

/// What the database's or the server's configuration says otherwise must not hold here.
fn settle_settings() {
    let set = |name: &std::ffi::CStr, value: &std::ffi::CStr| {
        // SAFETY: both are NUL-terminated; the setting exists and takes the value
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    };
    set(c"default_transaction_read_only", c"off");
    set(c"statement_timeout", c"0");
    set(c"lock_timeout", c"0");
    #[cfg(feature = "pg18")]
    set(c"transaction_timeout", c"0");
    // SAFETY: the name of the server's encoding, which lives for ever
    set(c"client_encoding", unsafe { std::ffi::CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) });
    // SAFETY: a setting of PostgreSQL
    if unsafe { pg_sys::synchronous_commit } == 0 {
        set(c"synchronous_commit", c"local");
    }
}

/// Lets the allocator keep what a transaction has used: else each gets its pages anew.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    for parameter in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
        // SAFETY: sets a parameter of the allocator
        unsafe { libc::mallopt(parameter, KEPT_MEMORY) };
    }
}

fn write_until_told(ring: Ring) {
    // what the worker before has written counts more than what is in the table by now
    let (mut seen, mut partition_ends) = (ring.status().seen, 0);
    let mut last_event = Instant::now();
    let mut told_to_end = None;
    loop {
        if BackgroundWorker::sighup_received() {
            // SAFETY: outside a transaction
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            settle_settings();
        }
        // not sigterm_received(), which tells it once: to wait_latch()
        // SAFETY: a flag that the signal's handler sets
        if unsafe { (&raw const pg_sys::ShutdownRequestPending).read_volatile() } != 0 {
            told_to_end.get_or_insert_with(Instant::now);
        }
        if ring.is_to_stop() {
            // what is left waits for the next worker
            return;
        }
        // before it looks for events: who is gone by then has left all of his
        let is_last = told_to_end.is_some() && is_alone();
        let is_overdue = told_to_end.is_some_and(|since| since.elapsed() > LAST);
        let next = ring.next(BATCH);
        let is_idle = next.count == 0 && next.lost == 0;
        let (position, lost, urgent) = (next.position, next.lost, next.urgent);
        if !is_idle {
            let begin = Instant::now();
            (seen, partition_ends) =
                BackgroundWorker::transaction(|| write(next, seen, partition_ends).or_raise());
            ring.written(position, lost, seen);
            last_event = Instant::now();
            if urgent > 0 && !is_overdue {
                if !gather(ring, urgent, begin.elapsed()) {
                    told_to_end.get_or_insert_with(Instant::now);
                }
                continue;
            }
            if ring.status().waiting >= BATCH as u64 / 2 {
                continue;
            }
        } else if is_last || (last_event.elapsed() > QUIET && ring.retire()) {
            return;
        }
        if is_overdue {
            return;
        }
        let busy = told_to_end.is_some() || !is_idle;
        if !BackgroundWorker::wait_latch(Some(if busy { GATHERING } else { QUIET })) {
            told_to_end.get_or_insert_with(Instant::now);
        }
    }
}

/// Waits until as many wait again as have just been served, or for a part of the time that it took
/// to serve them: else the first of them would be served alone, and the others wait twice. False if
/// the worker is told to end.
fn gather(ring: Ring, served: u32, took: Duration) -> bool {
    let begin = Instant::now();
    let longest = took / 4;
    while longest > LEAST && ring.urgent() < served && begin.elapsed() < longest {
        if !BackgroundWorker::wait_latch(Some(LEAST)) {
            return false;
        }
    }
    true
}

/// Whether no session of the database is left.
fn is_alone() -> bool {
    // SAFETY: counts under PostgreSQL's own lock; this process is one
    unsafe { pg_sys::CountDBBackends(pg_sys::MyDatabaseId) <= 1 }
}

/// Writes events to the table; returns how far it has come, which is nowhere if the extension is no
/// longer there, and when the partition ends, in microseconds since 1970.
fn write(next: Next, seen: Option<Head>, partition_ends: i64) -> Result<(Option<Head>, i64)> {
    let Next { mut records, mut count, lost, .. } = next;
    lock_extension();
    if matches!(chain::table(), Err(Error::NotInstalled)) {
        // who has just created it hands over his changes before he tells others to look again
        // SAFETY: inside a transaction
        unsafe { pg_sys::InvalidateSystemCaches() };
    }
    let table = match chain::table() {
        Err(Error::NotInstalled) => return Ok((None, 0)),
        table => table?,
    };
    let now = Event::of_the_system("lost", "done");
    let has_partition = now.at < partition_ends && seen.is_some_and(|seen| seen.table == table);
    let partition_ends = if has_partition { partition_ends } else { add_partition()? };
    if lost > 0 {
        let lost = Event { count: Some(lost.cast_signed()), ..now.clone() };
        framing::append(&mut records, &[&lost.record()]);
        count += 1;
    }
    Ok((Some(chain::append(&audit::pack(&records), count, now.at, seen)?), partition_ends))
}

/// Keeps the extension from being dropped in this transaction. DROP EXTENSION takes this lock before
/// those of the tables: without it, each could wait for the other.
fn lock_extension() {
    // SAFETY: inside a transaction; the name is NUL-terminated
    unsafe {
        let extension = pg_sys::get_extension_oid(c"fieldcrypt".as_ptr(), true);
        if extension != Oid::INVALID {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            pg_sys::LockDatabaseObject(pg_sys::ExtensionRelationId, extension, 0, lock);
        }
    }
}

fn add_partition() -> Result<i64> {
    let ends = write::texts(
        "SELECT fieldcrypt.audit_microseconds(fieldcrypt.add_audit_partition())::text",
        &[],
    )?;
    let ends = ends.first().and_then(|ends| ends.parse().ok());
    ends.ok_or(Error::Catalog("partition of the audit"))
}
