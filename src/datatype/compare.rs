//! Comparison: equality tokens, and for values without one the bytes.
//!
//! Raw comparison asks no key and no right: whoever can read the values can see which are equal.
//! It raises where the answer would be wrong: for values in transit, of different fields, or of
//! different index keys of one account. Indexes are no statements: after a rotation they hold
//! entries of older rows, beside those of newer ones. That a field without tokens cannot be searched is said by
//! `support`, `probe` and the planner hook: replication and record comparison need byte identity.

use std::cmp::Ordering;

use fieldcrypt_core::envelope::{FIXED_HEADER_LENGTH, Flags, Header};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::token::{self, IndexToken};
use pgrx::pg_extern;
use pgrx::pg_sys::{self, Datum};

use crate::backend;
use crate::call::{Answer, Call, varlena_bytes, varlena_prefix};
use crate::catalog::field::describe;
use crate::catalog::key::StoredKey;
use crate::error::{Error, OrRaise, Result};

/// How much of a value stored out of line is fetched to find its token: a header with two
/// sections and room to spare, in bytes.
const PREFIX: i32 = 512;

/// What of a value takes part in comparisons.
enum Comparable<'a> {
    Token(IndexToken),
    Bytes(&'a [u8]),
}

/// # Safety
/// `datum` is a value of an encrypted type that lives as long as `'a`.
unsafe fn comparable<'a>(datum: Datum) -> Result<(FieldId, Comparable<'a>)> {
    // SAFETY: encrypted types are varlenas
    let mut bytes: &[u8] = unsafe { varlena_prefix(datum, PREFIX) };
    let (header, length) = Header::read(bytes)?;
    if header.flags.contains(Flags::TRANSIT) {
        return Err(Error::FieldUnset);
    }
    if bytes.len() < length || length == FIXED_HEADER_LENGTH {
        // SAFETY: as above
        bytes = unsafe { varlena_bytes(datum) };
    }
    let sections = bytes.get(FIXED_HEADER_LENGTH..length).unwrap_or_default();
    let comparable =
        token::equality_token(sections).map_or(Comparable::Bytes(bytes), Comparable::Token);
    Ok((header.field_id, comparable))
}

/// The two arguments, of one field.
fn pair<'a>(call: &'a Call) -> Result<(Comparable<'a>, Comparable<'a>)> {
    // SAFETY: the declaration says that both arguments are of an encrypted type
    let ((left_field, left), (right_field, right)) =
        unsafe { (comparable(call.datum(0))?, comparable(call.datum(1))?) };
    if left_field == right_field {
        Ok((left, right))
    } else {
        Err(Error::FieldsDiffer(describe(left_field), describe(right_field)))
    }
}

/// Values of another account are simply not equal; of another key of the same account, nobody can
/// say.
fn check_index_keys(left: &IndexToken, right: &IndexToken) -> Result<()> {
    if left.key_id == right.key_id || left.key_id.account_tag() != right.key_id.account_tag() {
        return Ok(());
    }
    // the same 31 bits: most likely the same account, and the catalog knows
    let account = |id| Ok::<_, Error>(StoredKey::find(id)?.map(|key| key.account));
    match (account(left.key_id)?, account(right.key_id)?) {
        (Some(left), Some(right)) if left == right => Err(Error::IndexKeysDiffer),
        _ => Ok(()),
    }
}

fn equal(call: &Call) -> Result<bool> {
    Ok(match pair(call)? {
        (Comparable::Token(left), Comparable::Token(right)) => {
            // an index, which calls without an expression, may still know rows that are gone
            if !call.expression().is_null() {
                check_index_keys(&left, &right)?;
            }
            left == right
        }
        (Comparable::Bytes(left), Comparable::Bytes(right)) => left == right,
        _ => false,
    })
}

fn order(call: &Call) -> Result<Ordering> {
    Ok(match pair(call)? {
        (Comparable::Token(left), Comparable::Token(right)) => left.cmp(&right),
        (Comparable::Bytes(left), Comparable::Bytes(right)) => left.cmp(right),
        (Comparable::Token(_), Comparable::Bytes(_)) => Ordering::Less,
        (Comparable::Bytes(_), Comparable::Token(_)) => Ordering::Greater,
    })
}

#[pg_extern(sql = false)]
fn encrypted_eq(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    equal(&Call::new(fcinfo)).or_raise().into()
}

#[pg_extern(sql = false)]
fn encrypted_ne(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    (!equal(&Call::new(fcinfo)).or_raise()).into()
}

#[pg_extern(sql = false)]
fn encrypted_lt(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    order(&Call::new(fcinfo)).or_raise().is_lt().into()
}

#[pg_extern(sql = false)]
fn encrypted_le(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    order(&Call::new(fcinfo)).or_raise().is_le().into()
}

#[pg_extern(sql = false)]
fn encrypted_ge(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    order(&Call::new(fcinfo)).or_raise().is_ge().into()
}

#[pg_extern(sql = false)]
fn encrypted_gt(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    order(&Call::new(fcinfo)).or_raise().is_gt().into()
}

#[pg_extern(sql = false)]
fn encrypted_cmp(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    (order(&Call::new(fcinfo)).or_raise() as i32).into()
}

/// What of a value is hashed. It never changes: hash indexes and hash partitions hold it.
fn hashed<T>(call: &Call, hash: impl FnOnce(&[u8]) -> T) -> Result<T> {
    // SAFETY: the declaration says that the argument is of an encrypted type
    let (field, comparable) = unsafe { comparable(call.datum(0))? };
    Ok(match comparable {
        Comparable::Token(IndexToken { key_id, token }) => {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&field.0.to_be_bytes());
            bytes[8..16].copy_from_slice(&key_id.number().to_be_bytes());
            bytes[16..].copy_from_slice(&token);
            hash(&bytes)
        }
        Comparable::Bytes(bytes) => hash(bytes),
    })
}

#[pg_extern(sql = false)]
fn encrypted_hash(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let hash = hashed(&Call::new(fcinfo), backend::hash).or_raise();
    hash.cast_signed().into()
}

#[pg_extern(sql = false)]
fn encrypted_hash_extended(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let call = Call::new(fcinfo);
    let seed = call.bigint(1).cast_unsigned();
    let hash = hashed(&call, |bytes| backend::hash_extended(bytes, seed)).or_raise();
    hash.cast_signed().into()
}

/// `T = native`, `native = T` and their negations, where the planner did not learn of a field: the
/// support function replaces them everywhere else.
#[pg_extern(sql = false)]
fn encrypted_compare_native(_fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    Err(Error::FieldUnset).or_raise()
}
