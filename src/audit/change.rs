//! Administrative changes: an event each, handed over when the outcome of its transaction is known.

use std::cell::RefCell;
use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, SubTransactionId};

use super::Mode;
use super::event::{Event, shortened};
use super::sink;
use super::statement::{self, DENIED, OPENED};
use crate::error::Result;
use crate::guc;

const DONE: &str = "done";
const PREPARED: &str = "prepared";
const ROLLED_BACK: &str = "rolled back";

/// What a change is about.
#[derive(Default)]
pub struct About<'a> {
    pub field: Option<&'a str>,
    pub account: Option<&'a str>,
    pub detail: Option<String>,
}

thread_local! {
    /// The changes of this transaction, each with the subtransaction that made it.
    static CHANGES: RefCell<Vec<(Event, SubTransactionId)>> = const { RefCell::new(Vec::new()) };
}

/// Registers the callbacks.
pub fn init() {
    // SAFETY: called once, from _PG_init; the callbacks are guarded
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
    }
}

fn event(action: &str, outcome: &'static str, about: About<'_>) -> Event {
    let owned = |text: &str| shortened(text).to_owned();
    Event {
        field: about.field.map(owned),
        account: about.account.map(owned),
        detail: about.detail.as_deref().map(owned),
        ..Event::now(action.to_owned(), outcome)
    }
}

/// Notes that the current user changes something. In strict mode it returns once that is on disk.
pub fn begins(action: &str, about: About<'_>) -> Result<()> {
    let mode = guc::audit();
    if mode == Mode::Off {
        return Ok(());
    }
    sink::prepare();
    let event = event(action, DONE, about);
    if mode == Mode::Strict {
        sink::store(&Event { outcome: OPENED.into(), ..event.clone() })?;
    }
    // SAFETY: returns a variable
    let made_by = unsafe { pg_sys::GetCurrentSubTransactionId() };
    CHANGES.with_borrow_mut(|changes| changes.push((event, made_by)));
    Ok(())
}

/// Adds to the detail of the last change what is known of it by now.
pub fn add_detail(more: &str) {
    CHANGES.with_borrow_mut(|changes| {
        if let Some(detail) = changes.last_mut().and_then(|(event, _)| event.detail.as_mut()) {
            detail.push_str(", ");
            detail.push_str(more);
        }
    });
}

/// Notes that the current user was refused a change.
pub fn denied(action: &str, about: About<'_>) {
    if guc::audit() != Mode::Off {
        statement::add(event(action, DENIED, about));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    let outcome = match event {
        XACT_EVENT_COMMIT => DONE,
        XACT_EVENT_PREPARE => PREPARED,
        XACT_EVENT_ABORT => ROLLED_BACK,
        _ => return,
    };
    for (mut event, _) in CHANGES.take() {
        if event.outcome == DONE {
            event.outcome = outcome.into();
        }
        sink::hand_over(&event.record(), true);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    id: SubTransactionId,
    parent: SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    CHANGES.with_borrow_mut(|changes| {
        for (change, made_by) in changes.iter_mut().filter(|(_, made_by)| *made_by == id) {
            match event {
                SUBXACT_EVENT_COMMIT_SUB => *made_by = parent,
                SUBXACT_EVENT_ABORT_SUB => change.outcome = ROLLED_BACK.into(),
                _ => {}
            }
        }
    });
}
