//! Where a jsonb value comes from: whether it is a protected document, passed on unchanged through
//! sub-selects, common tables, joins and views.

use std::rc::Rc;

use pgrx::pg_sys::{self, Node, NodeTag, Oid, Query, RTEKind, RangeTblEntry, TargetEntry, Var};

use super::node::{self, elements};
use super::{Scope, Statement, sets};
use crate::catalog::family::is_of_users;
use crate::compat;

/// Levels of views and sub-selects through which a column is followed.
const DEEPEST: usize = 64;

/// A protected column of a table.
pub struct Document {
    column: i16,
    blob: Option<i16>,
}

impl Statement<'_> {
    /// A reference to a document as it comes out; `None` if it is something else.
    ///
    /// # Safety
    /// `var` is a valid reference in the scope's query.
    pub(super) unsafe fn document(
        &mut self,
        var: *mut Var,
        scope: &Scope<'_>,
    ) -> Option<*mut Node> {
        // SAFETY: the caller's
        unsafe {
            if (*var).vartype != pg_sys::JSONBOID || !self.refers_to_document(var, scope, 0) {
                return None;
            }
            self.rewritten = true;
            let query = outward(scope, (*var).varlevelsup)?.query;
            let table = table_of(var, query);
            let merged = self.blob_of(var, table).map(|blob| {
                compat::select_column(query, table, blob);
                let blob = node::column_of_same_row(var, (*table).relid, blob);
                let arguments = [var.cast(), blob.cast()];
                node::call(self.family.documents().reveal_merged, pg_sys::JSONBOID, arguments)
            });
            Some(merged.unwrap_or_else(|| {
                node::call(self.family.documents().reveal, pg_sys::JSONBOID, [var.cast()])
            }))
        }
    }

    /// The same of a sub-select.
    ///
    /// # Safety
    /// `link` is a valid sub-select in the scope's query.
    pub(super) unsafe fn document_of_sublink(
        &mut self,
        link: *mut pg_sys::SubLink,
        scope: &Scope<'_>,
    ) -> Option<*mut Node> {
        // SAFETY: the caller's
        unsafe {
            if pg_sys::exprType(link.cast()) != pg_sys::JSONBOID
                || !self.is_document(link.cast(), scope, 0)
            {
                return None;
            }
            self.rewritten = true;
            Some(node::call(self.family.documents().reveal, pg_sys::JSONBOID, [link.cast()]))
        }
    }

    /// The blob column of a document, if it is read straight from the table, and the user may read
    /// the blob.
    ///
    /// # Safety
    /// `table` is that of `var`.
    unsafe fn blob_of(&mut self, var: *mut Var, table: *mut RangeTblEntry) -> Option<i16> {
        // SAFETY: the caller's; look-ups in the syscache
        unsafe {
            if (*table).rtekind != RTEKind::RTE_RELATION {
                return None;
            }
            let relation = (*table).relid;
            let documents = self.documents_of(relation);
            let blob = documents.iter().find(|document| document.column == (*var).varattno)?.blob?;
            let (user, right) = (pg_sys::GetUserId(), pg_sys::ACL_SELECT as pg_sys::AclMode);
            let allowed = pg_sys::AclResult::ACLCHECK_OK;
            (pg_sys::pg_class_aclcheck(relation, user, right) == allowed
                || pg_sys::pg_attribute_aclcheck(relation, blob, user, right) == allowed)
                .then_some(blob)
        }
    }

    /// # Safety
    /// `node` is a valid expression of the scope's query.
    unsafe fn is_document(&mut self, node: *mut Node, scope: &Scope<'_>, depth: usize) -> bool {
        // SAFETY: the caller's; the tag says which struct a node is
        unsafe {
            if node.is_null() || depth > DEEPEST {
                return false;
            }
            match (*node).type_ {
                NodeTag::T_Var => self.refers_to_document(node.cast(), scope, depth),
                NodeTag::T_CoalesceExpr => {
                    let arguments = (*node.cast::<pg_sys::CoalesceExpr>()).args;
                    elements::<Node>(arguments).any(|node| self.is_document(node, scope, depth))
                }
                NodeTag::T_SubLink => {
                    let link = node.cast::<pg_sys::SubLink>();
                    let of_one_value = (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK;
                    of_one_value && self.passes_document((*link).subselect.cast(), 1, scope, depth)
                }
                _ => false,
            }
        }
    }

    /// # Safety
    /// `var` is a valid reference of the scope's query.
    unsafe fn refers_to_document(
        &mut self,
        var: *mut Var,
        scope: &Scope<'_>,
        depth: usize,
    ) -> bool {
        // SAFETY: the caller's; the kind of a table says which of its members are set
        unsafe {
            let column = (*var).varattno;
            let Some(scope) = outward(scope, (*var).varlevelsup) else { return false };
            if column <= 0 || (*var).vartype != pg_sys::JSONBOID {
                return false;
            }
            let table = table_of(var, scope.query);
            match (*table).rtekind {
                RTEKind::RTE_RELATION => self.holds_document(table, column, depth),
                RTEKind::RTE_SUBQUERY => {
                    self.passes_document((*table).subquery, column, scope, depth)
                }
                RTEKind::RTE_JOIN => {
                    let node = pg_sys::list_nth((*table).joinaliasvars, i32::from(column) - 1);
                    self.is_document(node.cast(), scope, depth + 1)
                }
                RTEKind::RTE_CTE if !(*table).self_reference => {
                    let Some(scope) = outward(scope, (*table).ctelevelsup) else { return false };
                    let name = std::ffi::CStr::from_ptr((*table).ctename);
                    elements::<pg_sys::CommonTableExpr>((*scope.query).cteList)
                        .find(|common| std::ffi::CStr::from_ptr((**common).ctename) == name)
                        .is_some_and(|common| {
                            self.passes_document((*common).ctequery.cast(), column, scope, depth)
                        })
                }
                _ => false,
            }
        }
    }

    /// Whether a column of a query is a document. Of a set operation it is if one of a branch is.
    ///
    /// # Safety
    /// `query` is a valid query inside the scope's.
    unsafe fn passes_document(
        &mut self,
        query: *mut Query,
        column: i16,
        outer: &Scope<'_>,
        depth: usize,
    ) -> bool {
        // SAFETY: the caller's
        unsafe {
            if depth > DEEPEST || (*query.cast::<Node>()).type_ != NodeTag::T_Query {
                return false;
            }
            let scope = Scope { query, outer: Some(outer), is_branch: false };
            if !(*query).setOperations.is_null() {
                return sets::branches(query).into_iter().any(|branch| {
                    self.passes_document((*branch).subquery, column, &scope, depth + 1)
                });
            }
            self.is_document(target(query, column), &scope, depth + 1)
        }
    }

    /// Whether a column of a table or view is a document.
    ///
    /// # Safety
    /// `table` is a valid entry for a relation.
    unsafe fn holds_document(
        &mut self,
        table: *mut RangeTblEntry,
        column: i16,
        depth: usize,
    ) -> bool {
        // SAFETY: the caller's; a view's query is valid while the view is open
        unsafe {
            let relation = (*table).relid;
            if !is_of_users(relation) {
                return false;
            }
            if !is_view((*table).relkind) {
                return self.documents_of(relation).iter().any(|d| d.column == column);
            }
            let view = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
            let found = view_query(view).is_some_and(|query| {
                let scope = Scope { query, outer: None, is_branch: false };
                self.passes_document(query, column, &scope, depth + 1)
            });
            pg_sys::relation_close(view, pg_sys::NoLock as i32);
            found
        }
    }

    /// The protected columns of a table.
    ///
    /// # Safety
    /// The relation exists.
    unsafe fn documents_of(&mut self, relation: Oid) -> Rc<[Document]> {
        if let Some(known) = self.documents.get(&relation) {
            return known.clone();
        }
        // SAFETY: the caller's; the descriptor is valid while the relation is open
        let found: Rc<[Document]> = unsafe {
            let open = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
            let found = triggers_of(open)
                .filter(|trigger| (**trigger).tgfoid == self.family.documents().seal)
                .filter_map(|trigger| document(relation, trigger))
                .collect();
            pg_sys::relation_close(open, pg_sys::NoLock as i32);
            found
        };
        self.documents.insert(relation, found.clone());
        found
    }
}

