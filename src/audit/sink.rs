//! Where events go: to the ring, from which the worker writes them to the table, or to the log.

use std::cell::Cell;
use std::time::Duration;

use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use super::Mode;
use super::event::Event;
use super::ring::Ring;
use crate::backend;
use crate::error::{Error, Result};
use crate::guc;

/// How long a statement waits for room in the ring before it counts its event as lost.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a worker that was there is taken to be there, in microseconds. It ends by itself only after
/// a minute without events.
const TRUSTED: i64 = 1_000_000;

thread_local! {
    /// The beginning of the statement that last made sure that there is a worker.
    static HAD_WORKER: Cell<i64> = const { Cell::new(0) };
}

/// Prepares for an event that will be handed over later, when nothing can be looked up any more: its
/// ring is found, and the worker is there when the server stops.
pub fn prepare() {
    let now = backend::statement_start();
    if let Some(ring) = Ring::of_database()
        && now > HAD_WORKER.get() + TRUSTED
        && ring.require_worker()
    {
        HAD_WORKER.set(now);
    }
}

/// Hands over the record of an event. If there is no room, it waits for it, a moment or in strict mode as long as
/// it takes, unless it `is_ending` a transaction, where nothing can be waited for; then the event is
/// counted as lost.
pub fn hand_over(record: &[u8], is_ending: bool) {
    let Some(ring) = Ring::of_database() else {
        log(record);
        return;
    };
    if ring.push(record, false).is_some() {
        // SAFETY: a variable of the only thread
        let session_ends = is_ending && unsafe { pg_sys::proc_exit_inprogress };
        if session_ends && ring.status().worker == 0 {
            // perhaps the server stops: then no worker comes any more
            log(record);
        }
        return;
    }
    let longest = (guc::audit() != Mode::Strict).then_some(LONGEST_WAIT);
    // in vain is like not at all
    let wait = || ring.wait_for_room(record.len(), longest).unwrap_or(false);
    let mut waits = !is_ending && (longest.is_none() || ring.may_get_room());
    // a moment is waited for also where the query is cancelled: nobody else has the event
    while waits && if longest.is_some() { backend::without_interrupts(wait) } else { wait() } {
        if ring.push(record, false).is_some() {
            return;
        }
        waits = longest.is_none();
    }
    ring.lose();
}

/// Hands over an event, and waits until it is on disk.
pub fn store(event: &Event) -> Result<()> {
    let ring = Ring::of_database().ok_or(Error::AuditUnavailable)?;
    let record = event.record();
    loop {
        if let Some(position) = ring.push(&record, true) {
            return ring.wait_for(position);
        }
        ring.wait_for_room(record.len(), None)?;
    }
}

fn log(record: &[u8]) {
    let event = Event::of_record(record);
    let json = event.and_then(|event| serde_json::to_string(&event).ok()).unwrap_or_default();
    let message = format!("fieldcrypt audit: {json}");
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    pg_sys::panic::ErrorReport::new(code, message, "fieldcrypt")
        .report(PgLogLevel::LOG_SERVER_ONLY);
}
