//! Which statements put a table under protection or take it away: what the functions do for that,
//! and what an owner does by hand, are the same statements on triggers and constraints.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, AlterTableType, List, Node, NodeTag, ObjectType, RangeVar};

use super::change::{self, About};
use crate::catalog::family::Family;
use crate::error::Result;

/// What is in the names of the row triggers that protect a table, and not of those of views.
const ROW_TRIGGER: &str = "_fieldcrypt_";
/// The trigger on the tables of the catalog, which makes an event of what is changed by hand.
const CATALOG_TRIGGER: &str = "tell_sessions";
/// With what the names of our constraints and event triggers begin.
const OURS: &str = "fieldcrypt_";
const PROTECT: &str = "protect";
const UNPROTECT: &str = "unprotect";

/// Notes what a utility statement that starts now does to the protection of a table.
///
/// # Safety
/// `statement` is a valid utility statement.
pub unsafe fn note(statement: *mut Node) -> Result<()> {
    // SAFETY: the caller's
    let changes = unsafe { changes(statement) };
    if changes.is_empty() || Family::get().is_err() {
        return Ok(());
    }
    for (action, detail) in changes {
        change::begins(action, About { detail: Some(detail), ..About::default() })?;
    }
    Ok(())
}

/// # Safety
/// As for [`note`].
unsafe fn changes(statement: *mut Node) -> Vec<(&'static str, String)> {
    // SAFETY: the caller's; the tag says which struct a node is, and the grammar which nodes are in
    // a list; names are NUL-terminated
    unsafe {
        match (*statement).type_ {
            NodeTag::T_CreateTrigStmt => {
                let create = statement.cast::<pg_sys::CreateTrigStmt>();
                let name = text((*create).trigname);
                let detail = format!("trigger {name} of {}", relation((*create).relation));
                if name.contains(ROW_TRIGGER) { vec![(PROTECT, detail)] } else { Vec::new() }
            }
            NodeTag::T_DropStmt => {
                let drop = statement.cast::<pg_sys::DropStmt>();
                if (*drop).removeType != ObjectType::OBJECT_TRIGGER {
                    return Vec::new();
                }
                items((*drop).objects)
                    .map(|object| names(object.cast()))
                    .filter(|names| names.last().is_some_and(|name| is_needed(name)))
                    .map(|mut names| {
                        let name = names.pop().unwrap_or_default();
                        (UNPROTECT, format!("trigger {name} of {}", names.join(".")))
                    })
                    .collect()
            }
            NodeTag::T_AlterTableStmt => {
                let alter = statement.cast::<pg_sys::AlterTableStmt>();
                items((*alter).cmds)
                    .filter_map(|command| altered(command.cast()))
                    .map(|(action, what)| {
                        (action, format!("{what} of {}", relation((*alter).relation)))
                    })
                    .collect()
            }
            NodeTag::T_AlterEventTrigStmt => {
                let name = text((*statement.cast::<pg_sys::AlterEventTrigStmt>()).trigname);
                let detail = format!("event trigger {name} altered");
                if name.starts_with(OURS) { vec![(UNPROTECT, detail)] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }
}

/// # Safety
/// `command` is valid.
unsafe fn altered(command: *mut pg_sys::AlterTableCmd) -> Option<(&'static str, String)> {
    // SAFETY: the caller's
    let (kind, name) = unsafe { ((*command).subtype, text((*command).name)) };
    match kind {
        AlterTableType::AT_EnableTrig | AlterTableType::AT_EnableAlwaysTrig => {
            name.contains(ROW_TRIGGER).then(|| (PROTECT, format!("trigger {name} enabled")))
        }
        AlterTableType::AT_DisableTrig => {
            is_needed(&name).then(|| (UNPROTECT, format!("trigger {name} disabled")))
        }
        AlterTableType::AT_EnableReplicaTrig => is_needed(&name)
            .then(|| (UNPROTECT, format!("trigger {name} enabled for replication only"))),
        AlterTableType::AT_DropConstraint => {
            name.starts_with(OURS).then(|| (UNPROTECT, format!("constraint {name}")))
        }
        AlterTableType::AT_EnableTrigAll | AlterTableType::AT_EnableTrigUser => {
            Some((PROTECT, "all triggers enabled".to_owned()))
        }
        AlterTableType::AT_DisableTrigAll | AlterTableType::AT_DisableTrigUser => {
            Some((UNPROTECT, "all triggers disabled".to_owned()))
        }
        _ => None,
    }
}

/// Whether less is protected, or noted, without the trigger of that name.
fn is_needed(name: &str) -> bool {
    name.contains(ROW_TRIGGER) || name == CATALOG_TRIGGER
}

/// # Safety
/// `relation` is valid.
unsafe fn relation(relation: *mut RangeVar) -> String {
    // SAFETY: the caller's
    let (schema, name) = unsafe { (text((*relation).schemaname), text((*relation).relname)) };
    if schema.is_empty() { name } else { format!("{schema}.{name}") }
}

/// # Safety
/// `list` is null or a valid list of pointers.
unsafe fn items(list: *mut List) -> impl Iterator<Item = *mut std::ffi::c_void> {
    // SAFETY: the caller's
    unsafe {
        let count = if list.is_null() { 0 } else { (*list).length };
        (0..count).map(move |index| pg_sys::list_nth(list, index))
    }
}

/// # Safety
/// `list` is a valid list of strings.
unsafe fn names(list: *mut List) -> Vec<String> {
    // SAFETY: the caller's
    unsafe { items(list).map(|name| text((*name.cast::<pg_sys::String>()).sval)).collect() }
}

/// # Safety
/// `name` is null or NUL-terminated.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the caller's
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
