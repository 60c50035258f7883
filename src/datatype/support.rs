//! The planner's support function of `=` and `<>`: where one side is known to be of a field, it
//! wraps the other in a probe of that field, so that literals, parameters and expressions find by
//! index.
//!
//! Invariant: no plain text stays in a plan. A plain constant is sealed for transit before it is
//! put anywhere that EXPLAIN shows.

use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_core::field::FieldId;
use pgrx::pg_extern;
use pgrx::pg_sys::{self, Datum, Node, NodeTag, Oid};

use super::native;
use crate::call::{Answer, Call, map_array, varlena_bytes};
use crate::catalog::family::{DocumentFunctions, EncryptedType, Family, Operator};
use crate::catalog::field::{By, describe_handle};
use crate::catalog::fields;
use crate::encoding;
use crate::error::{Error, OrRaise, Result};
use crate::value;

/// `encrypted_support(internal) → internal`, for the functions of `=`, `<>`, casts and probes of plain values.
#[pg_extern(sql = false)]
fn encrypted_support(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let request: *mut Node = Call::new(fcinfo).pointer(0);
    // SAFETY: the planner passes a request node, whose tag says which
    let simplified = unsafe {
        if (*request).type_ != NodeTag::T_SupportRequestSimplify {
            return Answer::datum(Datum::null());
        }
        let call = (*request.cast::<pg_sys::SupportRequestSimplify>()).fcall;
        simplify(call).or_raise()
    };
    // "nothing to do" is a null pointer, not SQL NULL
    Answer::datum(simplified.map_or(Datum::null(), Datum::from))
}

/// # Safety
/// `call` is a valid call of one of the functions that name this support function.
unsafe fn simplify(call: *mut pg_sys::FuncExpr) -> Result<Option<*mut Node>> {
    let family = Family::get()?;
    // SAFETY: the caller's; each of these functions has two arguments or more
    unsafe {
        let function = (*call).funcid;
        let (left, right) = arguments((*call).args);
        let documents = family.documents();
        if function == documents.search_tokens {
            let text = family.of(PlaintextType::Text);
            return Ok(seal_constant(text, right)?
                .map(|sealed| search_in_transit(documents, sealed, call)));
        }
        for encrypted in family.types() {
            let is_json = encrypted.plaintext_type == PlaintextType::Json;
            if function == encrypted.cast || is_json && function == documents.cast {
                return Ok(
                    seal_constant(encrypted, left)?.map(|sealed| coercion(encrypted, sealed, call))
                );
            }
            if function == encrypted.probe_native || function == encrypted.probe_native_array {
                return Ok(seal_constant(encrypted, left)?
                    .map(|sealed| probe_of(encrypted, sealed, right)));
            }
            for operator in [encrypted.equal, encrypted.not_equal] {
                if encrypted.operators_like(operator).iter().any(|o| o.function == function) {
                    return Ok(probe_pair(&family, left, right)?
                        .map(|(left, right)| comparison(operator, left, right)));
                }
            }
        }
        Ok(None)
    }
}

/// The look-up of a sealed constant, in place of the look-up `call` of a text.
///
/// # Safety
/// `call` is a valid call of `search_tokens`, `sealed` an expression of the encrypted type.
unsafe fn search_in_transit(
    documents: DocumentFunctions,
    sealed: *mut Node,
    call: *mut pg_sys::FuncExpr,
) -> *mut Node {
    // SAFETY: the caller's; the function has three arguments
    unsafe {
        let field = pg_sys::list_nth((*call).args, 0);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), field);
        let arguments = pg_sys::lappend(arguments, sealed.cast());
        let arguments = pg_sys::lappend(arguments, pg_sys::list_nth((*call).args, 2));
        pg_sys::makeFuncExpr(
            documents.search_tokens_in_transit,
            (*call).funcresulttype,
            arguments,
            Oid::INVALID,
            Oid::INVALID,
            (*call).funcformat,
        )
        .cast()
    }
}

