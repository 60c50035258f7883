//! Sorting, grouping and DISTINCT go by what is shown.
//!
//! At the top level the target itself changes, and every clause that refers to it compares as the
//! native type does. Inside, what comes out must stay encrypted: a hidden target beside it holds
//! the plain value, and the clauses that order refer to that.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{
    self, List, Node, NodeTag, Oid, Query, SortGroupClause, TargetEntry, WindowClause,
};

use super::node::{self, elements};
use super::{Kind, Statement};

/// `AGGKIND_NORMAL`: an aggregate without WITHIN GROUP.
const AGGKIND_NORMAL: u8 = b'n';

/// The clauses of a query that sort or tell rows apart, group clauses last.
///
/// # Safety
/// `query` is valid.
unsafe fn lists(query: *mut Query, with_groups: bool) -> Vec<*mut List> {
    // SAFETY: the caller's
    unsafe {
        let mut lists = vec![(*query).sortClause, (*query).distinctClause];
        for window in elements::<WindowClause>((*query).windowClause) {
            lists.extend([(*window).partitionClause, (*window).orderClause]);
        }
        if with_groups {
            lists.push((*query).groupClause);
        }
        lists
    }
}

/// # Safety
/// `clauses` is a list of sort or group clauses.
unsafe fn refers(clauses: *mut List, reference: u32) -> bool {
    // SAFETY: the caller's
    unsafe {
        elements::<SortGroupClause>(clauses).any(|clause| (*clause).tleSortGroupRef == reference)
    }
}

/// Whether a query groups by the target with that reference.
///
/// # Safety
/// `query` is valid.
pub(super) unsafe fn groups_by(query: *mut Query, reference: u32) -> bool {
    // SAFETY: the caller's
    reference != 0 && unsafe { refers((*query).groupClause, reference) }
}

/// Puts another expression into a target; the clauses that refer to it compare as its type does.
///
/// # Safety
/// `target` is one of `query`, and `node` a valid expression of it.
pub(super) unsafe fn replace(query: *mut Query, target: *mut TargetEntry, node: *mut Node) {
    // SAFETY: the caller's
    unsafe {
        let (before, after) = (node::type_of((*target).expr.cast()), node::type_of(node));
        (*target).expr = node.cast();
        if after != before && (*target).ressortgroupref != 0 {
            retype(query, (*target).ressortgroupref, after);
        }
    }
}

/// Makes the clauses that refer to a target compare as a type does.
///
/// # Safety
/// `query` is valid, and the target with that reference is of that type.
pub(super) unsafe fn retype(query: *mut Query, reference: u32, kind: Oid) {
    // SAFETY: the caller's
    unsafe {
        for clauses in lists(query, true) {
            repoint(clauses, reference, reference, kind);
        }
    }
}

/// Makes clauses refer to another target of that type, or to the same one now of that type.
///
/// # Safety
/// `clauses` is a list of sort or group clauses.
pub(super) unsafe fn repoint(clauses: *mut List, from: u32, to: u32, kind: Oid) {
    // SAFETY: the caller's
    unsafe {
        for clause in elements::<SortGroupClause>(clauses) {
            if (*clause).tleSortGroupRef == from {
                (*clause).tleSortGroupRef = to;
                compare_as(clause, kind);
            }
        }
    }
}

/// Gives a clause the operators of a type; the direction stays.
///
/// # Safety
/// `clause` is valid.
pub(super) unsafe fn compare_as(clause: *mut SortGroupClause, kind: Oid) {
    let (mut less, mut equal, mut greater) = (Oid::INVALID, Oid::INVALID, Oid::INVALID);
    let (mut hashable, mut reverse) = (false, false);
    // SAFETY: the caller's; look-ups in the type cache, which fail without the operators
    unsafe {
        let sorts = (*clause).sortop != Oid::INVALID;
        if sorts {
            pg_sys::get_equality_op_for_ordering_op((*clause).sortop, &mut reverse);
        }
        pg_sys::get_sort_group_operators(
            kind,
            sorts,
            true,
            sorts,
            &mut less,
            &mut equal,
            &mut greater,
            &mut hashable,
        );
        (*clause).eqop = equal;
        (*clause).hashable = hashable;
        if sorts {
            (*clause).sortop = if reverse { greater } else { less };
        }
    }
}

impl<'a> Statement<'a> {
    /// Shows a target by which grouping sets group: they go on grouping by the encrypted value, in
    /// a hidden target, so that whatever else the query says of it still does.
    ///
    /// # Safety
    /// `target` is one of `query`, of that kind.
    pub(super) unsafe fn keep_group(
        &mut self,
        query: *mut Query,
        target: *mut TargetEntry,
        kind: Kind<'a>,
    ) {
        // SAFETY: the caller's
        unsafe {
            let reference = (*target).ressortgroupref;
            let others = lists(query, false);
            let is_used = others.iter().any(|&clauses| refers(clauses, reference));
            let group: *mut Node = (*target).expr.cast();
            if (*target).resjunk && !is_used {
                return;
            }
            let shown = self.revealed(node::copy(group), kind);
            let targets = &mut (*query).targetList;
            let mut shown_reference = 0;
            if (*target).resjunk {
                shown_reference = node::add_hidden_target(targets, shown);
            } else {
                let grouped = node::add_hidden_target(targets, group);
                let hidden: *mut TargetEntry =
                    pg_sys::list_nth(*targets, (**targets).length - 1).cast();
                (*hidden).ressortgroupref = reference;
                (*target).expr = shown.cast();
                if is_used {
                    shown_reference = grouped;
                }
                (*target).ressortgroupref = shown_reference;
            }
            for clauses in others {
                repoint(clauses, reference, shown_reference, kind.native());
            }
        }
    }

