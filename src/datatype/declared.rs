//! Which encrypted type a function is for, as its declaration in `sql/` says: one implementation
//! serves them all.

use std::cell::Cell;

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_sys::{self, Oid};

use crate::call::Call;
use crate::catalog::family::Family;
use crate::catalog::invalidation;
use crate::error::{Error, Result};

/// Functions that are remembered: the OIDs of an extension's functions follow each other.
const REMEMBERED: usize = 512;

/// A function and its type, while the catalog is as it was.
type Known = Option<(u64, Oid, PlaintextType)>;

thread_local! {
    static KNOWN: [Cell<Known>; REMEMBERED] = const { [const { Cell::new(None) }; REMEMBERED] };
}

/// Which encrypted type a called function returns, or takes as its first argument: the type
/// itself, or an array of it.
pub fn plaintext_type(call: &Call) -> Result<PlaintextType> {
    let (generation, function) = (invalidation::generation(), call.function());
    let slot = function.to_u32() as usize % REMEMBERED;
    match KNOWN.with(|known| known[slot].get()) {
        Some((seen, last, plaintext_type)) if seen == generation && last == function => {
            Ok(plaintext_type)
        }
        _ => {
            let plaintext_type = of_function(function)?;
            KNOWN.with(|known| known[slot].set(Some((generation, function, plaintext_type))));
            Ok(plaintext_type)
        }
    }
}

fn of_function(function: Oid) -> Result<PlaintextType> {
    let family = Family::get()?;
    let (mut arguments, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the function is being called, so it exists; the arguments are `count` OIDs
    let (result, first) = unsafe {
        let result = pg_sys::get_func_signature(function, &mut arguments, &mut count);
        (result, (count > 0).then(|| *arguments))
    };
    let of_type = |oid| {
        let element = family.encrypted_array(oid).map(|encrypted| encrypted.plaintext_type);
        family.plaintext_type(oid).or(element)
    };
    of_type(result).or_else(|| first.and_then(of_type)).ok_or(Error::Catalog("encrypted type"))
}
