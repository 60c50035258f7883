//! When cached keys, grants and fields stop being true.
//!
//! A statement trigger on each of the extension's tables sends a relcache invalidation, which
//! reaches every session at commit, and the own session at once and again at rollback. The
//! callback only counts; caches compare the count. So a key made in a transaction that is rolled
//! back is forgotten, and a revoked grant stops prepared statements at their next execution.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{pg_extern, pg_guard};

use super::tables::Tables;
use super::write;
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::Answer;

type Answered = std::result::Result<Answer, ErrorReport>;

static GENERATION: AtomicU64 = AtomicU64::new(1);
static STATEMENT: AtomicI64 = AtomicI64::new(0);
static ROLES_CHANGED: AtomicBool = AtomicBool::new(false);

/// Registers the callbacks.
pub fn init() {
    // SAFETY: called once, from _PG_init; the callbacks are guarded and allocate nothing
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), Datum::null());
        let memberships = pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM as i32;
        pg_sys::CacheRegisterSyscacheCallback(memberships, Some(roles_changed), Datum::null());
        let roles = pg_sys::SysCacheIdentifier::AUTHOID as i32;
        pg_sys::CacheRegisterSyscacheCallback(roles, Some(roles_changed), Datum::null());
    }
}

/// Takes in what other sessions have committed, once per statement of the client, and returns the
/// generation of the catalog: caches of an older one are void.
pub fn current() -> u64 {
    let statement = backend::statement_start();
    // loads and stores only: PostgreSQL's processes have one thread, and this is asked for each
    // value
    if STATEMENT.load(Ordering::Relaxed) != statement {
        STATEMENT.store(statement, Ordering::Relaxed);
        // SAFETY: we are inside a transaction, in a function that PostgreSQL called
        unsafe { pg_sys::AcceptInvalidationMessages() };
    }
    generation()
}

/// The generation of the catalog as far as this session has heard.
pub fn generation() -> u64 {
    if ROLES_CHANGED.load(Ordering::Relaxed) {
        ROLES_CHANGED.store(false, Ordering::Relaxed);
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    GENERATION.load(Ordering::Relaxed)
}

#[pg_guard]
extern "C-unwind" fn relation_changed(_argument: Datum, relation: Oid) {
    let ours =
        relation == Oid::INVALID || Tables::last_seen().is_none_or(|tables| tables.holds(relation));
    if ours {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

#[pg_guard]
extern "C-unwind" fn roles_changed(_argument: Datum, _cache: i32, _hash: u32) {
    ROLES_CHANGED.store(true, Ordering::Relaxed);
}

/// Statement trigger of the extension's tables: tells every session, and the audit if the change is
/// not one of the extension's own.
#[pg_extern(sql = false)]
fn catalog_changed(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let Some(data) = crate::trigger::data(fcinfo) else { return Ok(Answer::NULL) };
    // SAFETY: the trigger's relation is open while the trigger runs, and its name NUL-terminated
    let (table, name, event) = unsafe {
        let relation = (*data).tg_relation;
        let name = CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr());
        ((*relation).rd_id, name.to_string_lossy(), (*data).tg_event)
    };
    // SAFETY: the relation exists
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) };
    if !write::is_in_progress() {
        let detail = Some(format!("{} of {name}", operation(event)));
        change::begins("change", About { detail, ..About::default() })?;
    }
    Ok(Answer::datum(Datum::null()))
}

/// What a statement does for which a trigger fires.
fn operation(event: pg_sys::TriggerEvent) -> &'static str {
    match event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_INSERT => "INSERT",
        pg_sys::TRIGGER_EVENT_DELETE => "DELETE",
        pg_sys::TRIGGER_EVENT_UPDATE => "UPDATE",
        _ => "TRUNCATE",
    }
}
