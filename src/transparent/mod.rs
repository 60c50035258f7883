//! Transparent reads: encrypted columns in the results of the client's own statements, shown as
//! `fieldcrypt.reveal()` shows them.
//!
//! - [`targets`]: what a result column shows
//! - [`mentions`]: whether a statement has anything that could be shown otherwise
//! - [`casts`]: what a cast to text shows where a query filters
//! - [`json`]: what JSON is made of
//! - [`origin`]: whether a jsonb value is a protected document
//! - [`order`]: sorting, grouping and DISTINCT go by what is shown
//! - [`sets`]: UNION, INTERSECT and EXCEPT
//! - [`node`]: making nodes of a query
//!
//! Invariants: this is presentation and grants nothing, since `reveal()` checks the right; a place
//! that is missed shows ciphertext. In WHERE, ON and HAVING comparisons stay as they are, so that
//! they use tokens and indexes. Rewriting what is rewritten changes nothing.

mod casts;
mod json;
mod mentions;
pub mod node;
mod order;
mod origin;
mod sets;
mod targets;

use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, List, Node, NodeTag, Oid, Query};

use crate::call::Call;
use crate::catalog::family::{EncryptedType, Family, is_of_users};
use crate::error::{Error, Result};
use mentions::Mentions;
use node::elements;
use origin::Document;

/// The location in the statement's text that the calls of reveal() have that are added here. A call
/// that is written has one from 0, and one that others add has -1.
const MARK: i32 = -0xFC;

/// Whether this session has ever rewritten a query: else there is none to look for.
static HAS_REWRITTEN: AtomicBool = AtomicBool::new(false);

/// What an expression is that has to be shown.
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// A value of an encrypted type, or of a domain over it.
    Value(&'a EncryptedType),
    /// An array of such values, whose elements are declared of this type.
    Array(Oid, &'a EncryptedType),
}

impl Kind<'_> {
    /// The type of what is shown.
    fn native(self) -> Oid {
        match self {
            Self::Value(encrypted) => encrypted.native,
            Self::Array(_, encrypted) => encrypted.native_array,
        }
    }
}

/// A query, and those around it.
#[derive(Clone, Copy)]
struct Scope<'a> {
    query: *mut Query,
    outer: Option<&'a Scope<'a>>,
    /// Whether it is a branch of a set operation, whose columns must agree with the others'.
    is_branch: bool,
}

/// One statement that is being rewritten. What was looked up is kept.
struct Statement<'a> {
    family: &'a Family,
    kinds: HashMap<Oid, Option<Kind<'a>>>,
    documents: HashMap<Oid, Rc<[Document]>>,
    rewritten: bool,
    error: Option<Error>,
}

/// Rewrites a query whose rows the client reads.
///
/// # Safety
/// `query` was just made by parse analysis.
pub unsafe fn rewrite(query: *mut Query) -> Result<()> {
    // SAFETY: the caller's
    let mentions = unsafe { Mentions::of(query) };
    if mentions.is_empty() {
        return Ok(());
    }
    // not installed in this database: nothing is encrypted
    let Ok(family) = Family::get() else { return Ok(()) };
    let mut statement = Statement {
        family: &family,
        kinds: HashMap::new(),
        documents: HashMap::new(),
        rewritten: false,
        error: None,
    };
    let is_encrypted = |&given: &Oid| statement.kind(given).is_some();
    if !mentions.is_unclear && !mentions.types.iter().any(is_encrypted) {
        return Ok(());
    }
    // SAFETY: the caller's
    unsafe {
        let scope = Scope { query, outer: None, is_branch: false };
        if mentions.json {
            statement.show_json(&scope);
        }
        if (*query).commandType == pg_sys::CmdType::CMD_SELECT {
            statement.select(&scope);
        } else {
            statement.returning(&scope);
        }
        if mentions.casts {
            statement.show_casts(&scope);
        }
        statement.order_inner_queries(query);
    }
    if statement.rewritten {
        HAS_REWRITTEN.store(true, Ordering::Relaxed);
    }
    statement.error.map_or(Ok(()), Err)
}

impl<'a> Statement<'a> {
    /// What a type is; `None` for one that is shown as it is.
    fn kind(&mut self, declared: Oid) -> Option<Kind<'a>> {
        if !is_of_users(declared) {
            return None;
        }
        let family = self.family;
        *self.kinds.entry(declared).or_insert_with(|| {
            // SAFETY: look-ups in the syscache
            let (base, element) = unsafe {
                let base = pg_sys::getBaseType(declared);
                (base, pg_sys::get_element_type(base))
            };
            if let Some(encrypted) = family.encrypted(base) {
                return Some(Kind::Value(encrypted));
            }
            if element == Oid::INVALID {
                return None;
            }
            // SAFETY: as above
            let encrypted = family.encrypted(unsafe { pg_sys::getBaseType(element) });
            encrypted.map(|encrypted| Kind::Array(element, encrypted))
        })
    }

    /// The kind of an expression.
    ///
    /// # Safety
    /// `node` is a valid expression.
    unsafe fn kind_of(&mut self, node: *mut Node) -> Option<Kind<'a>> {
        // SAFETY: the caller's
        unsafe { self.kind(node::type_of(node)) }
    }

    /// Keeps the first error: some of this is called by C.
    fn check<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

/// Whether this session has ever rewritten a query.
pub fn has_rewritten() -> bool {
    HAS_REWRITTEN.load(Ordering::Relaxed)
}

/// Whether a call that is being executed was added here. In a parallel worker it may have been:
/// the mark is not handed on to it.
pub fn may_be_added(call: &Call) -> bool {
    let expression = call.expression();
    // SAFETY: a variable of the only thread
    if unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
        return true;
    }
    // SAFETY: null, or the expression of the call, whose tag says which struct it is
    unsafe {
        !expression.is_null()
            && (*expression).type_ == NodeTag::T_FuncExpr
            && (*expression.cast::<pg_sys::FuncExpr>()).location == MARK
    }
}

/// Whether one of the queries of a prepared statement was rewritten here.
///
/// # Safety
/// `queries` is null or a valid list of queries.
pub unsafe fn is_rewritten(queries: *mut List) -> bool {
    // SAFETY: the caller's
    unsafe { elements::<Node>(queries).any(|query| find_mark(query, std::ptr::null_mut())) }
}

/// Whether there is a call in a tree that was added here.
#[pg_guard]
unsafe extern "C-unwind" fn find_mark(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: the tag says which struct a node is
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            NodeTag::T_FuncExpr if (*node.cast::<pg_sys::FuncExpr>()).location == MARK => true,
            NodeTag::T_Const => (*node.cast::<pg_sys::Const>()).location == MARK,
            NodeTag::T_Query => pg_sys::query_tree_walker(node.cast(), Some(find_mark), context, 0),
            _ => pg_sys::expression_tree_walker(node, Some(find_mark), context),
        }
    }
}