/// The length coercion of a sealed constant, in place of the cast `call` of a plain one.
///
/// # Safety
/// `call` is a valid call of the cast, `sealed` an expression of the encrypted type.
unsafe fn coercion(
    encrypted: &EncryptedType,
    sealed: *mut Node,
    call: *mut pg_sys::FuncExpr,
) -> *mut Node {
    // SAFETY: the caller's; the cast has three arguments
    unsafe {
        let arguments = pg_sys::lappend(std::ptr::null_mut(), sealed.cast());
        let arguments = pg_sys::lappend(arguments, pg_sys::list_nth((*call).args, 1));
        let arguments = pg_sys::lappend(arguments, pg_sys::list_nth((*call).args, 2));
        pg_sys::makeFuncExpr(
            encrypted.coerce,
            encrypted.oid,
            arguments,
            Oid::INVALID,
            Oid::INVALID,
            (*call).funcformat,
        )
        .cast()
    }
}

/// # Safety
/// `list` has at least two elements.
unsafe fn arguments(list: *mut pg_sys::List) -> (*mut Node, *mut Node) {
    // SAFETY: the caller's
    unsafe { (pg_sys::list_nth(list, 0).cast(), pg_sys::list_nth(list, 1).cast()) }
}

/// The two sides of a comparison with a probe put around the one that needs it; `None` if none
/// does.
///
/// # Safety
/// Both are valid expressions, at least one of an encrypted type.
pub unsafe fn probe_pair(
    family: &Family,
    left: *mut Node,
    right: *mut Node,
) -> Result<Option<(*mut Node, *mut Node)>> {
    // SAFETY: the caller's
    unsafe {
        let Some(encrypted) =
            encrypted_side(family, left).or_else(|| encrypted_side(family, right))
        else {
            return Ok(None);
        };
        match (field_handle(family, left), field_handle(family, right)) {
            (Some(a), Some(b)) if a == b => require_searchable(encrypted, a).map(|()| None),
            (Some(a), Some(b)) => Err(Error::FieldsDiffer(describe_handle(a), describe_handle(b))),
            (Some(handle), None) => Ok(probe(encrypted, right, handle)?.map(|right| (left, right))),
            (None, Some(handle)) => Ok(probe(encrypted, left, handle)?.map(|left| (left, right))),
            (None, None) => Ok(None),
        }
    }
}

/// The encrypted type of one side of a comparison, or of the elements of its array.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn encrypted_side(family: &Family, node: *mut Node) -> Option<&EncryptedType> {
    // SAFETY: the caller's
    let base = unsafe { pg_sys::getBaseType(pg_sys::exprType(node)) };
    family.encrypted(base).or_else(|| family.encrypted_array(base))
}

/// Fails where a field is known not to have tokens: comparing such values finds nothing.
fn require_searchable(encrypted: &EncryptedType, handle: i32) -> Result<()> {
    match fields::find(By::Handle(handle))? {
        Some(field) => field.require_searchable(encrypted.plaintext_type),
        None => Ok(()),
    }
}

/// The handle of the field of an expression of an encrypted type (or an array of it), where the
/// type modifier, or that of a domain, tells.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn field_handle(family: &Family, node: *mut Node) -> Option<i32> {
    // SAFETY: the caller's; a RelabelType has an argument
    unsafe {
        let mut node = node;
        loop {
            let mut typmod = pg_sys::exprTypmod(node);
            let base = pg_sys::getBaseTypeAndTypmod(pg_sys::exprType(node), &mut typmod);
            let encrypted =
                family.plaintext_type(base).is_some() || family.encrypted_array(base).is_some();
            if encrypted && typmod >= 0 {
                return Some(typmod);
            }
            if (*node).type_ != NodeTag::T_RelabelType {
                return None;
            }
            node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
        }
    }
}

/// `node` as a value (or an array of values) of a field, for comparison; `None` if it already is.
///
/// # Safety
/// `node` is a valid expression of the encrypted type, of its native type, or an array of either.
pub unsafe fn probe(
    encrypted: &EncryptedType,
    node: *mut Node,
    handle: i32,
) -> Result<Option<*mut Node>> {
    require_searchable(encrypted, handle)?;
    // SAFETY: the caller's
    unsafe {
        let probes = [
            encrypted.probe,
            encrypted.probe_native,
            encrypted.probe_array,
            encrypted.probe_native_array,
        ];
        if (*node).type_ == NodeTag::T_FuncExpr
            && probes.contains(&(*node.cast::<pg_sys::FuncExpr>()).funcid)
        {
            return Ok(None);
        }
        let sealed = seal_constant(encrypted, node)?;
        Ok(Some(probe_of(encrypted, sealed.unwrap_or(node), constant_int(handle))))
    }
}

