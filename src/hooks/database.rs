//! Statements that need a database without connections: the worker that writes its audit ends first,
//! and is started again by the next event.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, DefElem, List, Node, NodeTag};

use crate::{audit, backend, compat};

/// Ends the worker of the database that a statement drops, renames, moves or copies, if the current
/// user may do that.
///
/// # Safety
/// `statement` is a valid utility statement.
pub unsafe fn make_room(statement: *mut Node) {
    // SAFETY: the caller's; names are NUL-terminated
    unsafe {
        let Some(name) = database_of(statement) else { return };
        let database = pg_sys::get_database_oid(name, true);
        if database != pg_sys::InvalidOid && compat::owns_database(database, backend::user()) {
            audit::stop_worker(database);
        }
    }
}

/// # Safety
/// As for [`make_room`].
unsafe fn database_of(statement: *mut Node) -> Option<*const c_char> {
    // SAFETY: the caller's; the tag says which struct a node is
    let name: *const c_char = unsafe {
        match (*statement).type_ {
            NodeTag::T_DropdbStmt => (*statement.cast::<pg_sys::DropdbStmt>()).dbname,
            NodeTag::T_AlterDatabaseStmt => {
                let alter = statement.cast::<pg_sys::AlterDatabaseStmt>();
                option((*alter).options, c"tablespace")?;
                (*alter).dbname
            }
            NodeTag::T_RenameStmt => {
                let rename = statement.cast::<pg_sys::RenameStmt>();
                let is_database = (*rename).renameType == pg_sys::ObjectType::OBJECT_DATABASE;
                if is_database { (*rename).subname } else { return None }
            }
            NodeTag::T_CreatedbStmt => {
                let options = (*statement.cast::<pg_sys::CreatedbStmt>()).options;
                match option(options, c"template") {
                    Some(template) => pg_sys::defGetString(template),
                    None => c"template1".as_ptr(),
                }
            }
            _ => return None,
        }
    };
    (!name.is_null()).then_some(name)
}

/// The option of that name, if it has a value.
///
/// # Safety
/// `options` is null or a valid list of options.
unsafe fn option(options: *mut List, name: &CStr) -> Option<*mut DefElem> {
    // SAFETY: the caller's; names are NUL-terminated
    unsafe {
        let count = if options.is_null() { 0 } else { (*options).length };
        (0..count)
            .map(|i| pg_sys::list_nth(options, i).cast::<DefElem>())
            .find(|&option| CStr::from_ptr((*option).defname) == name && !(*option).arg.is_null())
    }
}