    /// Sorts by plain values in the queries inside a query, and in aggregates.
    ///
    /// # Safety
    /// `query` is valid and may be changed.
    pub(super) unsafe fn order_inner_queries(&mut self, query: *mut Query) {
        // SAFETY: the caller's; the walker gets its own context
        unsafe {
            let may_have = (*query).hasSubLinks
                || (*query).hasAggs
                || !(*query).cteList.is_null()
                || elements::<pg_sys::RangeTblEntry>((*query).rtable)
                    .any(|table| (*table).rtekind != pg_sys::RTEKind::RTE_RELATION);
            if may_have {
                let context = std::ptr::from_mut(self).cast();
                pg_sys::query_tree_walker(query, Some(order_inside), context, 0);
            }
        }
    }

    /// # Safety
    /// `query` is a valid query inside another.
    pub(super) unsafe fn order_inner(&mut self, query: *mut Query) {
        // SAFETY: the caller's
        unsafe {
            let windows = elements::<WindowClause>((*query).windowClause);
            let ordering: Vec<_> = std::iter::once((*query).sortClause)
                .chain(windows.map(|window| (*window).orderClause))
                .filter(|clauses| !clauses.is_null())
                .collect();
            if ordering.is_empty() {
                return;
            }
            if !(*query).setOperations.is_null() {
                return self.order_set_operation(query);
            }
            let mut count = (*(*query).targetList).length;
            let mut i = 0;
            while i < count {
                let target: *mut TargetEntry = pg_sys::list_nth((*query).targetList, i).cast();
                i += 1;
                let reference = (*target).ressortgroupref;
                if reference == 0 || !ordering.iter().any(|&clauses| refers(clauses, reference)) {
                    continue;
                }
                let Some(kind) = self.kind_of((*target).expr.cast()) else { continue };
                let plain = self.revealed(node::copy((*target).expr.cast()), kind);
                let plain = node::add_hidden_target(&mut (*query).targetList, plain);
                for &clauses in &ordering {
                    repoint(clauses, reference, plain, kind.native());
                }
                // DISTINCT has to agree with ORDER BY
                if refers((*query).sortClause, plain) {
                    repoint((*query).distinctClause, reference, plain, kind.native());
                }
                count = (*(*query).targetList).length;
            }
        }
    }

    /// `aggregate(… ORDER BY encrypted)`, and `count(DISTINCT encrypted)`. Any other with DISTINCT stays
    /// as it is: what it tells apart has to be among its arguments, whose types are the aggregate's.
    ///
    /// # Safety
    /// `aggregate` is a valid call.
    unsafe fn order_aggregate(&mut self, aggregate: *mut pg_sys::Aggref) {
        // SAFETY: the caller's
        unsafe {
            let counts = (*aggregate).aggfnoid.to_u32() == pg_sys::F_COUNT_ANY;
            let is_distinct = !(*aggregate).aggdistinct.is_null();
            if (is_distinct && !counts)
                || (!is_distinct && (*aggregate).aggorder.is_null())
                // those WITHIN GROUP have their arguments sorted
                || (*aggregate).aggkind.cast_unsigned() != AGGKIND_NORMAL
            {
                return;
            }
            let clauses = [(*aggregate).aggorder, (*aggregate).aggdistinct];
            let count = (*(*aggregate).args).length;
            for i in 0..count {
                let target: *mut TargetEntry = pg_sys::list_nth((*aggregate).args, i).cast();
                let reference = (*target).ressortgroupref;
                if reference == 0 || !clauses.iter().any(|&clauses| refers(clauses, reference)) {
                    continue;
                }
                let node: *mut Node = (*target).expr.cast();
                let Some(kind) = self.kind_of(node) else { continue };
                let plain = self.revealed(node::copy(node), kind);
                if !(*target).resjunk && !counts {
                    let plain = node::add_hidden_target(&mut (*aggregate).args, plain);
                    repoint((*aggregate).aggorder, reference, plain, kind.native());
                    continue;
                }
                (*target).expr = plain.cast();
                for clauses in clauses {
                    repoint(clauses, reference, reference, kind.native());
                }
                if !(*target).resjunk {
                    // count() takes any type
                    (*pg_sys::list_nth_cell((*aggregate).aggargtypes, i)).oid_value = kind.native();
                    if (*aggregate).inputcollid == Oid::INVALID {
                        (*aggregate).inputcollid = pg_sys::get_typcollation(kind.native());
                    }
                }
            }
        }
    }
}

/// See [`Statement::order_inner_queries`].
#[pg_guard]
unsafe extern "C-unwind" fn order_inside(node: *mut Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the statement; the tag says which struct a node is
    unsafe {
        let statement = &mut *context.cast::<Statement<'_>>();
        match (*node).type_ {
            NodeTag::T_Query => {
                statement.order_inner(node.cast());
                pg_sys::query_tree_walker(node.cast(), Some(order_inside), context, 0)
            }
            NodeTag::T_Aggref => {
                statement.order_aggregate(node.cast());
                pg_sys::expression_tree_walker(node, Some(order_inside), context)
            }
            _ => pg_sys::expression_tree_walker(node, Some(order_inside), context),
        }
    }
}
