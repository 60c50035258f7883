//! The planner's support function of `=` and `<>`: where one side is known to be of a field, it
//! wraps the other in a probe of that field, so that literals, parameters and expressions find by
//! index.
//!
//! Invariant: no plain text stays in a plan. A constant text is sealed for transit before it is
//! put anywhere that EXPLAIN shows.

use std::ffi::CStr;

use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_core::field::FieldId;
use pgrx::pg_extern;
use pgrx::pg_sys::{self, Datum, Node, NodeTag, Oid};

use super::probe::transform_array;
use crate::call::{Answer, Call, varlena_bytes};
use crate::catalog::field::{By, describe_handle};
use crate::catalog::fields;
use crate::catalog::objects::{Objects, Operator};
use crate::encoding;
use crate::error::{Error, OrRaise, Result};
use crate::value;

/// `encrypted_support(internal) → internal`, for the functions of `=`, `<>` and for probes of text.
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
    let objects = Objects::get()?;
    // SAFETY: the caller's; each of these functions has two arguments or more
    unsafe {
        let function = (*call).funcid;
        let (left, right) = arguments((*call).args);
        if objects.casts.contains(&function) {
            return Ok(
                seal_constant(&objects, left)?.map(|sealed| coercion(&objects, sealed, call))
            );
        }
        if function == objects.search_tokens {
            let sealed = seal_constant(&objects, right)?;
            return Ok(sealed.map(|sealed| search_in_transit(&objects, sealed, call)));
        }
        if function == objects.probe_text || function == objects.probe_text_array {
            return seal_constant(&objects, left)
                .map(|sealed| sealed.map(|sealed| probe_of(&objects, sealed, right)));
        }
        for (negated, operators) in [
            (false, [objects.equal, objects.equal_text, objects.text_equal]),
            (true, [objects.not_equal, objects.not_equal_text, objects.text_not_equal]),
        ] {
            if operators.iter().any(|operator| operator.function == function) {
                let operator = if negated { objects.not_equal } else { objects.equal };
                return Ok(probe_pair(&objects, left, right)?
                    .map(|(left, right)| comparison(operator, left, right)));
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
    objects: &Objects,
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
            objects.search_tokens_in_transit,
            (*call).funcresulttype,
            arguments,
            Oid::INVALID,
            Oid::INVALID,
            (*call).funcformat,
        )
        .cast()
    }
}

