//! A look through a query for what is of concern: most queries have nothing of the kind, and are to
//! cost no more than without the extension. So PostgreSQL's walkers are called here without the
//! guard that pgrx puts around each call.
//!
//! Invariant: an error of a walker (the depth of the stack, a node that it does not know) jumps
//! over the frames of this module and those of the test. None of them holds anything to drop.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys::{self, Node, NodeTag, Query};

type Walker = unsafe extern "C-unwind" fn(*mut Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    fn query_tree_walker(
        query: *mut Query,
        walker: Walker,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    fn expression_tree_walker(node: *mut Node, walker: Walker, context: *mut c_void) -> bool;
}

/// Whether `test` holds of a node of a query or of the queries inside it, sort and group clauses
/// included. It stops at the first.
///
/// # Safety
/// `query` is valid. Between this call and PostgreSQL's handler of errors there is no frame that
/// holds anything to drop: the caller is called by C, or puts one guard around. `test` neither
/// panics nor calls what may raise an error.
pub unsafe fn any_node<F: FnMut(*mut Node) -> bool>(query: *mut Query, mut test: F) -> bool {
    const { assert!(!std::mem::needs_drop::<F>()) };
    // SAFETY: the caller's; the context is the test
    unsafe { visit::<F>(query.cast(), (&raw mut test).cast()) }
}

unsafe extern "C-unwind" fn visit<F: FnMut(*mut Node) -> bool>(
    node: *mut Node,
    context: *mut c_void,
) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: `any_node` passes the test, and its caller a valid query; the tag says which struct a
    // node is
    unsafe {
        if (*context.cast::<F>())(node) {
            return true;
        }
        match (*node).type_ {
            // nothing is inside
            NodeTag::T_Var | NodeTag::T_Const | NodeTag::T_Param | NodeTag::T_RangeTblRef => false,
            NodeTag::T_Query => {
                let flags = pg_sys::QTW_EXAMINE_SORTGROUP as c_int;
                query_tree_walker(node.cast(), visit::<F>, context, flags)
            }
            _ => expression_tree_walker(node, visit::<F>, context),
        }
    }
}
