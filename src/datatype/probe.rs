//! The probe: the other side of `=` as the planner rewrites it. It makes of a plain value, sealed
//! for transit, the token that a column's field and the session's account give it.
//!
//! A probe's result is a header with a token and nothing behind it: comparable, but no value that
//! could be stored or opened.

use std::cell::RefCell;

use fieldcrypt_core::envelope::{
    Envelope, FIXED_HEADER_LENGTH, Flags, Header, PlaintextType, is_reserved_text,
};
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::{self, EQUALITY_SECTION_LENGTH, Kind, Scope};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};

use super::{declared, native};
use crate::backend::{self, Sight};
use crate::call::{Answer, Call, NewVarlena, map_array, varlena_bytes};
use crate::catalog::family::Family;
use crate::catalog::field::{By, describe, describe_handle};
use crate::catalog::{fields, invalidation};
use crate::error::{Error, Result};
use crate::guc;
use crate::keyring::sealer::Tokenizer;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

const LENGTH: usize = FIXED_HEADER_LENGTH + EQUALITY_SECTION_LENGTH;

/// A value of the field with that handle, for comparison.
fn of_value(bytes: &[u8], handle: i32) -> Result<Datum> {
    // a value, or a probe
    let (header, _) = Header::read(bytes)?;
    if header.field_id.handle() != handle && !header.field_id.is_none() {
        return Err(Error::FieldsDiffer(describe_handle(handle), describe(header.field_id)));
    }
    if !header.flags.contains(Flags::TRANSIT) {
        fields::require(By::Handle(handle))?.require_searchable(header.plaintext_type)?;
        return Ok(NewVarlena::of(bytes));
    }
    if let Some(probe) = IN_TRANSIT.with_borrow(|last| last.probe(bytes, handle)) {
        return Ok(probe);
    }
    let generation = invalidation::current();
    let opened = value::open_in_transit(&Envelope::parse(bytes)?)?;
    let probe = of_plaintext(opened.plaintext()?, handle)?;
    IN_TRANSIT.with_borrow_mut(|last| last.keep(generation, bytes, handle, probe));
    Ok(probe)
}

fn of_plaintext(plaintext: Plaintext<'_>, handle: i32) -> Result<Datum> {
    let plaintext_type = plaintext.plaintext_type();
    if plaintext_type == PlaintextType::Text && is_reserved_text(plaintext.bytes()) {
        return Err(Error::EnvelopeRefused);
    }
    value::session_account(|account| {
        let tokenizer = Tokenizer::to_search(By::Handle(handle), account)?;
        let field = tokenizer.field();
        field.require_searchable(plaintext_type)?;
        let normalizer = field.normalizer_of(plaintext_type);
        let token = plaintext.with_text(|text| tokenizer.token_by(normalizer, text))?;
        let section = token::equality_section(&token, Kind::Exact, normalizer, Scope::Account);
        let header = Header {
            suite: Suite::Xaes256Gcm,
            plaintext_type,
            flags: Flags::default(),
            key_id: token.key_id,
            field_id: field.id,
        };
        let mut probe = NewVarlena::with_capacity(LENGTH);
        header.write(&section, probe.bytes_mut()).ok_or(Error::Catalog("probe"))?;
        Ok(probe.finish(LENGTH))
    })
}

/// # Safety
/// `datum` is of PostgreSQL's type of such values, and not NULL.
unsafe fn of_native(plaintext_type: PlaintextType, datum: Datum, handle: i32) -> Result<Datum> {
    // SAFETY: the caller's
    let canonical = unsafe { native::from_datum(plaintext_type, datum)? };
    of_plaintext(canonical.plaintext()?, handle)
}

/// The probe that was made last, and of what.
#[derive(Default)]
struct Last {
    input: Vec<u8>,
    handle: i32,
    account: String,
    user: Oid,
    generation: u64,
    /// Which index key the tokens are under depends on what the statement sees.
    sight: Sight,
    output: Vec<u8>,
}

thread_local! {
    /// Of a value in transit. A hash index needs its probe twice: to search, and to check what it
    /// found.
    static IN_TRANSIT: RefCell<Last> = RefCell::default();
}

impl Last {
    /// The probe of `input`, if it was made last and nothing has changed.
    fn probe(&self, input: &[u8], handle: i32) -> Option<Datum> {
        let same = !self.output.is_empty()
            && self.input == input
            && self.handle == handle
            && self.user == backend::user()
            && self.generation == invalidation::current()
            && self.sight == backend::sight()
            && guc::with_account(|account| account.unwrap_or_default() == self.account);
        same.then(|| NewVarlena::of(&self.output))
    }

    /// Keeps a probe, or an array of probes, made in a generation of the catalog.
    fn keep(&mut self, generation: u64, input: &[u8], handle: i32, made: Datum) {
        self.input.clear();
        self.input.extend_from_slice(input);
        self.handle = handle;
        self.account.clear();
        guc::with_account(|account| self.account.push_str(account.unwrap_or_default()));
        self.user = backend::user();
        self.generation = generation;
        self.sight = backend::sight();
        self.output.clear();
        // SAFETY: a varlena that was just made
        self.output.extend_from_slice(unsafe { varlena_bytes(made) });
    }
}

/// Makes the probe of an argument, or takes the last one at this place in the plan if nothing has
/// changed: a filter calls it for every row. An index scan calls it once, so nothing is kept before
/// the second call.
fn cached(
    call: &Call,
    input: &[u8],
    handle: i32,
    make: impl FnOnce() -> Result<Datum>,
) -> Result<Datum> {
    let Some(last) = call.state_from_second_call::<Last>() else { return make() };
    if let Some(probe) = last.probe(input, handle) {
        return Ok(probe);
    }
    let generation = invalidation::current();
    let made = make()?;
    last.keep(generation, input, handle, made);
    Ok(made)
}

#[pg_extern(sql = false)]
fn probe(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let (bytes, handle) = (call.bytes(0), call.int(1));
    Ok(Answer::datum(cached(&call, bytes, handle, || of_value(bytes, handle))?))
}

#[pg_extern(sql = false)]
fn probe_native(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let handle = call.int(1);
    // SAFETY: the declaration says that the argument is of the type's native type
    let canonical = unsafe { native::from_datum(declared::plaintext_type(&call)?, call.datum(0))? };
    let plaintext = canonical.plaintext()?;
    let probe = cached(&call, plaintext.bytes(), handle, || of_plaintext(plaintext, handle))?;
    Ok(Answer::datum(probe))
}

#[pg_extern(sql = false)]
fn probe_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let (handle, kind) = (call.int(1), Family::get()?.oid_of(declared::plaintext_type(&call)?));
    // SAFETY: the declaration says an array of an encrypted type, which is a varlena
    let make = || unsafe {
        map_array(call.datum(0), kind, |element| of_value(varlena_bytes(element), handle).map(Some))
    };
    Ok(Answer::datum(cached(&call, call.bytes(0), handle, make)?))
}

#[pg_extern(sql = false)]
fn probe_native_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let (handle, plaintext_type) = (call.int(1), declared::plaintext_type(&call)?);
    let kind = Family::get()?.oid_of(plaintext_type);
    // SAFETY: the declaration says an array of the native type
    let make = || unsafe {
        map_array(call.datum(0), kind, |element| {
            of_native(plaintext_type, element, handle).map(Some)
        })
    };
    Ok(Answer::datum(cached(&call, call.bytes(0), handle, make)?))
}
