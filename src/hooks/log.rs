//! What goes to the server's log: statements without their values (`fieldcrypt.redact_log`).
//!
//! Literals are hidden in the text of every statement, since it is logged before anybody knows what
//! it is about; parameters are no part of it. Neither is what a message quotes because it was wrong.
//! What the client sees of an error stays as it is.
//!
//! Invariant: this runs inside error reporting: it reads no catalog, raises no error and does not
//! panic. What cannot be rewritten is left out.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::{CStr, c_char};

use fieldcrypt_core::redact::redact;
use pgrx::pg_sys;
use pgrx::{PgSqlErrorCode, pg_guard};

use crate::catalog::family;
use crate::error::is_data_exception;
use crate::guc;

static mut PREVIOUS: pg_sys::emit_log_hook_type = None;

thread_local! {
    /// Whether what is emitted is a report that has no values any more.
    static IS_REDACTED: Cell<bool> = const { Cell::new(false) };
}

/// Where the plan begins in what `auto_explain` logs.
const PLAN: &[u8] = b"plan:\n";
/// How it begins in the format text.
const QUERY_TEXT: &[u8] = b"Query Text: ";
/// What stands in place of what cannot be taken apart.
const NOT_SHOWN: &[u8] = b"(not shown: fieldcrypt.redact_log)";
/// What stands in place of a value.
const VALUE: &[u8] = b"?";
/// The messages of `debug_print_parse` and its kin, whose trees hold constants in many forms.
const TREES: [&[u8]; 4] = [b"raw parse tree:", b"parse tree:", b"rewritten parse tree:", b"plan:"];
/// What is said of a statement in the detail of an error.
const STATEMENT: &[u8] = b"Statement without its values: ";

pub fn init() {
    // SAFETY: called once, from _PG_init
    unsafe {
        PREVIOUS = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(emit);
    }
}

