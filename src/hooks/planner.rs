//! The planner hook: for the comparisons that have no support function (`IN (list)`, `= ANY`,
//! `IS DISTINCT FROM`, NULLIF), to refuse an ORDER BY whose order would mean nothing, and to name the
//! rows that are read ([`row_key`]).

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, List, Node, NodeTag, Query, SortGroupClause};

use super::row_key;
use crate::call::array_elements;
use crate::catalog::family::{Family, Operator, is_of_users};
use crate::catalog::field::By;
use crate::catalog::fields;
use crate::compat;
use crate::datatype::support;
use crate::error::{Error, OrRaise, Result};
use crate::transparent::node::elements;
use crate::walker::any_node;

static mut PREVIOUS: pg_sys::planner_hook_type = None;

/// `IN` lists up to this length become an OR of `=`, which also hash indexes can answer.
const LONGEST_OR: usize = 100;

pub fn init() {
    // SAFETY: called once, from _PG_init, before any query is planned
    unsafe {
        PREVIOUS = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
}

/// No guard is around it, and no destructor in it: an error of the planner passes as it is, with its
/// position and context, which a panic would lose.
unsafe extern "C-unwind" fn plan(
    query: *mut Query,
    text: *const std::ffi::c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner, in C, owns the query and may change it; nothing here is to be dropped,
    // and the test only reads the node; the previous hook or the standard planner gets what it would
    // have got
    unsafe {
        let query = if any_node(query, |node| may_concern(node)) { prepared(query) } else { query };
        match PREVIOUS {
            Some(previous) => previous(query, text, options, parameters),
            None => standard_planner(query, text, options, parameters),
        }
    }
}

unsafe extern "C-unwind" {
    /// PostgreSQL's own, without the guard that pgrx puts around it.
    fn standard_planner(
        query: *mut Query,
        text: *const std::ffi::c_char,
        options: i32,
        parameters: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

/// Whether a node may be one that is rewritten or refused here: it compares by an operator or calls
/// a function that users have made, as those of the encrypted types are.
///
/// # Safety
/// `node` is a valid node.
unsafe fn may_concern(node: *mut Node) -> bool {
    // SAFETY: the caller's; the tag says which struct it is
    unsafe {
        match (*node).type_ {
            NodeTag::T_SortGroupClause => is_of_users((*node.cast::<SortGroupClause>()).eqop),
            NodeTag::T_SetOperationStmt => {
                let operation = node.cast::<pg_sys::SetOperationStmt>();
                elements::<SortGroupClause>((*operation).groupClauses)
                    .any(|clause| is_of_users((*clause).eqop))
            }
            NodeTag::T_MinMaxExpr => is_of_users((*node.cast::<pg_sys::MinMaxExpr>()).minmaxtype),
            NodeTag::T_FuncExpr => row_key::may_read(node),
            _ => comparison_parts(node).is_some_and(|(operator, _)| is_of_users(operator)),
        }
    }
}

/// The query as it is to be planned.
#[pg_guard]
unsafe extern "C-unwind" fn prepared(query: *mut Query) -> *mut Query {
    match Family::get() {
        // SAFETY: the planner passes a valid query, which it owns
        Ok(family) => unsafe {
            let query = prepare(&family, query).or_raise();
            row_key::name_rows(&family, query);
            query
        },
        Err(_) => query,
    }
}

/// What the walk over a query has to report. Errors are kept: a walker is called by C.
struct Walk<'a> {
    family: &'a Family,
    rewrite: bool,
    error: Option<Error>,
}

/// # Safety
/// `query` is a valid query.
unsafe fn prepare(family: &Family, query: *mut Query) -> Result<*mut Query> {
    let mut walk = Walk { family, rewrite: false, error: None };
    let context = (&raw mut walk).cast();
    // SAFETY: the walker gets its own context; the mutator copies what it changes
    unsafe {
        look(query.cast(), context);
        if let Some(error) = walk.error {
            return Err(error);
        }
        if !walk.rewrite {
            return Ok(query);
        }
        let rewritten = rewrite(query.cast(), context);
        walk.error.map_or(Ok(rewritten.cast()), Err)
    }
}

/// The operators and arguments of a comparison that has no support function.
///
/// # Safety
/// `node` is a valid node.
unsafe fn comparison_parts(node: *mut Node) -> Option<(pg_sys::Oid, *mut List)> {
    // SAFETY: the tag says which struct it is
    unsafe {
        match (*node).type_ {
            NodeTag::T_ScalarArrayOpExpr => {
                let array = node.cast::<pg_sys::ScalarArrayOpExpr>();
                Some(((*array).opno, (*array).args))
            }
            // both are declared as OpExpr
            NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let operator = node.cast::<pg_sys::OpExpr>();
                Some(((*operator).opno, (*operator).args))
            }
            _ => None,
        }
    }
}

/// Which of our operators, as one of `T op T`.
fn ours(family: &Family, operator: pg_sys::Oid) -> Option<Operator> {
    if !is_of_users(operator) {
        return None;
    }
    family.types().iter().find_map(|encrypted| {
        let mut both = [encrypted.equal, encrypted.not_equal].into_iter();
        both.find(|&like| encrypted.operators_like(like).iter().any(|o| o.oid == operator))
    })
}

/// Looks for what has to be rewritten or refused.
#[pg_guard]
unsafe extern "C-unwind" fn look(node: *mut Node, context: *mut std::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the context is the one that `prepare` passes; the tag says which struct a node is
    unsafe {
        let walk = &mut *context.cast::<Walk<'_>>();
        if (*node).type_ == NodeTag::T_Query {
            if let Err(error) = check_query(walk.family, node.cast()) {
                walk.error = Some(error);
                return true;
            }
            return pg_sys::query_tree_walker(node.cast(), Some(look), context, 0);
        }
        let checked = match (*node).type_ {
            NodeTag::T_Aggref => check_aggregate(walk.family, node.cast()),
            NodeTag::T_MinMaxExpr => check_extreme(walk.family, node.cast()),
            NodeTag::T_SetOperationStmt => check_set_operation(walk.family, node.cast()),
            _ => Ok(()),
        };
        if let Err(error) = checked {
            walk.error = Some(error);
            return true;
        }
        if let Some((operator, _)) = comparison_parts(node) {
            walk.rewrite |= ours(walk.family, operator).is_some();
        }
        pg_sys::expression_tree_walker(node, Some(look), context)
    }
}

/// Rewrites what `look` found.
#[pg_guard]
unsafe extern "C-unwind" fn rewrite(node: *mut Node, context: *mut std::ffi::c_void) -> *mut Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: as in `look`; a mutator returns a node of its own or a copy
    unsafe {
        if (*node).type_ == NodeTag::T_Query {
            return compat::query_tree_mutator(node.cast(), rewrite, context).cast();
        }
        let copy = compat::expression_tree_mutator(node, rewrite, context);
        let walk = &mut *context.cast::<Walk<'_>>();
        match comparison_parts(copy) {
            Some((operator, arguments)) if walk.error.is_none() => {
                match ours(walk.family, operator) {
                    Some(operator) => match replace(walk.family, copy, operator, arguments) {
                        Ok(replaced) => replaced,
                        Err(error) => {
                            walk.error = Some(error);
                            copy
                        }
                    },
                    None => copy,
                }
            }
            _ => copy,
        }
    }
}