/// The length coercion of a sealed constant, in place of the cast `call` of a text.
///
/// # Safety
/// `call` is a valid call of the cast, `sealed` an expression of the encrypted type.
unsafe fn coercion(objects: &Objects, sealed: *mut Node, call: *mut pg_sys::FuncExpr) -> *mut Node {
    // SAFETY: the caller's; the cast has three arguments
    unsafe {
        let arguments = pg_sys::lappend(std::ptr::null_mut(), sealed.cast());
        let arguments = pg_sys::lappend(arguments, pg_sys::list_nth((*call).args, 1));
        let arguments = pg_sys::lappend(arguments, pg_sys::list_nth((*call).args, 2));
        pg_sys::makeFuncExpr(
            objects.coerce,
            objects.encrypted_text,
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
    objects: &Objects,
    left: *mut Node,
    right: *mut Node,
) -> Result<Option<(*mut Node, *mut Node)>> {
    // SAFETY: the caller's
    unsafe {
        match (field_handle(objects, left), field_handle(objects, right)) {
            (Some(a), Some(b)) if a == b => require_searchable(a).map(|()| None),
            (Some(a), Some(b)) => Err(Error::FieldsDiffer(describe_handle(a), describe_handle(b))),
            (Some(handle), None) => Ok(probe(objects, right, handle)?.map(|right| (left, right))),
            (None, Some(handle)) => Ok(probe(objects, left, handle)?.map(|left| (left, right))),
            (None, None) => Ok(None),
        }
    }
}

/// Fails where a field is known not to have tokens: comparing such values finds nothing.
fn require_searchable(handle: i32) -> Result<()> {
    match fields::find(By::Handle(handle))? {
        Some(field) => field.require_searchable(),
        None => Ok(()),
    }
}

/// The handle of the field of an expression of an encrypted type (or an array of it), where the
/// type modifier, or that of a domain, tells.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn field_handle(objects: &Objects, node: *mut Node) -> Option<i32> {
    // SAFETY: the caller's; a RelabelType has an argument
    unsafe {
        let mut node = node;
        loop {
            let mut typmod = pg_sys::exprTypmod(node);
            let base = pg_sys::getBaseTypeAndTypmod(pg_sys::exprType(node), &mut typmod);
            let encrypted = base == objects.encrypted_text || base == objects.encrypted_text_array;
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
/// `node` is a valid expression of an encrypted type, of text, or an array of either.
pub unsafe fn probe(objects: &Objects, node: *mut Node, handle: i32) -> Result<Option<*mut Node>> {
    require_searchable(handle)?;
    // SAFETY: the caller's
    unsafe {
        let probes =
            [objects.probe, objects.probe_text, objects.probe_array, objects.probe_text_array];
        if (*node).type_ == NodeTag::T_FuncExpr
            && probes.contains(&(*node.cast::<pg_sys::FuncExpr>()).funcid)
        {
            return Ok(None);
        }
        let sealed = seal_constant(objects, node)?;
        Ok(Some(probe_of(objects, sealed.unwrap_or(node), constant_int(handle))))
    }
}

/// A call of the probe that fits the type of `node`.
///
/// # Safety
/// As for [`probe`]; `handle` is a valid expression of type int4.
unsafe fn probe_of(objects: &Objects, node: *mut Node, handle: *mut Node) -> *mut Node {
    // SAFETY: the caller's; the list holds two valid expressions
    unsafe {
        let mut typmod = -1;
        let kind = pg_sys::getBaseTypeAndTypmod(pg_sys::exprType(node), &mut typmod);
        let (function, result) = if kind == objects.encrypted_text {
            (objects.probe, objects.encrypted_text)
        } else if kind == objects.encrypted_text_array {
            (objects.probe_array, objects.encrypted_text_array)
        } else if kind == pg_sys::TEXTARRAYOID {
            (objects.probe_text_array, objects.encrypted_text_array)
        } else {
            (objects.probe_text, objects.encrypted_text)
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

/// A constant text, or array of texts, as a constant sealed for transit.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn seal_constant(objects: &Objects, node: *mut Node) -> Result<Option<*mut Node>> {
    let seal = |bytes: &[u8]| {
        value::seal_in_transit(&encoding::to_utf8(bytes)?, PlaintextType::Text, FieldId::NONE)
    };
    // SAFETY: the caller's; a constant of text is a varlena, one of text[] an array
    unsafe {
        if (*node).type_ != NodeTag::T_Const {
            return Ok(None);
        }
        let constant = node.cast::<pg_sys::Const>();
        let value = (*constant).constvalue;
        if (*constant).constisnull {
            return Ok(None);
        }
        let text = match (*constant).consttype {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => varlena_bytes(value),
            pg_sys::BPCHAROID => varlena_bytes(value).trim_ascii_end(),
            pg_sys::NAMEOID => CStr::from_ptr(value.cast_mut_ptr()).to_bytes(),
            pg_sys::TEXTARRAYOID => {
                let sealed = transform_array(value, pg_sys::TEXTOID, seal)?;
                return Ok(Some(sealed_constant(objects.encrypted_text_array, sealed)));
            }
            _ => return Ok(None),
        };
        // refused where it is used, or an envelope of a restore
        if is_reserved_text(text) {
            return Ok(None);
        }
        Ok(Some(sealed_constant(objects.encrypted_text, seal(text)?)))
    }
}

fn sealed_constant(kind: Oid, sealed: Datum) -> *mut Node {
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
