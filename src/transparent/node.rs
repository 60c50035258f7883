//! Making nodes of a query. They live in the current memory context, as the query does.

use pgrx::pg_sys::{self, CoercionForm, Datum, List, Node, NodeTag, Oid};

use super::MARK;

/// A new node, all zero.
///
/// # Safety
/// `T` is the struct of that tag.
pub unsafe fn new<T>(tag: NodeTag) -> *mut T {
    // SAFETY: the caller's; every node begins with its tag
    unsafe {
        let node: *mut T = pg_sys::palloc0(size_of::<T>()).cast();
        (*node.cast::<Node>()).type_ = tag;
        node
    }
}

/// The type of an expression.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn type_of(node: *mut Node) -> Oid {
    // SAFETY: the caller's; most are columns, for which no call is needed
    unsafe {
        match (*node).type_ {
            NodeTag::T_Var => (*node.cast::<pg_sys::Var>()).vartype,
            _ => pg_sys::exprType(node),
        }
    }
}

/// The elements of a list of pointers.
///
/// # Safety
/// `list` is null or a valid list of `T`, and does not get shorter meanwhile.
pub unsafe fn elements<T>(list: *mut List) -> impl Iterator<Item = *mut T> {
    // SAFETY: the caller's
    unsafe {
        let length = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
        (0..length).map(move |i| (*(*list).elements.add(i)).ptr_value.cast())
    }
}

/// A list of pointers.
///
/// # Safety
/// They are valid, and of what the list is to hold.
pub unsafe fn list<T>(items: impl IntoIterator<Item = *mut T>) -> *mut List {
    // SAFETY: the caller's
    items
        .into_iter()
        .fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend(list, item.cast()) })
}

/// A copy of a node with all that is in it.
///
/// # Safety
/// `node` is null or valid.
pub unsafe fn copy<T>(node: *mut T) -> *mut T {
    // SAFETY: the caller's
    unsafe { pg_sys::copyObjectImpl(node.cast_const().cast()).cast() }
}

/// A copy of one node, which shares what is in it.
///
/// # Safety
/// `node` is valid, and a `T`.
pub unsafe fn copy_shallow<T: Copy>(node: *mut T) -> *mut T {
    // SAFETY: the caller's
    unsafe {
        let copied: *mut T = pg_sys::palloc(size_of::<T>()).cast();
        copied.write(*node);
        copied
    }
}

/// A call that is added here.
///
/// # Safety
/// The arguments are valid expressions of the function's types.
pub unsafe fn call(
    function: Oid,
    result: Oid,
    arguments: impl IntoIterator<Item = *mut Node>,
) -> *mut Node {
    // SAFETY: the caller's
    unsafe {
        let call = pg_sys::makeFuncExpr(
            function,
            result,
            list(arguments),
            // as the parser does for arguments without a collation
            pg_sys::get_typcollation(result),
            Oid::INVALID,
            CoercionForm::COERCE_EXPLICIT_CALL,
        );
        (*call).location = MARK;
        call.cast()
    }
}

/// An expression of a domain as one of the type under it.
///
/// # Safety
/// `node` is a valid expression of `base`, or of a domain over it.
pub unsafe fn of_base_type(node: *mut Node, base: Oid) -> *mut Node {
    // SAFETY: the caller's
    unsafe {
        if type_of(node) == base {
            return node;
        }
        let format = CoercionForm::COERCE_IMPLICIT_CAST;
        pg_sys::makeRelabelType(node.cast(), base, -1, Oid::INVALID, format).cast()
    }
}

/// A constant in place of one of an encrypted type; `None` is NULL.
pub fn constant(kind: Oid, value: Option<Datum>) -> *mut Node {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: a syscache look-up, and a constant as that type says
    unsafe {
        pg_sys::get_typlenbyval(kind, &mut length, &mut by_value);
        let collation = pg_sys::get_typcollation(kind);
        let is_null = value.is_none();
        let value = value.unwrap_or(Datum::null());
        let length = i32::from(length);
        let made = pg_sys::makeConst(kind, -1, collation, length, value, is_null, by_value);
        (*made).location = MARK;
        made.cast()
    }
}

/// A reference to another column of the same row of a table.
///
/// # Safety
/// `var` is a valid reference to that relation.
pub unsafe fn column_of_same_row(
    var: *mut pg_sys::Var,
    relation: Oid,
    column: i16,
) -> *mut pg_sys::Var {
    // SAFETY: the caller's
    unsafe {
        let other = copy(var);
        (*other).varattno = column;
        (*other).varattnosyn = column;
        let (mut kind, mut typmod, mut collation) = (Oid::INVALID, -1, Oid::INVALID);
        pg_sys::get_atttypetypmodcoll(relation, column, &mut kind, &mut typmod, &mut collation);
        (*other).vartype = kind;
        (*other).vartypmod = typmod;
        (*other).varcollid = collation;
        other
    }
}

/// Adds a target that is not shown, and returns the number by which clauses refer to it.
///
/// # Safety
/// `targets` is a list of targets, and `node` a valid expression of the same query.
pub unsafe fn add_hidden_target(targets: &mut *mut List, node: *mut Node) -> u32 {
    // SAFETY: the caller's
    unsafe {
        let reference = next_reference(*targets);
        let number = if targets.is_null() { 0 } else { (**targets).length };
        let number = i16::try_from(number + 1).unwrap_or(i16::MAX);
        let target = pg_sys::makeTargetEntry(node.cast(), number, std::ptr::null_mut(), true);
        (*target).ressortgroupref = reference;
        *targets = pg_sys::lappend(*targets, target.cast());
        reference
    }
}

/// A number by which clauses can refer to a target, not used yet.
///
/// # Safety
/// `targets` is a list of targets.
pub unsafe fn next_reference(targets: *mut List) -> u32 {
    // SAFETY: the caller's
    let references = unsafe {
        elements::<pg_sys::TargetEntry>(targets).map(|target| (*target).ressortgroupref).max()
    };
    references.unwrap_or(0) + 1
}