/// # Safety
/// `node` is a comparison of ours with those arguments, and may be changed.
unsafe fn replace(
    family: &Family,
    node: *mut Node,
    operator: Operator,
    arguments: *mut List,
) -> Result<*mut Node> {
    // SAFETY: the caller's; a comparison has two arguments
    unsafe {
        let left: *mut Node = pg_sys::list_nth(arguments, 0).cast();
        let mut right: *mut Node = pg_sys::list_nth(arguments, 1).cast();
        let is_array = (*node).type_ == NodeTag::T_ScalarArrayOpExpr;
        if is_array {
            // a list of constants becomes one, which can be sealed
            right = pg_sys::eval_const_expressions(std::ptr::null_mut(), right);
        }
        let Some((probed, right)) = support::probe_pair(family, left, right)? else {
            return Ok(node);
        };
        if (*node).type_ == NodeTag::T_NullIfExpr && probed != left {
            // NULLIF returns its first argument, and a probe is no value
            return Err(Error::FieldUnset);
        }
        let left = probed;
        if is_array && let Some(alternatives) = as_or(family, node, left, right)? {
            return Ok(alternatives);
        }
        let arguments = pg_sys::lappend(std::ptr::null_mut(), left.cast());
        let arguments = pg_sys::lappend(arguments, right.cast());
        if is_array {
            let array = node.cast::<pg_sys::ScalarArrayOpExpr>();
            (*array).opno = operator.oid;
            (*array).opfuncid = operator.function;
            (*array).args = arguments;
        } else {
            let pair = node.cast::<pg_sys::OpExpr>();
            (*pair).opno = operator.oid;
            (*pair).opfuncid = operator.function;
            (*pair).args = arguments;
        }
        Ok(node)
    }
}