unsafe extern "C-unwind" fn emit(report: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL passes the report that it is about to write, to be changed
    unsafe {
        redacted(report);
        if (*report).output_to_server
            && let Some(previous) = PREVIOUS
        {
            previous(report);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn redacted(report: *mut pg_sys::ErrorData) {
    // SAFETY: as above
    unsafe {
        if (*report).output_to_server
            && !IS_REDACTED.get()
            && guc::redact_log()
            && !family::is_known_to_be_absent()
        {
            hide_values(&mut *report);
        }
    }
}

/// # Safety
/// The texts of the report are null or NUL-terminated, as are the variables read here.
unsafe fn hide_values(report: &mut pg_sys::ErrorData) {
    // SAFETY: the caller's
    unsafe {
        let statement = bytes(pg_sys::debug_query_string);
        let redacted = statement.map(redact);
        let context = report.assoc_context;
        if report.elevel == pg_sys::LOG as i32 {
            let shown = statement.zip(redacted.as_deref());
            let is_tree = bytes(report.message).is_some_and(|message| TREES.contains(&message));
            replace(&mut report.message, context, |message| without(message, shown));
            replace(&mut report.detail, context, |detail| {
                Some(if is_tree { NOT_SHOWN.to_vec() } else { redact(detail).into_owned() })
            });
        } else {
            // a deadlock's has the statements of others
            replace(&mut report.detail_log, context, |detail| Some(redact(detail).into_owned()));
            // such a detail shows what was wrong
            if is_data_exception(report.sqlerrcode)
                && report.detail_log.is_null()
                && !report.detail.is_null()
            {
                report.detail_log = copy(context, NOT_SHOWN);
            }
            if let (Some(statement), Some(redacted)) = (&statement, &redacted)
                && **statement != **redacted
            {
                let detail = bytes(report.detail_log).or(bytes(report.detail));
                let line = [STATEMENT, redacted].concat();
                let with = detail.map_or(line.clone(), |detail| [detail, b"\n", &line].concat());
                report.detail_log = copy(context, &with);
            }
        }
        // the STATEMENT line: what is in it is said above, or is known from the message
        report.hide_stmt |= statement != redacted.as_deref();
        report.hide_ctx |= bytes(report.context).is_some_and(shows_values);
        replace(&mut report.internalquery, context, |query| Some(redact(query).into_owned()));
        if let Some(message) = bytes(report.message).and_then(|message| shown(message, report)) {
            log_with(report, &message);
        }
    }
}

/// A message of the log without the values of the statement that it shows; `None` if it shows none.
/// `statement` is the client's, and what it is without them.
fn without(message: &[u8], statement: Option<(&[u8], &[u8])>) -> Option<Vec<u8>> {
    if let Some(at) = memchr::memmem::find(message, PLAN) {
        let (head, plan) = message.split_at(at + PLAN.len());
        // in JSON and YAML values stand between the quotes of names
        let is_known = plan.starts_with(QUERY_TEXT) && !plan[QUERY_TEXT.len()..].starts_with(b"\"");
        let plan = if is_known { redact(plan) } else { Cow::Borrowed(NOT_SHOWN) };
        return Some([head, &plan].concat());
    }
    let (statement, redacted) = statement.filter(|(statement, _)| !statement.is_empty())?;
    let at = memchr::memmem::rfind(message, statement)?;
    Some([&message[..at], redacted, &message[at + statement.len()..]].concat())
}

/// The message of an error that quotes what was wrong, such as `syntax error at or near "'…'"`,
/// without values; `None` if it has none.
///
/// # Safety
/// The texts of the report are null or NUL-terminated.
unsafe fn shown(message: &[u8], report: &pg_sys::ErrorData) -> Option<Vec<u8>> {
    let is_syntax = report.sqlerrcode == PgSqlErrorCode::ERRCODE_SYNTAX_ERROR as i32;
    if report.elevel == pg_sys::LOG as i32 || !is_syntax && !is_data_exception(report.sqlerrcode) {
        return None;
    }
    let mark = message.iter().position(|&byte| byte == b'"' || !byte.is_ascii())?;
    if message[mark] != b'"' {
        // translated, with the quotation marks of the language
        // SAFETY: the caller's
        return Some(unsafe { bytes(report.message_id) }.unwrap_or(NOT_SHOWN).to_vec());
    }
    let (head, rest) = message.split_at(mark + 1);
    let (quoted, tail) = rest.split_at(memchr::memrchr(b'"', rest).unwrap_or(rest.len()));
    let quoted = if is_syntax { redact(quoted) } else { Cow::Borrowed(VALUE) };
    Some([head, &quoted, tail].concat())
}

/// Writes the report to the log with another message than the client gets: in PostgreSQL, it is one
/// report that goes to both.
///
/// # Safety
/// `report` is the one that is being emitted.
unsafe fn log_with(report: &mut pg_sys::ErrorData, message: &[u8]) {
    struct Redacted;
    impl Drop for Redacted {
        fn drop(&mut self) {
            IS_REDACTED.set(false);
        }
    }

    let for_client = (report.message, report.output_to_client);
    // SAFETY: the context is the report's; what is emitted is the report on top of the stack, the
    // caller's, and the hook takes it as it is
    unsafe {
        report.message = copy(report.assoc_context, message);
        report.output_to_client = false;
        IS_REDACTED.set(true);
        let _redacted = Redacted;
        pg_sys::EmitErrorReport();
    }
    (report.message, report.output_to_client) = for_client;
    report.output_to_server = false;
}

/// Whether a context quotes anything: a statement, its parameters, a line of COPY, a document. The
/// quotation marks of other languages are not ASCII.
fn shows_values(context: &[u8]) -> bool {
    context.iter().any(|byte| !byte.is_ascii() || matches!(byte, b'"' | b'\'' | b'$' | b'{' | b'['))
}

/// # Safety
/// `text` is null or NUL-terminated, and lives as long as the report.
unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller's
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// # Safety
/// `text` is null or NUL-terminated; `context` is a valid memory context.
unsafe fn replace(
    text: &mut *mut c_char,
    context: pg_sys::MemoryContext,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) {
    // SAFETY: the caller's
    unsafe {
        if let Some(changed) = bytes(*text).and_then(change) {
            *text = copy(context, &changed);
        }
    }
}

/// A NUL-terminated copy; null if there is no memory.
///
/// # Safety
/// `context` is a valid memory context.
unsafe fn copy(context: pg_sys::MemoryContext, text: &[u8]) -> *mut c_char {
    let flags = pg_sys::MCXT_ALLOC_NO_OOM as i32;
    // SAFETY: the caller's; with this flag it returns null instead of raising an error; the text
    // and the NUL behind it fit
    unsafe {
        let memory =
            pg_sys::MemoryContextAllocExtended(context, text.len() + 1, flags).cast::<u8>();
        if !memory.is_null() {
            memory.copy_from_nonoverlapping(text.as_ptr(), text.len());
            memory.add(text.len()).write(0);
        }
        memory.cast()
    }
}
