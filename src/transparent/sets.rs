//! UNION, INTERSECT and EXCEPT: at the top level each branch shows its columns, and the operation
//! compares what is shown.

use pgrx::pg_sys::{
    self, List, Node, NodeTag, Query, RangeTblEntry, SetOperationStmt, SortGroupClause, TargetEntry,
};

use super::node::{self, elements};
use super::{Scope, Statement, order};

/// The branches of a query that is a set operation.
///
/// # Safety
/// `query` is valid.
pub(super) unsafe fn branches(query: *mut Query) -> Vec<*mut RangeTblEntry> {
    let mut found = Vec::new();
    // SAFETY: the caller's; a leaf of the tree names a table of the query
    unsafe {
        let mut open = vec![(*query).setOperations];
        while let Some(node) = open.pop() {
            if node.is_null() {
                continue;
            }
            if (*node).type_ == NodeTag::T_SetOperationStmt {
                let operation = node.cast::<SetOperationStmt>();
                open.extend([(*operation).larg, (*operation).rarg]);
            } else if (*node).type_ == NodeTag::T_RangeTblRef {
                let number = (*node.cast::<pg_sys::RangeTblRef>()).rtindex;
                let table: *mut RangeTblEntry =
                    pg_sys::list_nth((*query).rtable, number - 1).cast();
                if !(*table).subquery.is_null() {
                    found.push(table);
                }
            }
        }
    }
    found
}

impl Statement<'_> {
    /// # Safety
    /// The scope is of a valid query that is a set operation.
    pub(super) unsafe fn set_operation(&mut self, scope: &Scope<'_>) {
        // SAFETY: the caller's
        unsafe {
            let query = scope.query;
            for branch in branches(query) {
                let query = (*branch).subquery;
                self.select(&Scope { query, outer: Some(scope), is_branch: true });
            }
            self.retype_operation((*query).setOperations);
            for target in elements::<TargetEntry>((*query).targetList) {
                let node: *mut Node = (*target).expr.cast();
                let Some(kind) = self.kind_of(node) else { continue };
                if (*node).type_ == NodeTag::T_Var {
                    let column = node.cast::<pg_sys::Var>();
                    (*column).vartype = kind.native();
                    (*column).vartypmod = -1;
                    (*column).varcollid = pg_sys::get_typcollation(kind.native());
                }
                if (*target).ressortgroupref != 0 {
                    order::retype(query, (*target).ressortgroupref, kind.native());
                }
            }
        }
    }

    /// # Safety
    /// `node` is part of a tree of set operations whose branches are shown.
    unsafe fn retype_operation(&mut self, node: *mut Node) {
        // SAFETY: the caller's; each list has an element per column, that of the group clauses
        // unless nothing is compared
        unsafe {
            if node.is_null() || (*node).type_ != NodeTag::T_SetOperationStmt {
                return;
            }
            let operation = node.cast::<SetOperationStmt>();
            let count =
                if (*operation).colTypes.is_null() { 0 } else { (*(*operation).colTypes).length };
            for column in 0..count {
                let declared = pg_sys::list_nth_oid((*operation).colTypes, column);
                let Some(kind) = self.kind(declared) else { continue };
                let native = kind.native();
                (*pg_sys::list_nth_cell((*operation).colTypes, column)).oid_value = native;
                (*pg_sys::list_nth_cell((*operation).colTypmods, column)).int_value = -1;
                (*pg_sys::list_nth_cell((*operation).colCollations, column)).oid_value =
                    pg_sys::get_typcollation(native);
                if !(*operation).groupClauses.is_null() {
                    let clause: *mut SortGroupClause =
                        pg_sys::list_nth((*operation).groupClauses, column).cast();
                    order::compare_as(clause, native);
                }
            }
            self.retype_operation((*operation).larg);
            self.retype_operation((*operation).rarg);
        }
    }

    /// An inner set operation that is ordered by an encrypted column, which has no room for a hidden
    /// target: it becomes `SELECT … FROM (operation) ORDER BY reveal(…)`.
    ///
    /// # Safety
    /// `query` is a valid set operation inside another query.
    pub(super) unsafe fn order_set_operation(&mut self, query: *mut Query) {
        // SAFETY: the caller's
        unsafe {
            let sorted: Vec<_> = elements::<SortGroupClause>((*query).sortClause)
                .map(|clause| pg_sys::get_sortgroupclause_tle(clause, (*query).targetList))
                .filter(|target| self.kind_of((**target).expr.cast()).is_some())
                .collect();
            if sorted.is_empty() {
                return;
            }
            wrap(query);
            self.order_inner(query);
        }
    }
}

/// # Safety
/// As for `order_set_operation`.
unsafe fn wrap(query: *mut Query) {
    // SAFETY: the caller's; the branches are one level further in from now on, but the common
    // tables come with ORDER BY and LIMIT, which may read them
    unsafe {
        for branch in branches(query) {
            pg_sys::IncrementVarSublevelsUp((*branch).subquery.cast(), 1, 1);
        }
        let operation = node::copy_shallow(query);
        (*operation).cteList = std::ptr::null_mut();
        (*operation).hasRecursive = false;
        (*operation).hasModifyingCTE = false;
        (*operation).sortClause = std::ptr::null_mut();
        (*operation).limitOffset = std::ptr::null_mut();
        (*operation).limitCount = std::ptr::null_mut();
        (*operation).limitOption = pg_sys::LimitOption::LIMIT_OPTION_COUNT;
        (*operation).targetList = node::copy((*query).targetList);
        for target in elements::<TargetEntry>((*operation).targetList) {
            (*target).ressortgroupref = 0;
        }
        (*query).setOperations = std::ptr::null_mut();
        (*query).rtable = node::list([subquery_table(operation)]);
        #[cfg(not(feature = "pg15"))]
        {
            (*query).rteperminfos = std::ptr::null_mut();
        }
        let reference: *mut pg_sys::RangeTblRef = node::new(NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        (*query).jointree = pg_sys::makeFromExpr(node::list([reference]), std::ptr::null_mut());
        for target in elements::<TargetEntry>((*query).targetList) {
            let node: *mut Node = (*target).expr.cast();
            let column = pg_sys::makeVar(
                1,
                (*target).resno,
                node::type_of(node),
                pg_sys::exprTypmod(node),
                pg_sys::exprCollation(node),
                0,
            );
            (*target).expr = column.cast();
        }
    }
}

/// A query as a table of another.
///
/// # Safety
/// `query` is valid.
unsafe fn subquery_table(query: *mut Query) -> *mut RangeTblEntry {
    // SAFETY: the caller's; names are NUL-terminated
    unsafe {
        let mut names: *mut List = std::ptr::null_mut();
        for target in elements::<TargetEntry>((*query).targetList) {
            let name = (*target).resname;
            let name = if name.is_null() { c"?column?".as_ptr().cast_mut() } else { name };
            names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(name)).cast());
        }
        let table: *mut RangeTblEntry = node::new(NodeTag::T_RangeTblEntry);
        (*table).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*table).subquery = query;
        (*table).eref = pg_sys::makeAlias(c"operation".as_ptr(), names);
        (*table).inFromCl = true;
        #[cfg(feature = "pg15")]
        {
            (*table).requiredPerms = pg_sys::ACL_SELECT as pg_sys::AclMode;
        }
        table
    }
}
