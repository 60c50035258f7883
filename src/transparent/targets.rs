//! What a result column shows.
//!
//! Invariant: only what comes out is changed. An encrypted value that a comparison or a function
//! takes stays as it is; so does everything inside a sub-select.

use std::ffi::c_void;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Node, NodeTag, TargetEntry};

use super::node::{self, elements};
use super::{Kind, Scope, Statement, order, origin};
use crate::call::varlena_bytes;
use crate::catalog::family::EncryptedType;
use crate::compat;
use crate::datatype::input::accepts_envelopes;
use crate::datatype::native;
use crate::error::Result;
use crate::value;
use fieldcrypt_core::envelope::Envelope;

/// What [`inside`] gets from the walk over an expression.
struct Walk<'a, 'b> {
    statement: &'a mut Statement<'b>,
    scope: &'a Scope<'a>,
}

impl<'a> Statement<'a> {
    /// The targets of a SELECT whose rows are shown.
    ///
    /// # Safety
    /// The scope is of a valid query, which may be changed.
    pub(super) unsafe fn select(&mut self, scope: &Scope<'_>) {
        // SAFETY: the caller's
        unsafe {
            let query = scope.query;
            if !(*query).setOperations.is_null() {
                return self.set_operation(scope);
            }
            let by_sets = !(*query).groupingSets.is_null();
            if let Some(groups) = compat::group_expressions(query) {
                if by_sets {
                    // targets refer to them, so that a subtotal has NULL there
                    for i in 0..(*groups).length {
                        let shown = self.inside(pg_sys::list_nth(groups, i).cast(), scope);
                        (*pg_sys::list_nth_cell(groups, i)).ptr_value = shown.cast();
                    }
                } else if elements::<Node>(groups).any(|group| self.may_change(group)) {
                    compat::flatten_groups(query);
                }
            }
            let count =
                if (*query).targetList.is_null() { 0 } else { (*(*query).targetList).length };
            for i in 0..count {
                let target: *mut TargetEntry = pg_sys::list_nth((*query).targetList, i).cast();
                let node: *mut Node = (*target).expr.cast();
                if by_sets
                    && let Some(kind) = self.kind_of(node)
                    && order::groups_by(query, (*target).ressortgroupref)
                {
                    self.keep_group(query, target, kind);
                    continue;
                }
                let shown = self.output(node, scope);
                order::replace(query, target, shown);
            }
        }
    }

    /// The RETURNING list.
    ///
    /// # Safety
    /// As for `select`.
    pub(super) unsafe fn returning(&mut self, scope: &Scope<'_>) {
        // SAFETY: the caller's
        unsafe {
            for target in elements::<TargetEntry>((*scope.query).returningList) {
                (*target).expr = self.output((*target).expr.cast(), scope).cast();
            }
        }
    }

    /// Whether an expression could come out otherwise: cheap, and may be wrong about jsonb.
    ///
    /// # Safety
    /// `node` is a valid expression.
    unsafe fn may_change(&mut self, node: *mut Node) -> bool {
        // SAFETY: the caller's
        unsafe {
            self.kind_of(node).is_some()
                || (*node).type_ != NodeTag::T_Var
                || (*node.cast::<pg_sys::Var>()).varattno == 0
                || (*node.cast::<pg_sys::Var>()).vartype == pg_sys::JSONBOID
        }
    }

    /// An expression whose value comes out.
    ///
    /// # Safety
    /// `node` is a valid expression of the scope's query.
    pub(super) unsafe fn output(&mut self, node: *mut Node, scope: &Scope<'_>) -> *mut Node {
        // SAFETY: the caller's; the tag says which struct a node is
        unsafe {
            match self.kind_of(node) {
                Some(Kind::Value(encrypted)) => self.value(node, encrypted, scope),
                Some(kind @ Kind::Array(..)) => self.array(node, kind, scope),
                None => match (*node).type_ {
                    NodeTag::T_Var if (*node.cast::<pg_sys::Var>()).varattno == 0 => {
                        self.row(node.cast(), scope)
                    }
                    NodeTag::T_RowExpr
                        if (*node.cast::<pg_sys::RowExpr>()).row_typeid == pg_sys::RECORDOID =>
                    {
                        let row = node::copy_shallow(node.cast::<pg_sys::RowExpr>());
                        (*row).args = self.outputs((*row).args, scope);
                        row.cast()
                    }
                    NodeTag::T_SubLink => self.sublink(node.cast(), scope, true),
                    _ => self.inside(node, scope),
                },
            }
        }
    }

