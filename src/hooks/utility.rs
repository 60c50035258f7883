//! Which utility statement is in progress: parse analysis is the same for the query of a view, of
//! COPY, or of a prepared statement, but only the last is read by the client.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag, Query};

use super::database;
use crate::audit;
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
    /// The utility statements in progress, each with the nesting level of its transaction.
    static IN_PROGRESS: RefCell<Vec<(InProgress, i32)>> = const { RefCell::new(Vec::new()) };
}

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

pub fn init() {
    // SAFETY: called once, from _PG_init, before any statement runs
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
    }
}

/// The innermost utility statement in progress.
pub fn in_progress() -> InProgress {
    IN_PROGRESS.with_borrow(|statements| {
        statements.last().map_or(InProgress::Nothing, |&(statement, _)| statement)
    })
}

unsafe extern "C-unwind" {
    /// PostgreSQL's own, without a guard around it.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Not guarded: an error passes through with all that it says, and there is nothing to drop. What
/// was in progress then ends with the transaction.
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
        let outer = start(statement, context);
        let depth = audit::statement::enter();
        let run = PREVIOUS.unwrap_or(standard_ProcessUtility);
        run(statement, text, read_only, context, parameters, environment, receiver, completion);
        IN_PROGRESS.with_borrow_mut(|statements| statements.truncate(outer));
        audit::statement::leave(depth);
    }
}

/// Notes that a statement starts, and returns how many are in progress around it.
#[pg_guard]
unsafe extern "C-unwind" fn start(
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::ProcessUtilityContext::Type,
) -> usize {
    let is_sent = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
    // SAFETY: the caller's
    let (started, level) = unsafe {
        database::make_room((*statement).utilityStmt);
        audit::protection::note((*statement).utilityStmt).or_raise();
        (started(statement, is_sent).or_raise(), pg_sys::GetCurrentTransactionNestLevel())
    };
    IN_PROGRESS.with_borrow_mut(|statements| {
        statements.push((started, level));
        statements.len() - 1
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        IN_PROGRESS.with_borrow_mut(Vec::clear);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    _id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // SAFETY: asked while the subtransaction is still the current one
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
        IN_PROGRESS.with_borrow_mut(|statements| {
            let kept = statements.iter().take_while(|&&(_, of)| of < level).count();
            statements.truncate(kept);
        });
    }
}

/// What a statement that starts now is; `is_sent` by the client. Fails where it would store what a
/// transparent statement shows, or hand it to a function.
///
/// # Safety
/// `statement` is a valid utility statement.
unsafe fn started(statement: *mut pg_sys::PlannedStmt, is_sent: bool) -> Result<InProgress> {
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
            NodeTag::T_ExecuteStmt => match transparent_source(statement.cast()) {
                Some(_) if !is_sent => Err(Error::TransparentIntoTable),
                Some(source) => Ok(InProgress::Execute(source)),
                None => Ok(InProgress::Other),
            },
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
