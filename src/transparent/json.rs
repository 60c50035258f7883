//! JSON that is made of encrypted values: `json_agg(ssn)`, `to_jsonb(lead)`, `JSON_OBJECT(…)`. These
//! functions take values of any type and give JSON, so that their arguments can be shown wherever
//! they stand: relations of object-relational mappers come out of sub-selects that call them.
//!
//! Invariant: nothing changes that could be written, as in [`casts`](super::casts).

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{
    self, Aggref, CmdType, FuncExpr, Node, NodeTag, Oid, Query, TargetEntry, WindowFunc,
};

use super::node::{self, elements};
use super::{Scope, Statement, order};

/// PostgreSQL's own functions that make JSON of any values, whose OIDs never change.
const MAKES_JSON: &[u32] = &[
    pg_sys::F_TO_JSON,
    pg_sys::F_TO_JSONB,
    pg_sys::F_ROW_TO_JSON_RECORD,
    pg_sys::F_ROW_TO_JSON_RECORD_BOOL,
    pg_sys::F_ARRAY_TO_JSON_ANYARRAY,
    pg_sys::F_ARRAY_TO_JSON_ANYARRAY_BOOL,
    pg_sys::F_JSON_BUILD_ARRAY_ANY,
    pg_sys::F_JSONB_BUILD_ARRAY_ANY,
    pg_sys::F_JSON_BUILD_OBJECT_ANY,
    pg_sys::F_JSONB_BUILD_OBJECT_ANY,
    pg_sys::F_JSON_AGG,
    pg_sys::F_JSONB_AGG,
    pg_sys::F_JSON_OBJECT_AGG,
    pg_sys::F_JSONB_OBJECT_AGG,
    // those that JSON_ARRAYAGG and JSON_OBJECTAGG call
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSON_AGG_STRICT,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSONB_AGG_STRICT,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSON_OBJECT_AGG_STRICT,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSONB_OBJECT_AGG_STRICT,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSON_OBJECT_AGG_UNIQUE,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSONB_OBJECT_AGG_UNIQUE,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSON_OBJECT_AGG_UNIQUE_STRICT,
    #[cfg(not(feature = "pg15"))]
    pg_sys::F_JSONB_OBJECT_AGG_UNIQUE_STRICT,
];

/// Whether a node makes JSON of any values.
///
/// # Safety
/// `node` is valid.
pub(super) unsafe fn makes_json(node: *mut Node) -> bool {
    // SAFETY: the caller's; the tag says which struct it is
    let function = unsafe {
        match (*node).type_ {
            NodeTag::T_FuncExpr => (*node.cast::<FuncExpr>()).funcid,
            NodeTag::T_WindowFunc => (*node.cast::<WindowFunc>()).winfnoid,
            NodeTag::T_Aggref => (*node.cast::<Aggref>()).aggfnoid,
            #[cfg(not(feature = "pg15"))]
            NodeTag::T_JsonConstructorExpr => {
                use pg_sys::JsonConstructorType::{JSCTOR_JSON_ARRAY, JSCTOR_JSON_OBJECT};
                let kind = (*node.cast::<pg_sys::JsonConstructorExpr>()).type_;
                return matches!(kind, JSCTOR_JSON_ARRAY | JSCTOR_JSON_OBJECT);
            }
            _ => return false,
        }
    };
    MAKES_JSON.contains(&function.to_u32())
}

/// What [`walk`] gets from the walk over a query.
struct Walk<'a, 'b> {
    statement: &'a mut Statement<'b>,
    scope: &'a Scope<'a>,
}

impl Statement<'_> {
    /// Shows what JSON is made of, in a whole statement. One that writes shows it only in what it
    /// returns itself.
    ///
    /// # Safety
    /// The scope is of a valid query, which may be changed.
    pub(super) unsafe fn show_json(&mut self, scope: &Scope<'_>) {
        // SAFETY: the caller's
        unsafe {
            let query = scope.query;
            if (*query).commandType == CmdType::CMD_SELECT {
                self.show_json_in(scope);
            } else {
                self.show_json_inside((*query).returningList.cast(), scope);
            }
        }
    }

    /// # Safety
    /// The scope is of a valid query that only reads, but for common tables.
    unsafe fn show_json_in(&mut self, scope: &Scope<'_>) {
        let query = scope.query;
        // SAFETY: the caller's; the walker gets its own context
        unsafe {
            let mut flags = 0;
            if (*query).hasModifyingCTE {
                // rows of common tables may be written by another of them
                flags |= pg_sys::QTW_IGNORE_CTE_SUBQUERIES as i32;
            }
            let mut walked = Walk { statement: self, scope };
            pg_sys::query_tree_walker(query, Some(walk), (&raw mut walked).cast(), flags);
        }
    }

    /// # Safety
    /// `node` is null or a valid node of the scope's query.
    unsafe fn show_json_inside(&mut self, node: *mut Node, scope: &Scope<'_>) {
        let mut walked = Walk { statement: self, scope };
        // SAFETY: the caller's; the walker gets its own context
        unsafe {
            walk(node, (&raw mut walked).cast());
        }
    }

    /// Shows the arguments of an aggregate, and tells rows apart and sorts them by what is shown.
    ///
    /// # Safety
    /// `aggregate` is a valid call in the scope's query.
    unsafe fn show_aggregated(&mut self, aggregate: *mut Aggref, scope: &Scope<'_>) {
        // SAFETY: the caller's; there is a type for each argument that is not just sorted by
        unsafe {
            let arguments = elements::<TargetEntry>((*aggregate).args);
            for (i, target) in arguments.filter(|target| !(**target).resjunk).enumerate() {
                let argument: *mut Node = (*target).expr.cast();
                let before = node::type_of(argument);
                let shown = self.output(argument, scope);
                (*target).expr = shown.cast();
                let after = node::type_of(shown);
                if after == before {
                    continue;
                }
                if (*aggregate).inputcollid == Oid::INVALID {
                    // by which DISTINCT compares
                    (*aggregate).inputcollid = pg_sys::get_typcollation(after);
                }
                let i = i32::try_from(i).unwrap_or(i32::MAX);
                (*pg_sys::list_nth_cell((*aggregate).aggargtypes, i)).oid_value = after;
                let reference = (*target).ressortgroupref;
                for clauses in [(*aggregate).aggorder, (*aggregate).aggdistinct] {
                    order::repoint(clauses, reference, reference, after);
                }
            }
        }
    }
}

/// See [`Statement::show_json`]. Calls change where they are: what is shown already stays.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the one that `show_json_inside` passes; the tag says which struct a
    // node is
    unsafe {
        let walked = &mut *context.cast::<Walk<'_, '_>>();
        let (statement, scope) = (&mut *walked.statement, walked.scope);
        match (*node).type_ {
            NodeTag::T_Query => {
                let query: *mut Query = node.cast();
                statement.show_json_in(&Scope { query, outer: Some(scope), is_branch: false });
                return false;
            }
            _ if !makes_json(node) => {}
            NodeTag::T_FuncExpr => {
                let call = node.cast::<FuncExpr>();
                (*call).args = statement.outputs((*call).args, scope);
            }
            NodeTag::T_WindowFunc => {
                let call = node.cast::<WindowFunc>();
                (*call).args = statement.outputs((*call).args, scope);
            }
            NodeTag::T_Aggref => statement.show_aggregated(node.cast(), scope),
            #[cfg(not(feature = "pg15"))]
            NodeTag::T_JsonConstructorExpr => {
                let made = node.cast::<pg_sys::JsonConstructorExpr>();
                (*made).args = statement.outputs((*made).args, scope);
            }
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(walk), context)
    }
}