    /// # Safety
    /// `nodes` is a list of expressions of the scope's query.
    pub(super) unsafe fn outputs(
        &mut self,
        nodes: *mut pg_sys::List,
        scope: &Scope<'_>,
    ) -> *mut pg_sys::List {
        // SAFETY: the caller's
        unsafe { node::list(elements::<Node>(nodes).map(|node| self.output(node, scope))) }
    }

    /// An encrypted value. Where one of several comes out, each is shown by itself: a literal among
    /// them was never stored, and stands in the client's own statement.
    ///
    /// # Safety
    /// `node` is an expression of that type, or of a domain over it.
    unsafe fn value(
        &mut self,
        node: *mut Node,
        encrypted: &'a EncryptedType,
        scope: &Scope<'_>,
    ) -> *mut Node {
        let native = encrypted.native;
        // SAFETY: the caller's; the tag says which struct a node is
        unsafe {
            let collation = pg_sys::get_typcollation(native);
            match (*node).type_ {
                NodeTag::T_Const => {
                    let constant = plain_constant(node.cast(), encrypted);
                    if let Some(Some(constant)) = self.check(constant) {
                        self.rewritten = true;
                        return constant;
                    }
                    self.revealed(node, Kind::Value(encrypted))
                }
                NodeTag::T_CoalesceExpr => {
                    let made = node::copy_shallow(node.cast::<pg_sys::CoalesceExpr>());
                    (*made).coalescetype = native;
                    (*made).coalescecollid = collation;
                    (*made).args = self.outputs((*made).args, scope);
                    made.cast()
                }
                NodeTag::T_MinMaxExpr => {
                    let made = node::copy_shallow(node.cast::<pg_sys::MinMaxExpr>());
                    (*made).minmaxtype = native;
                    (*made).minmaxcollid = collation;
                    (*made).inputcollid = collation;
                    (*made).args = self.outputs((*made).args, scope);
                    made.cast()
                }
                NodeTag::T_CaseExpr => {
                    let made = node::copy_shallow(node.cast::<pg_sys::CaseExpr>());
                    (*made).casetype = native;
                    (*made).casecollid = collation;
                    (*made).arg = self.inside((*made).arg.cast(), scope).cast();
                    let arms = elements::<pg_sys::CaseWhen>((*made).args).map(|arm| {
                        let arm = node::copy_shallow(arm);
                        (*arm).expr = self.inside((*arm).expr.cast(), scope).cast();
                        (*arm).result = self.output((*arm).result.cast(), scope).cast();
                        arm
                    });
                    (*made).args = node::list(arms);
                    (*made).defresult = self.output((*made).defresult.cast(), scope).cast();
                    made.cast()
                }
                _ => {
                    let node = self.inside(node, scope);
                    self.revealed(node, Kind::Value(encrypted))
                }
            }
        }
    }

    /// An array of encrypted values.
    ///
    /// # Safety
    /// `node` is an expression of that kind.
    unsafe fn array(&mut self, node: *mut Node, kind: Kind<'a>, scope: &Scope<'_>) -> *mut Node {
        // SAFETY: the caller's; the tag says which struct a node is
        unsafe {
            if let NodeTag::T_ArrayExpr = (*node).type_
                && let Kind::Array(_, encrypted) = kind
            {
                let made = node::copy_shallow(node.cast::<pg_sys::ArrayExpr>());
                (*made).array_typeid = encrypted.native_array;
                (*made).array_collid = pg_sys::get_typcollation(encrypted.native_array);
                (*made).element_typeid = encrypted.native;
                (*made).elements = self.outputs((*made).elements, scope);
                return made.cast();
            }
            let node = self.inside(node, scope);
            self.revealed(node, kind)
        }
    }

    /// `reveal(node)`, or of an array its elements.
    ///
    /// # Safety
    /// `node` is an expression of that kind.
    pub(super) unsafe fn revealed(&mut self, node: *mut Node, kind: Kind<'a>) -> *mut Node {
        self.rewritten = true;
        // SAFETY: the caller's
        unsafe {
            match kind {
                Kind::Value(encrypted) => {
                    let value = node::of_base_type(node, encrypted.oid);
                    node::call(encrypted.reveal, encrypted.native, [value])
                }
                Kind::Array(element, encrypted) => {
                    // what stands for an element in a cast of an array
                    let each: *mut pg_sys::CaseTestExpr = node::new(NodeTag::T_CaseTestExpr);
                    (*each).typeId = element;
                    (*each).typeMod = -1;
                    let made: *mut pg_sys::ArrayCoerceExpr = node::new(NodeTag::T_ArrayCoerceExpr);
                    (*made).arg = node.cast();
                    (*made).elemexpr = self.revealed(each.cast(), Kind::Value(encrypted)).cast();
                    (*made).resulttype = encrypted.native_array;
                    (*made).resulttypmod = -1;
                    (*made).resultcollid = pg_sys::get_typcollation(encrypted.native_array);
                    (*made).coerceformat = pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
                    (*made).location = -1;
                    made.cast()
                }
            }
        }
    }

