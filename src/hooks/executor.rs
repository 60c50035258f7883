//! Where statements begin and end: for the audit, which counts reads per statement of the client, for
//! jobs, which write without triggers, and for what writes under an older snapshot, which fails after
//! a rotation of an index key.
//!
//! Not guarded: an error passes through with all that it says, and there is nothing to drop.

use pgrx::pg_sys::{self, QueryDesc, ScanDirection};

use crate::audit::statement;
use crate::backend;
use crate::jobs::owner;
use crate::keyring::index;

static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_FINISH: pg_sys::ExecutorFinish_hook_type = None;

pub fn init() {
    // SAFETY: called once, from _PG_init, before any statement runs
    unsafe {
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(run);
        PREVIOUS_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(finish);
    }
}

unsafe extern "C-unwind" {
    // PostgreSQL's own, without a guard around them
    fn standard_ExecutorRun(
        query: *mut QueryDesc,
        direction: ScanDirection::Type,
        count: u64,
        #[cfg(not(feature = "pg18"))] once: bool,
    );
    fn standard_ExecutorFinish(query: *mut QueryDesc);
}

unsafe extern "C-unwind" fn run(
    query: *mut QueryDesc,
    direction: ScanDirection::Type,
    count: u64,
    #[cfg(not(feature = "pg18"))] once: bool,
) {
    // SAFETY: the executor passes a query that was started
    if backend::has_transaction_snapshot() && unsafe { writes(query) } {
        index::require_newest();
    }
    let depth = statement::enter();
    if owner::is_quiet() {
        // SAFETY: a query is started before it runs
        unsafe { owner::leave_triggers_out(query) };
    }
    // SAFETY: the previous hook or the standard function gets what it would have got
    unsafe {
        let run = PREVIOUS_RUN.unwrap_or(standard_ExecutorRun);
        #[cfg(not(feature = "pg18"))]
        run(query, direction, count, once);
        #[cfg(feature = "pg18")]
        run(query, direction, count);
    }
    statement::leave(depth);
}

/// Whether a query writes rows: of a table, or of one that it makes.
///
/// # Safety
/// `query` was started.
unsafe fn writes(query: *mut QueryDesc) -> bool {
    // SAFETY: the caller's; a destination has a kind
    unsafe {
        let into = [pg_sys::CommandDest::DestIntoRel, pg_sys::CommandDest::DestTransientRel];
        (*query).operation != pg_sys::CmdType::CMD_SELECT
            || (*(*query).plannedstmt).hasModifyingCTE
            || (*query).dest.as_ref().is_some_and(|dest| into.contains(&dest.mydest))
    }
}

/// Runs triggers that are not deferred.
unsafe extern "C-unwind" fn finish(query: *mut QueryDesc) {
    let depth = statement::enter();
    // SAFETY: as above
    unsafe { PREVIOUS_FINISH.unwrap_or(standard_ExecutorFinish)(query) };
    statement::leave(depth);
}