/// What a trigger of a document says: name, column, account, kind and blob column.
///
/// # Safety
/// `trigger` is a valid trigger of that relation.
unsafe fn document(relation: Oid, trigger: *const pg_sys::Trigger) -> Option<Document> {
    // SAFETY: the caller's; the arguments are NUL-terminated
    unsafe {
        if (*trigger).tgnargs < 5 {
            return None;
        }
        let column = |argument: usize| {
            let name = *(*trigger).tgargs.add(argument);
            let number = pg_sys::get_attnum(relation, name);
            (number > 0).then_some(number)
        };
        Some(Document { column: column(1)?, blob: column(4) })
    }
}

/// # Safety
/// `relation` is open.
unsafe fn triggers_of(relation: pg_sys::Relation) -> impl Iterator<Item = *const pg_sys::Trigger> {
    // SAFETY: the caller's; the descriptor counts its triggers
    unsafe {
        let triggers = (*relation).trigdesc;
        let count = if triggers.is_null() { 0 } else { (*triggers).numtriggers };
        let count = usize::try_from(count).unwrap_or(0);
        (0..count).map(move |i| (*triggers).triggers.add(i).cast_const())
    }
}

fn is_view(kind: std::ffi::c_char) -> bool {
    let kind = kind.cast_unsigned();
    kind == pg_sys::RELKIND_VIEW || kind == pg_sys::RELKIND_MATVIEW
}

/// The query of a view.
///
/// # Safety
/// `view` is open.
unsafe fn view_query(view: pg_sys::Relation) -> Option<*mut Query> {
    // SAFETY: the caller's; the rules are counted, and that of SELECT has one action
    unsafe {
        let rules = (*view).rd_rules;
        let count = if rules.is_null() { 0 } else { (*rules).numLocks };
        (0..usize::try_from(count).unwrap_or(0)).find_map(|i| {
            let rule = *(*rules).rules.add(i);
            ((*rule).event == pg_sys::CmdType::CMD_SELECT)
                .then(|| pg_sys::list_nth((*rule).actions, 0).cast())
        })
    }
}

/// The query some levels out.
pub(super) fn outward<'a>(scope: &'a Scope<'a>, levels: u32) -> Option<&'a Scope<'a>> {
    (0..levels).try_fold(scope, |scope, _| scope.outer)
}

/// # Safety
/// `var` is a valid reference to a table of `query`.
unsafe fn table_of(var: *mut Var, query: *mut Query) -> *mut RangeTblEntry {
    // SAFETY: the caller's
    unsafe { pg_sys::list_nth((*query).rtable, (*var).varno - 1).cast() }
}

/// The expression of a column of a query's rows; null if there is none.
///
/// # Safety
/// `query` is valid.
unsafe fn target(query: *mut Query, column: i16) -> *mut Node {
    // SAFETY: the caller's
    unsafe {
        let is_select = (*query).commandType == pg_sys::CmdType::CMD_SELECT;
        let targets = if is_select { (*query).targetList } else { (*query).returningList };
        elements::<TargetEntry>(targets)
            .find(|target| (**target).resno == column)
            .map_or(std::ptr::null_mut(), |target| (*target).expr.cast())
    }
}