    /// A whole row: the same columns, each as it comes out; the row itself if none is encrypted.
    ///
    /// # Safety
    /// `whole` is a reference to a row of a table of the scope's query.
    unsafe fn row(&mut self, whole: *mut pg_sys::Var, scope: &Scope<'_>) -> *mut Node {
        // SAFETY: the caller's
        unsafe {
            if scope.is_branch {
                return whole.cast();
            }
            let Some(home) = origin::outward(scope, (*whole).varlevelsup) else {
                return whole.cast();
            };
            let (names, columns) = compat::columns_of_row(home.query, whole);
            let mut changed = false;
            let shown = elements::<Node>(columns).map(|column| {
                let shown = match (*column).type_ {
                    NodeTag::T_Var if (*column.cast::<pg_sys::Var>()).varattno == 0 => column,
                    _ => self.output(column, scope),
                };
                changed |= !std::ptr::eq(shown, column);
                shown
            });
            let shown = node::list(shown);
            if !changed {
                return whole.cast();
            }
            let row: *mut pg_sys::RowExpr = node::new(NodeTag::T_RowExpr);
            (*row).args = shown;
            (*row).row_typeid = pg_sys::RECORDOID;
            (*row).row_format = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
            (*row).colnames = names;
            (*row).location = -1;
            // an outer join without a match gives no row, which is not a row of NULLs
            let missing: *mut pg_sys::NullTest = node::new(NodeTag::T_NullTest);
            (*missing).arg = whole.cast();
            (*missing).nulltesttype = pg_sys::NullTestType::IS_NULL;
            (*missing).location = -1;
            let arm: *mut pg_sys::CaseWhen = node::new(NodeTag::T_CaseWhen);
            (*arm).expr = missing.cast();
            (*arm).result = node::constant(pg_sys::RECORDOID, None).cast();
            (*arm).location = -1;
            let made: *mut pg_sys::CaseExpr = node::new(NodeTag::T_CaseExpr);
            (*made).casetype = pg_sys::RECORDOID;
            (*made).args = node::list([arm]);
            (*made).defresult = row.cast();
            (*made).location = -1;
            made.cast()
        }
    }

    /// A sub-select that gives no encrypted value: a document, what is made of documents, and where
    /// it comes out as it is, a row; or an array of such.
    ///
    /// # Safety
    /// `link` is a valid sub-select in the scope's query.
    unsafe fn sublink(
        &mut self,
        link: *mut pg_sys::SubLink,
        scope: &Scope<'_>,
        comes_out: bool,
    ) -> *mut Node {
        use pg_sys::SubLinkType::{ARRAY_SUBLINK, EXPR_SUBLINK};
        // SAFETY: the caller's
        unsafe {
            if let Some(document) = self.document_of_sublink(link, scope) {
                return document;
            }
            let query: *mut pg_sys::Query = (*link).subselect.cast();
            if !matches!((*link).subLinkType, ARRAY_SUBLINK | EXPR_SUBLINK)
                || !(*query).setOperations.is_null()
                || !(*query).groupingSets.is_null()
            {
                return link.cast();
            }
            let scope = Scope { query, outer: Some(scope), is_branch: scope.is_branch };
            for target in elements::<TargetEntry>((*query).targetList) {
                let node: *mut Node = (*target).expr.cast();
                // it is shown outside
                if self.kind_of(node).is_some() {
                    continue;
                }
                let shown = match comes_out {
                    true => self.output(node, &scope),
                    false => self.inside(node, &scope),
                };
                order::replace(query, target, shown);
            }
            link.cast()
        }
    }