/// A call of the probe that fits the type of `node`.
///
/// # Safety
/// As for [`probe`]; `handle` is a valid expression of type int4.
unsafe fn probe_of(encrypted: &EncryptedType, node: *mut Node, handle: *mut Node) -> *mut Node {
    // SAFETY: the caller's; the list holds two valid expressions
    unsafe {
        let mut typmod = -1;
        let kind = pg_sys::getBaseTypeAndTypmod(pg_sys::exprType(node), &mut typmod);
        let (function, result) = if kind == encrypted.oid {
            (encrypted.probe, encrypted.oid)
        } else if kind == encrypted.array {
            (encrypted.probe_array, encrypted.array)
        } else if kind == encrypted.native_array {
            (encrypted.probe_native_array, encrypted.array)
        } else {
            (encrypted.probe_native, encrypted.oid)
        };
        let arguments = pg_sys::lappend(std::ptr::null_mut(), node.cast());
        let arguments = pg_sys::lappend(arguments, handle.cast());
        pg_sys::makeFuncExpr(
            function,
            result,
            arguments,
            Oid::INVALID,
            Oid::INVALID,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        )
        .cast()
    }
}

/// A constant integer.
fn constant_int(value: i32) -> *mut Node {
    let value = Datum::from(value);
    // SAFETY: makes a constant of the type's length, passed by value
    unsafe { pg_sys::makeConst(pg_sys::INT4OID, -1, Oid::INVALID, 4, value, false, true).cast() }
}

/// A constant of the native type, or an array of such, as a constant sealed for transit.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn seal_constant(encrypted: &EncryptedType, node: *mut Node) -> Result<Option<*mut Node>> {
    // SAFETY: the caller's; a constant is a datum of its type
    unsafe {
        if (*node).type_ != NodeTag::T_Const {
            return Ok(None);
        }
        let constant = node.cast::<pg_sys::Const>();
        let (value, kind) = ((*constant).constvalue, (*constant).consttype);
        if (*constant).constisnull {
            return Ok(None);
        }
        if kind == encrypted.native_array {
            let sealed = map_array(value, encrypted.oid, |element| {
                seal(encrypted.plaintext_type, element).map(Some)
            })?;
            return Ok(Some(sealed_constant(encrypted.array, sealed)));
        }
        if kind == pg_sys::JSONOID && encrypted.plaintext_type == PlaintextType::Json {
            let text = encoding::to_utf8(varlena_bytes(value))?;
            let canonical = native::from_text(encrypted.plaintext_type, &text)?;
            let sealed = value::seal_in_transit(canonical.plaintext()?, FieldId::NONE)?;
            return Ok(Some(sealed_constant(encrypted.oid, sealed)));
        }
        if kind != encrypted.native {
            return Ok(None);
        }
        // refused where it is used, or an envelope of a restore
        if kind == pg_sys::TEXTOID && is_reserved_text(varlena_bytes(value)) {
            return Ok(None);
        }
        Ok(Some(sealed_constant(encrypted.oid, seal(encrypted.plaintext_type, value)?)))
    }
}

/// # Safety
/// `datum` is of PostgreSQL's type of such values, and not NULL.
unsafe fn seal(plaintext_type: PlaintextType, datum: Datum) -> Result<Datum> {
    // SAFETY: the caller's
    let canonical = unsafe { native::from_datum(plaintext_type, datum)? };
    value::seal_in_transit(canonical.plaintext()?, FieldId::NONE)
}

/// A constant of an encrypted type, or of an array of it.
pub fn sealed_constant(kind: Oid, sealed: Datum) -> *mut Node {
    // SAFETY: makes a constant of a varlena type
    unsafe { pg_sys::makeConst(kind, -1, Oid::INVALID, -1, sealed, false, false).cast() }
}

/// `left operator right`.
///
/// # Safety
/// Both are valid expressions of an encrypted type.
pub unsafe fn comparison(operator: Operator, left: *mut Node, right: *mut Node) -> *mut Node {
    // SAFETY: the caller's
    unsafe {
        let clause = pg_sys::make_opclause(
            operator.oid,
            pg_sys::BOOLOID,
            false,
            left.cast(),
            right.cast(),
            Oid::INVALID,
            Oid::INVALID,
        );
        (*clause.cast::<pg_sys::OpExpr>()).opfuncid = operator.function;
        clause.cast()
    }
}
