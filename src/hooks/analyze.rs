//! After parse analysis: which statements are read transparently (`fieldcrypt.transparent`).
//!
//! Invariant: only a statement that the client itself sent is changed, and only where its rows go
//! to the client. Queries of functions, triggers, views and rules have a source text of their own;
//! what a utility statement does with its query, `utility` knows.

use pgrx::pg_guard;
use pgrx::pg_sys::{self, CmdType, JumbleState, NodeTag, ParseState, Query};

use super::utility::{self, InProgress};
use crate::catalog::family;
use crate::error::OrRaise;
use crate::guc;
use crate::transparent;

/// The cursor through which `pg_dump --inserts` reads: a dump stays ciphertext.
const PG_DUMP_CURSOR: &[u8] = b"_pg_dump_cursor";

static mut PREVIOUS: pg_sys::post_parse_analyze_hook_type = None;

pub fn init() {
    // SAFETY: called once, from _PG_init, before any statement is analysed
    unsafe {
        PREVIOUS = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analyzed);
    }
}

/// Not guarded: an error of the previous hook passes through as it is, and there is nothing to drop.
unsafe extern "C-unwind" fn analyzed(
    state: *mut ParseState,
    query: *mut Query,
    jumble: *mut JumbleState,
) {
    // SAFETY: the query was just made by parse analysis, which hands it to us to be changed
    unsafe {
        // what others see is what was written
        if let Some(previous) = PREVIOUS {
            previous(state, query, jumble);
        }
        show(state, query);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn show(state: *mut ParseState, query: *mut Query) {
    // the log hides values where it is, and can look up nothing
    family::look_for();
    // SAFETY: the caller's
    unsafe {
        if let Some(query) = read_by_client(state, query) {
            transparent::rewrite(query).or_raise();
        }
    }
}

/// The query in a statement whose rows the client reads; `None` if it is to be left alone.
///
/// # Safety
/// Both are valid.
unsafe fn read_by_client(state: *mut ParseState, query: *mut Query) -> Option<*mut Query> {
    // SAFETY: the caller's
    unsafe {
        let source = (*state).p_sourcetext;
        match utility::in_progress() {
            InProgress::Nothing => {
                let applies = guc::transparent() && is_sent_by_client(source);
                if applies { query_within(query) } else { None }
            }
            InProgress::Prepare => {
                (guc::transparent() && is_sent_by_client(source)).then_some(query)
            }
            // analysed anew: it stays what it was when it was prepared
            InProgress::Execute(prepared) => std::ptr::eq(prepared, source).then_some(query),
            InProgress::Other => None,
        }
        .filter(|query| (**query).commandType != CmdType::CMD_UTILITY)
    }
}

/// Whether that is the very text that the client sent.
fn is_sent_by_client(source: *const std::ffi::c_char) -> bool {
    // SAFETY: a variable of the only thread
    let sent = unsafe { pg_sys::debug_query_string };
    !sent.is_null() && std::ptr::eq(source, sent)
}

/// The query itself, or that of an EXPLAIN or a cursor.
///
/// # Safety
/// `query` is valid.
unsafe fn query_within(query: *mut Query) -> Option<*mut Query> {
    // SAFETY: the caller's; parse analysis has put a Query into these statements
    unsafe {
        if (*query).commandType != CmdType::CMD_UTILITY {
            return Some(query);
        }
        let statement = (*query).utilityStmt;
        let inner = match (*statement).type_ {
            NodeTag::T_ExplainStmt => (*statement.cast::<pg_sys::ExplainStmt>()).query,
            NodeTag::T_DeclareCursorStmt => {
                let cursor = statement.cast::<pg_sys::DeclareCursorStmt>();
                let name = std::ffi::CStr::from_ptr((*cursor).portalname);
                if name.to_bytes() == PG_DUMP_CURSOR {
                    return None;
                }
                (*cursor).query
            }
            _ => return None,
        };
        (!inner.is_null() && (*inner).type_ == NodeTag::T_Query).then_some(inner.cast())
    }
}