    /// An expression from which something else comes out: only casts to text and documents in it
    /// change, never its own type.
    ///
    /// # Safety
    /// `node` is null or a valid expression of the scope's query.
    pub(super) unsafe fn inside(&mut self, node: *mut Node, scope: &Scope<'_>) -> *mut Node {
        let mut walk = Walk { statement: self, scope };
        // SAFETY: the caller's; the mutator gets its own context
        unsafe { inside(node, (&raw mut walk).cast()) }
    }

    /// A cast by way of text, of what comes out of its argument; `None` if that is nothing else.
    ///
    /// # Safety
    /// `cast` is valid, in the scope's query.
    unsafe fn cast(
        &mut self,
        cast: *mut pg_sys::CoerceViaIO,
        scope: &Scope<'_>,
    ) -> Option<*mut Node> {
        // SAFETY: the caller's
        unsafe {
            let argument: *mut Node = (*cast).arg.cast();
            let is_row = (*argument).type_ == NodeTag::T_Var
                && (*argument.cast::<pg_sys::Var>()).varattno == 0
                || (*argument).type_ == NodeTag::T_RowExpr
                || (*argument).type_ == NodeTag::T_SubLink
                    && matches!(
                        node::type_of(argument),
                        pg_sys::RECORDOID | pg_sys::RECORDARRAYOID
                    );
            (is_row || self.kind_of(argument).is_some()).then(|| self.shown_cast(cast, scope))
        }
    }

    /// The same where something else comes out.
    ///
    /// # Safety
    /// As for `cast`.
    pub(super) unsafe fn shown_cast(
        &mut self,
        cast: *mut pg_sys::CoerceViaIO,
        scope: &Scope<'_>,
    ) -> *mut Node {
        // SAFETY: the caller's
        unsafe {
            let shown = self.output((*cast).arg.cast(), scope);
            let (from, to) = (node::type_of(shown), (*cast).resulttype);
            if from == to {
                return shown;
            }
            // that of a boolean is another than by way of its text form
            let made = pg_sys::coerce_to_target_type(
                std::ptr::null_mut(),
                shown,
                from,
                to,
                -1,
                pg_sys::CoercionContext::COERCION_EXPLICIT,
                (*cast).coerceformat,
                -1,
            );
            if made.is_null() {
                let made = node::copy_shallow(cast);
                (*made).arg = shown.cast();
                return made.cast();
            }
            pg_sys::exprSetCollation(made, (*cast).resultcollid);
            made
        }
    }
}

/// See [`Statement::inside`].
#[pg_guard]
unsafe extern "C-unwind" fn inside(node: *mut Node, context: *mut c_void) -> *mut Node {
    if node.is_null() {
        return node;
    }
    // SAFETY: the context is the one that `Statement::inside` passes; the tag says which struct a
    // node is
    unsafe {
        let walk = &mut *context.cast::<Walk<'_, '_>>();
        let (statement, scope) = (&mut *walk.statement, walk.scope);
        match (*node).type_ {
            NodeTag::T_Var => return statement.document(node.cast(), scope).unwrap_or(node),
            NodeTag::T_Const | NodeTag::T_Param | NodeTag::T_Query | NodeTag::T_GroupingFunc => {
                return node;
            }
            NodeTag::T_SubLink => {
                return statement.sublink(node.cast(), scope, false);
            }
            NodeTag::T_FuncExpr
                if statement.family.has_function((*node.cast::<pg_sys::FuncExpr>()).funcid) =>
            {
                return node;
            }
            NodeTag::T_CoerceViaIO => {
                if let Some(made) = statement.cast(node.cast(), scope) {
                    return made;
                }
            }
            _ => {}
        }
        compat::expression_tree_mutator(node, inside, context)
    }
}

/// A literal in transit as a constant of the native type; `None` if it is something else.
///
/// # Safety
/// `constant` is a valid constant of that encrypted type.
unsafe fn plain_constant(
    constant: *mut pg_sys::Const,
    encrypted: &EncryptedType,
) -> Result<Option<*mut Node>> {
    let native = encrypted.native;
    // SAFETY: the caller's; encrypted types are varlenas
    unsafe {
        if (*constant).constisnull {
            return Ok(Some(node::constant(native, None)));
        }
        let envelope = Envelope::parse(varlena_bytes((*constant).constvalue))?;
        // who may put envelopes in could have it from anywhere
        let is_given = envelope.in_transit() && envelope.header().field_id.is_none();
        if !is_given || accepts_envelopes() {
            return Ok(None);
        }
        let opened = value::open_in_transit(&envelope)?;
        let value = native::datum(opened.plaintext()?)?;
        Ok(Some(node::constant(native, Some(value))))
    }
}