/// `column IN (constants)` as an OR of `=`; `None` where it is something else.
///
/// # Safety
/// `node` is a ScalarArrayOpExpr, `right` the probe of its array.
unsafe fn as_or(
    family: &Family,
    node: *mut Node,
    left: *mut Node,
    right: *mut Node,
) -> Result<Option<*mut Node>> {
    // SAFETY: the caller's; the constant is an array of an encrypted type
    unsafe {
        let of_column = (*left).type_ == NodeTag::T_Var;
        let Some(encrypted) = family.encrypted(pg_sys::getBaseType(pg_sys::exprType(left))) else {
            return Ok(None);
        };
        if !of_column
            || !(*node.cast::<pg_sys::ScalarArrayOpExpr>()).useOr
            || ours(family, (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno)
                .is_none_or(|operator| operator.oid != encrypted.equal.oid)
        {
            return Ok(None);
        }
        let array: *mut Node = pg_sys::list_nth((*right.cast::<pg_sys::FuncExpr>()).args, 0).cast();
        let Some(handle) = support::field_handle(family, left) else { return Ok(None) };
        if (*array).type_ != NodeTag::T_Const || (*array.cast::<pg_sys::Const>()).constisnull {
            return Ok(None);
        }
        let value = (*array.cast::<pg_sys::Const>()).constvalue;
        let elements = array_elements(value, encrypted.oid);
        if !(2..=LONGEST_OR).contains(&elements.len()) {
            return Ok(None);
        }
        let mut clauses = std::ptr::null_mut();
        for element in elements {
            let constant = pg_sys::makeConst(
                encrypted.oid,
                -1,
                pg_sys::Oid::INVALID,
                -1,
                element.unwrap_or(Datum::null()),
                element.is_none(),
                false,
            );
            let Some(probe) = support::probe(encrypted, constant.cast(), handle)? else { continue };
            let left = pg_sys::copyObjectImpl(left.cast()).cast();
            let clause = support::comparison(encrypted.equal, left, probe);
            clauses = pg_sys::lappend(clauses, clause.cast());
        }
        Ok(Some(pg_sys::makeBoolExpr(pg_sys::BoolExprType::OR_EXPR, clauses, -1).cast()))
    }
}

/// Refuses what would silently mean nothing: an order by token, and grouping of values that have
/// no token.
///
/// # Safety
/// `query` is a valid query.
unsafe fn check_query(family: &Family, query: *mut Query) -> Result<()> {
    // SAFETY: the caller's
    unsafe {
        let targets = (*query).targetList;
        // DISTINCT ON (x) … ORDER BY x names the groups, whose order nobody asked for
        let distinct_on =
            if (*query).hasDistinctOn { (*query).distinctClause } else { std::ptr::null_mut() };
        check_order(family, (*query).sortClause, targets, distinct_on)?;
        check_groups(family, (*query).groupClause, targets)?;
        check_groups(family, (*query).distinctClause, targets)?;
        for window in elements::<pg_sys::WindowClause>((*query).windowClause) {
            check_order(family, (*window).orderClause, targets, std::ptr::null_mut())?;
            check_groups(family, (*window).partitionClause, targets)?;
        }
        Ok(())
    }
}

/// # Safety
/// `aggregate` is a valid aggregate call.
unsafe fn check_aggregate(family: &Family, aggregate: *mut pg_sys::Aggref) -> Result<()> {
    // SAFETY: the caller's
    unsafe {
        let targets = (*aggregate).args;
        check_order(family, (*aggregate).aggorder, targets, std::ptr::null_mut())?;
        check_groups(family, (*aggregate).aggdistinct, targets)
    }
}

/// GREATEST and LEAST would order by token.
///
/// # Safety
/// `extreme` is a valid GREATEST or LEAST.
unsafe fn check_extreme(family: &Family, extreme: *mut pg_sys::MinMaxExpr) -> Result<()> {
    // SAFETY: the caller's
    let kind = unsafe { pg_sys::getBaseType((*extreme).minmaxtype) };
    if family.plaintext_type(kind).is_some() { Err(Error::OrderBy) } else { Ok(()) }
}

/// UNION, INTERSECT and EXCEPT compare the rows of their branches: values of different fields, or
/// of none, would never match.
///
/// # Safety
/// `operation` is a valid set operation.
unsafe fn check_set_operation(
    family: &Family,
    operation: *mut pg_sys::SetOperationStmt,
) -> Result<()> {
    // SAFETY: the caller's; both lists have an element per column
    unsafe {
        if (*operation).all && (*operation).op == pg_sys::SetOperation::SETOP_UNION {
            return Ok(());
        }
        let kinds = (*operation).colTypes;
        let columns = if kinds.is_null() { 0 } else { (*kinds).length };
        for column in 0..columns {
            let mut typmod = pg_sys::list_nth_int((*operation).colTypmods, column);
            let kind = pg_sys::list_nth_oid(kinds, column);
            let base = pg_sys::getBaseTypeAndTypmod(kind, &mut typmod);
            if family.plaintext_type(base).is_some() && typmod < 0 {
                return Err(Error::FieldUnset);
            }
        }
        Ok(())
    }
}

/// # Safety
/// `clauses` are SortGroupClauses over `targets`; `except` is null or such a list.
unsafe fn check_order(
    family: &Family,
    clauses: *mut List,
    targets: *mut List,
    except: *mut List,
) -> Result<()> {
    // SAFETY: the caller's
    unsafe {
        for clause in elements::<SortGroupClause>(clauses) {
            let excepted = elements::<SortGroupClause>(except)
                .any(|group| (*group).tleSortGroupRef == (*clause).tleSortGroupRef);
            if !excepted && encrypted_target(family, clause, targets).is_some() {
                return Err(Error::OrderBy);
            }
        }
        Ok(())
    }
}

/// # Safety
/// As for `check_order`.
unsafe fn check_groups(family: &Family, clauses: *mut List, targets: *mut List) -> Result<()> {
    // SAFETY: the caller's
    unsafe {
        for clause in elements::<SortGroupClause>(clauses) {
            let Some((node, plaintext_type)) = encrypted_target(family, clause, targets) else {
                continue;
            };
            if let Some(handle) = support::field_handle(family, node)
                && let Some(field) = fields::find(By::Handle(handle))?
            {
                field.require_searchable(plaintext_type)?;
            }
        }
        Ok(())
    }
}

/// The expression that a clause is about, and whose plain values it has, if it is of an encrypted
/// type.
///
/// # Safety
/// As for `check_order`.
unsafe fn encrypted_target(
    family: &Family,
    clause: *mut SortGroupClause,
    targets: *mut List,
) -> Option<(*mut Node, PlaintextType)> {
    // SAFETY: the caller's
    unsafe {
        let target = pg_sys::get_sortgroupclause_tle(clause, targets);
        let node: *mut Node = (*target).expr.cast();
        let base = pg_sys::getBaseType(pg_sys::exprType(node));
        family.plaintext_type(base).map(|plaintext_type| (node, plaintext_type))
    }
}
