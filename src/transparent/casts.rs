//! `encrypted::text` where a query filters or joins: so that LIKE, upper() and the like find what
//! they would find in a plain column. They use no index.
//!
//! Invariant: what is written to a table stays as it is: neither the targets of INSERT, UPDATE and
//! MERGE, nor those of the queries from which they take their rows.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, CmdType, Node, NodeTag, RTEKind, RangeTblEntry, TargetEntry};

use super::node::elements;
use super::{Scope, Statement};
use crate::compat;

/// What [`mutate`] gets from the walk over a query.
struct Walk<'a, 'b> {
    statement: &'a mut Statement<'b>,
    scope: &'a Scope<'a>,
    /// Whether the targets of queries inside may change.
    targets: bool,
}

impl Statement<'_> {
    /// Shows what casts to text take, in a whole statement.
    ///
    /// # Safety
    /// The scope is of a valid query, which may be changed.
    pub(super) unsafe fn show_casts(&mut self, scope: &Scope<'_>) {
        // SAFETY: the caller's; the walker gets its own context
        unsafe {
            let context = std::ptr::from_mut(self).cast();
            if pg_sys::query_tree_walker(scope.query, Some(find), context, 0) {
                self.show_casts_in(scope, (*scope.query).commandType == CmdType::CMD_SELECT);
            }
        }
    }

    /// # Safety
    /// As for `show_casts`.
    unsafe fn show_casts_in(&mut self, scope: &Scope<'_>, targets: bool) {
        let query = scope.query;
        // SAFETY: the caller's; members that are not of this kind of statement are null
        unsafe {
            let is_select = (*query).commandType == CmdType::CMD_SELECT;
            // rows of common tables may be written by another of them
            let of_common_tables = targets && is_select && !(*query).hasModifyingCTE;
            for common in elements::<pg_sys::CommonTableExpr>((*query).cteList) {
                self.show_casts_inside((*common).ctequery, scope, of_common_tables);
            }
            for table in elements::<RangeTblEntry>((*query).rtable) {
                if (*table).rtekind == RTEKind::RTE_SUBQUERY {
                    self.show_casts_inside((*table).subquery.cast(), scope, targets && is_select);
                }
            }
            // a filter writes nothing, nor do the queries in it
            let mut show = |node: *mut Node| self.show_casts_inside(node, scope, true);
            (*query).jointree = show((*query).jointree.cast()).cast();
            (*query).havingQual = show((*query).havingQual);
            #[cfg(feature = "pg18")]
            {
                (*query).mergeJoinCondition = show((*query).mergeJoinCondition);
            }
            for action in elements::<pg_sys::MergeAction>((*query).mergeActionList) {
                (*action).qual = show((*action).qual);
            }
            let conflict = (*query).onConflict;
            if !conflict.is_null() {
                (*conflict).onConflictWhere = show((*conflict).onConflictWhere);
            }
            // what a common table returns may be written
            if scope.outer.is_none() {
                for target in elements::<TargetEntry>((*query).returningList) {
                    (*target).expr = show((*target).expr.cast()).cast();
                }
            }
            if targets && is_select {
                for target in elements::<TargetEntry>((*query).targetList) {
                    (*target).expr = show((*target).expr.cast()).cast();
                }
                if let Some(groups) = compat::group_expressions(query) {
                    for i in 0..(*groups).length {
                        let shown = show(pg_sys::list_nth(groups, i).cast());
                        (*pg_sys::list_nth_cell(groups, i)).ptr_value = shown.cast();
                    }
                }
            }
        }
    }

    /// # Safety
    /// `node` is null or a valid node of the scope's query.
    unsafe fn show_casts_inside(
        &mut self,
        node: *mut Node,
        scope: &Scope<'_>,
        targets: bool,
    ) -> *mut Node {
        let mut walk = Walk { statement: self, scope, targets };
        // SAFETY: the caller's; the mutator gets its own context
        unsafe { mutate(node, (&raw mut walk).cast()) }
    }

    /// Whether a node is a cast to text of an encrypted value.
    ///
    /// # Safety
    /// `node` is valid.
    unsafe fn is_cast(&mut self, node: *mut Node) -> bool {
        // SAFETY: the caller's; the tag says which struct it is
        unsafe {
            (*node).type_ == NodeTag::T_CoerceViaIO
                && self.kind_of((*node.cast::<pg_sys::CoerceViaIO>()).arg.cast()).is_some()
        }
    }
}

/// Looks for a cast of an encrypted value.
#[pg_guard]
unsafe extern "C-unwind" fn find(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: the context is the statement; the tag says which struct a node is
    unsafe {
        if node.is_null() {
            return false;
        }
        let statement = &mut *context.cast::<Statement<'_>>();
        match (*node).type_ {
            NodeTag::T_Var | NodeTag::T_Const | NodeTag::T_Param => false,
            NodeTag::T_Query => pg_sys::query_tree_walker(node.cast(), Some(find), context, 0),
            _ => {
                statement.is_cast(node) || pg_sys::expression_tree_walker(node, Some(find), context)
            }
        }
    }
}

/// See [`Statement::show_casts_inside`].
#[pg_guard]
unsafe extern "C-unwind" fn mutate(node: *mut Node, context: *mut c_void) -> *mut Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: the context is the one that `show_casts_inside` passes; the tag says which struct a
    // node is
    unsafe {
        let walk = &mut *context.cast::<Walk<'_, '_>>();
        match (*node).type_ {
            NodeTag::T_Query => {
                let scope = Scope { query: node.cast(), outer: Some(walk.scope), is_branch: false };
                walk.statement.show_casts_in(&scope, walk.targets);
                node
            }
            _ if walk.statement.is_cast(node) => walk.statement.shown_cast(node.cast(), walk.scope),
            _ => compat::expression_tree_mutator(node, mutate, context),
        }
    }
}
