//! Which utility statement is in progress: parse analysis is the same for the query of a view, of
//! COPY, or of a prepared statement, but only the last is read by the client.

use std::cell::Cell;
use std::ffi::c_char;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag, Query};

use crate::error::{Error, OrRaise, Result};
use crate::guc;
use crate::transparent;

/// What a utility statement does with the queries that are analysed while it runs.
#[derive(Clone, Copy)]
pub enum InProgress {
    /// There is none.
    Nothing,
    /// PREPARE, whose query the client will run.
    Prepare,
    /// EXECUTE of a statement that was made transparent when it was prepared, by its source text.
    Execute(*const c_char),
    /// Any other.
    Other,
}

thread_local! {
    static IN_PROGRESS: Cell<InProgress> = const { Cell::new(InProgress::Nothing) };
}

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

pub fn init() {
    // SAFETY: called once, from _PG_init, before any statement runs
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
    }
}

/// The innermost utility statement in progress.
pub fn in_progress() -> InProgress {
    IN_PROGRESS.get()
}

/// Puts back what was in progress, also when the statement fails.
struct Outer(InProgress);

impl Drop for Outer {
    fn drop(&mut self) {
        IN_PROGRESS.set(self.0);
    }
}

#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the hook's")]
unsafe extern "C-unwind" fn process(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the previous hook or the standard function gets what it would have got
    unsafe {
        let started = started(statement).or_raise();
        let _outer = Outer(IN_PROGRESS.replace(started));
        match PREVIOUS {
            Some(previous) => pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(
                    statement,
                    text,
                    read_only,
                    context,
                    parameters,
                    environment,
                    receiver,
                    completion,
                )
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
    }
}

/// What a statement that starts now is. Fails where it would store what a transparent statement
/// shows.
///
/// # Safety
/// `statement` is a valid utility statement.
unsafe fn started(statement: *mut pg_sys::PlannedStmt) -> Result<InProgress> {
    // SAFETY: the caller's; the tag says which struct a node is
    unsafe {
        let mut statement = (*statement).utilityStmt;
        if (*statement).type_ == NodeTag::T_ExplainStmt {
            let explained = utility_within((*statement.cast::<pg_sys::ExplainStmt>()).query);
            let Some(explained) = explained else { return Ok(InProgress::Other) };
            statement = explained;
        }
        match (*statement).type_ {
            NodeTag::T_PrepareStmt => Ok(InProgress::Prepare),
            NodeTag::T_ExecuteStmt => {
                Ok(transparent_source(statement.cast())
                    .map_or(InProgress::Other, InProgress::Execute))
            }
            NodeTag::T_CreateTableAsStmt => {
                let query = (*statement.cast::<pg_sys::CreateTableAsStmt>()).query;
                match utility_within(query) {
                    Some(inner)
                        if (*inner).type_ == NodeTag::T_ExecuteStmt
                            && transparent_source(inner.cast()).is_some() =>
                    {
                        Err(Error::TransparentIntoTable)
                    }
                    _ => Ok(InProgress::Other),
                }
            }
            _ => Ok(InProgress::Other),
        }
    }
}

/// The utility statement that is the query of another.
///
/// # Safety
/// `query` is null or a valid node.
unsafe fn utility_within(query: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: the caller's; the tag says which struct it is
    unsafe {
        if query.is_null() || (*query).type_ != NodeTag::T_Query {
            return None;
        }
        let statement = (*query.cast::<Query>()).utilityStmt;
        (!statement.is_null()).then_some(statement)
    }
}

/// The source text of the statement that an EXECUTE names, if it is transparent.
///
/// # Safety
/// `execute` is valid.
unsafe fn transparent_source(execute: *mut pg_sys::ExecuteStmt) -> Option<*const c_char> {
    // SAFETY: the caller's; a prepared statement has a plan source
    unsafe {
        if !transparent::has_rewritten() {
            return None;
        }
        let prepared = pg_sys::FetchPreparedStatement((*execute).name, false);
        if prepared.is_null() {
            return None;
        }
        let source = (*prepared).plansource;
        let queries = (*source).query_list;
        let transparent = if queries.is_null() {
            // it failed when it was last analysed anew, and nothing is left of what it was
            guc::transparent()
        } else {
            transparent::is_rewritten(queries)
        };
        transparent.then_some((*source).query_string)
    }
}
