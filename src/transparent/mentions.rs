//! Whether a statement has anything that could be shown otherwise: a quick look, after which most
//! statements are left alone.
//!
//! Invariant: an encrypted value comes from a column, a constant, a parameter, a call, an operator
//! or a cast; what else an expression is made of takes its type from these. A document or a row
//! comes from a column. Nodes that are not known here may be anything.

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, Node, NodeTag, Oid, Query};

use super::json::makes_json;
use crate::catalog::family::is_of_users;
use crate::walker::any_node;

/// What a query has, and the queries inside it.
#[derive(Default)]
pub struct Mentions {
    /// The types of its expressions that users have made.
    pub types: Vec<Oid>,
    /// Whether it may have documents or rows, or nodes that are not known here.
    pub is_unclear: bool,
    /// Whether it has casts by way of text.
    pub casts: bool,
    /// Whether it makes JSON of any values.
    pub json: bool,
}

impl Mentions {
    /// # Safety
    /// `query` is valid.
    pub unsafe fn of(query: *mut Query) -> Self {
        let mut mentions = Self::default();
        // SAFETY: the caller's; within the guard nothing is to be dropped, and what is called for
        // each node calls nothing of PostgreSQL's
        unsafe {
            pg_guard_ffi_boundary(|| {
                any_node(query, |node| {
                    mentions.add(node);
                    false
                })
            });
        }
        mentions
    }

    /// Whether there is nothing that could be shown otherwise.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && !self.is_unclear
    }

    /// # Safety
    /// `node` is valid.
    unsafe fn add(&mut self, node: *mut Node) {
        // SAFETY: the caller's
        unsafe {
            match type_given(node) {
                Some(given) if is_of_users(given) && !self.types.contains(&given) => {
                    self.types.push(given);
                }
                given => self.is_unclear |= given.is_none(),
            }
            self.casts |= (*node).type_ == NodeTag::T_CoerceViaIO;
            self.json |= makes_json(node);
        }
    }
}

/// The type that a node gives to the expression that it is: that of no object if there is another
/// node that does; `None` if it may be a document, a row, or anything.
///
/// # Safety
/// `node` is valid.
unsafe fn type_given(node: *mut Node) -> Option<Oid> {
    // SAFETY: the caller's; the tag says which struct a node is
    unsafe {
        match (*node).type_ {
            NodeTag::T_Var => {
                let var = node.cast::<pg_sys::Var>();
                let is_row = (*var).varattno == 0;
                (!is_row && (*var).vartype != pg_sys::JSONBOID).then_some((*var).vartype)
            }
            NodeTag::T_Const => Some((*node.cast::<pg_sys::Const>()).consttype),
            NodeTag::T_Param => Some((*node.cast::<pg_sys::Param>()).paramtype),
            NodeTag::T_FuncExpr => Some((*node.cast::<pg_sys::FuncExpr>()).funcresulttype),
            // all declared as OpExpr
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                Some((*node.cast::<pg_sys::OpExpr>()).opresulttype)
            }
            NodeTag::T_Aggref => Some((*node.cast::<pg_sys::Aggref>()).aggtype),
            NodeTag::T_WindowFunc => Some((*node.cast::<pg_sys::WindowFunc>()).wintype),
            NodeTag::T_RelabelType => Some((*node.cast::<pg_sys::RelabelType>()).resulttype),
            NodeTag::T_CoerceViaIO => Some((*node.cast::<pg_sys::CoerceViaIO>()).resulttype),
            NodeTag::T_ArrayExpr => Some((*node.cast::<pg_sys::ArrayExpr>()).array_typeid),
            // of what is in them, or of one of PostgreSQL's own types
            NodeTag::T_BoolExpr
            | NodeTag::T_BooleanTest
            | NodeTag::T_CaseExpr
            | NodeTag::T_CaseWhen
            | NodeTag::T_CoalesceExpr
            | NodeTag::T_CollateExpr
            | NodeTag::T_MinMaxExpr
            | NodeTag::T_NullTest
            | NodeTag::T_RowCompareExpr
            | NodeTag::T_RowExpr
            | NodeTag::T_ScalarArrayOpExpr
            | NodeTag::T_SQLValueFunction
            | NodeTag::T_SubLink
            // no expressions
            | NodeTag::T_CommonTableExpr
            | NodeTag::T_FromExpr
            | NodeTag::T_JoinExpr
            | NodeTag::T_List
            | NodeTag::T_OnConflictExpr
            | NodeTag::T_Query
            | NodeTag::T_RangeTblFunction
            | NodeTag::T_RangeTblRef
            | NodeTag::T_SetOperationStmt
            | NodeTag::T_SortGroupClause
            | NodeTag::T_TargetEntry
            | NodeTag::T_WindowClause => Some(Oid::INVALID),
            _ => None,
        }
    }
}
