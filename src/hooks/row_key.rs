//! What is read from a row of a table gets the row's key as its entity, so that the audit tells which
//! rows were seen: `decrypt(ssn)` becomes `decrypt(ssn, id)`, and so do the calls that transparent
//! reads add and that views make.
//!
//! A key is a primary key of one column. Where rows are grouped there is none to name.

use std::collections::HashMap;
use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{
    self, CoerceViaIO, CoercionForm, FuncExpr, Node, NodeTag, Oid, Query, RTEKind, RangeTblEntry,
    Var,
};

use crate::catalog::family::{Family, Reading, is_of_users};
use crate::transparent::node;

/// What [`walk`] gets from the walk over a query.
struct Walk<'a> {
    family: &'a Family,
    query: *mut Query,
    /// Whether the expression is over groups of rows.
    is_grouped: bool,
    /// The key of each table.
    keys: HashMap<Oid, Option<i16>>,
}

/// Whether a node may be a call that reads.
///
/// # Safety
/// `node` is valid.
pub unsafe fn may_read(node: *mut Node) -> bool {
    // SAFETY: the caller's; the tag says which struct it is
    unsafe {
        (*node).type_ == NodeTag::T_FuncExpr && is_of_users((*node.cast::<FuncExpr>()).funcid)
    }
}

/// Tells each call that reads a column of a table of which row it is.
///
/// # Safety
/// `query` is valid and may be changed.
pub unsafe fn name_rows(family: &Family, query: *mut Query) {
    let mut context = Walk { family, query, is_grouped: false, keys: HashMap::new() };
    // SAFETY: the caller's; the walker gets its own context
    unsafe { walk(query.cast(), (&raw mut context).cast()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the one that `name_rows` passes; the tag says which struct a node is
    unsafe {
        let around = {
            let walk = &mut *context.cast::<Walk<'_>>();
            (walk.query, walk.is_grouped)
        };
        let enter = |query: *mut Query, is_grouped: bool| {
            let walk = &mut *context.cast::<Walk<'_>>();
            (walk.query, walk.is_grouped) = (query, is_grouped);
        };
        match (*node).type_ {
            NodeTag::T_Query => {
                let query: *mut Query = node.cast();
                enter(query, has_groups(query));
                pg_sys::query_tree_walker(query, Some(walk), context, 0);
            }
            // FROM, ON and WHERE come before groups, and so do the arguments of aggregates
            NodeTag::T_FromExpr | NodeTag::T_Aggref => {
                enter(around.0, false);
                pg_sys::expression_tree_walker(node, Some(walk), context);
            }
            tag => {
                let walked = &mut *context.cast::<Walk<'_>>();
                if tag == NodeTag::T_FuncExpr
                    && !walked.is_grouped
                    && let Some(reading) = walked.family.reading((*node.cast::<FuncExpr>()).funcid)
                {
                    name_row(walked, node.cast(), reading);
                }
                pg_sys::expression_tree_walker(node, Some(walk), context);
            }
        }
        enter(around.0, around.1);
        false
    }
}

/// # Safety
/// `query` is valid.
unsafe fn has_groups(query: *mut Query) -> bool {
    // SAFETY: the caller's
    unsafe {
        (*query).hasAggs
            || !(*query).groupClause.is_null()
            || !(*query).groupingSets.is_null()
            || !(*query).havingQual.is_null()
    }
}

/// # Safety
/// `call` is a valid call of that function in the query of `walk`.
unsafe fn name_row(walk: &mut Walk<'_>, call: *mut FuncExpr, reading: Reading) {
    // SAFETY: the caller's; a function that reads has an argument; the tags say which struct a node
    // is; a reference that is not to a query outside is to a table of this one
    unsafe {
        let mut read: *mut Node = pg_sys::list_nth((*call).args, 0).cast();
        // from a domain
        if (*read).type_ == NodeTag::T_RelabelType {
            read = (*read.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        let var: *mut Var = read.cast();
        if (*read).type_ != NodeTag::T_Var || (*var).varlevelsup != 0 || (*var).varattno <= 0 {
            return;
        }
        let table: *mut RangeTblEntry =
            pg_sys::list_nth((*walk.query).rtable, (*var).varno - 1).cast();
        if (*table).rtekind != RTEKind::RTE_RELATION || !is_of_users((*table).relid) {
            return;
        }
        let relation = (*table).relid;
        let family = walk.family;
        let key = *walk.keys.entry(relation).or_insert_with(|| key_of(family, relation));
        let Some(key) = key else { return };
        let mut entity: *mut Node = node::column_of_same_row(var, relation, key).cast();
        if !reading.takes_any {
            entity = as_text(entity);
        }
        let mut arguments = pg_sys::list_copy((*call).args);
        if reading.has_path && !is_not_null(pg_sys::list_nth(arguments, 1).cast()) {
            return;
        }
        while usize::try_from((*arguments).length).unwrap_or(0) + 1 < reading.arguments {
            arguments = pg_sys::lappend(arguments, node::constant(pg_sys::TEXTOID, None).cast());
        }
        (*call).args = pg_sys::lappend(arguments, entity.cast());
        (*call).funcid = reading.of_entity;
    }
}

/// Whether an expression is a constant that is not NULL.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn is_not_null(node: *mut Node) -> bool {
    // SAFETY: the caller's; the tag says which struct it is
    unsafe { (*node).type_ == NodeTag::T_Const && !(*node.cast::<pg_sys::Const>()).constisnull }
}

/// # Safety
/// `value` is a valid expression.
unsafe fn as_text(value: *mut Node) -> *mut Node {
    // SAFETY: the caller's
    unsafe {
        let made: *mut CoerceViaIO = node::new(NodeTag::T_CoerceViaIO);
        (*made).arg = value.cast();
        (*made).resulttype = pg_sys::TEXTOID;
        (*made).resultcollid = pg_sys::get_typcollation(pg_sys::TEXTOID);
        (*made).coerceformat = CoercionForm::COERCE_EXPLICIT_CAST;
        (*made).location = -1;
        made.cast()
    }
}

/// The column that is a table's primary key; `None` if that has more than one column, is itself
/// encrypted, or may be absent from rows of tables that inherit.
///
/// # Safety
/// The relation exists and is locked.
unsafe fn key_of(family: &Family, relation: Oid) -> Option<i16> {
    // SAFETY: the caller's; the set is a copy
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::NoLock as i32);
        let is_inherited = (*(*open).rd_rel).relhassubclass
            && (*(*open).rd_rel).relkind.cast_unsigned() == pg_sys::RELKIND_RELATION;
        let kind = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY;
        let columns = pg_sys::RelationGetIndexAttrBitmap(open, kind);
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        let mut key = 0;
        if is_inherited || !pg_sys::bms_get_singleton_member(columns, &mut key) {
            return None;
        }
        // members are counted from the first system column
        let key = i16::try_from(key + pg_sys::FirstLowInvalidHeapAttributeNumber).ok()?;
        let kind = pg_sys::getBaseType(pg_sys::get_atttype(relation, key));
        family.plaintext_type(kind).is_none().then_some(key)
    }
}
