//! The probe: the other side of `=` as the planner rewrites it. It makes of a plain value, sealed
//! for transit, the token that a column's field and the session's account give it.
//!
//! A probe's result is a header with a token and nothing behind it: comparable, but no value that
//! could be stored or opened.

use std::cell::RefCell;

use fieldcrypt_core::envelope::{
    Envelope, FIXED_HEADER_LENGTH, Flags, Header, PlaintextType, is_reserved_text,
};
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::{self, EQUALITY_SECTION_LENGTH, Kind, Scope};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::backend;
use crate::call::{Answer, Call, NewVarlena, array_elements, varlena_bytes};
use crate::catalog::field::{By, describe, describe_handle};
use crate::catalog::objects::Objects;
use crate::catalog::{fields, invalidation};
use crate::encoding;
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
        fields::require(By::Handle(handle))?.require_searchable()?;
        return Ok(NewVarlena::of(bytes));
    }
    if let Some(probe) = IN_TRANSIT.with_borrow(|last| last.probe(bytes, handle)) {
        return Ok(probe);
    }
    let generation = invalidation::current();
    let text = value::open_in_transit(&Envelope::parse(bytes)?)?;
    let probe = of_text(text.as_str()?, handle)?;
    IN_TRANSIT.with_borrow_mut(|last| last.keep(generation, bytes, handle, probe));
    Ok(probe)
}

fn of_text(text: &str, handle: i32) -> Result<Datum> {
    if is_reserved_text(text.as_bytes()) {
        return Err(Error::EnvelopeRefused);
    }
    value::session_account(|account| {
        let tokenizer = Tokenizer::to_search(By::Handle(handle), account)?;
        let field = tokenizer.field();
        let token = tokenizer.token(text)?;
        let section =
            token::equality_section(&token, Kind::Exact, field.normalizer, Scope::Account);
        let header = Header {
            suite: Suite::Xaes256Gcm,
            plaintext_type: PlaintextType::Text,
            flags: Flags::default(),
            key_id: token.key_id,
            field_id: field.id,
        };
        let mut probe = NewVarlena::with_capacity(LENGTH);
        header.write(&section, probe.bytes_mut()).ok_or(Error::Catalog("probe"))?;
        Ok(probe.finish(LENGTH))
    })
}

/// The probe that was made last, and of what.
#[derive(Default)]
struct Last {
    input: Vec<u8>,
    handle: i32,
    account: String,
    user: Oid,
    generation: u64,
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
fn probe_text(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let (bytes, handle) = (call.bytes(0), call.int(1));
    Ok(Answer::datum(cached(&call, bytes, handle, || of_text(&encoding::to_utf8(bytes)?, handle))?))
}

#[pg_extern(sql = false)]
fn probe_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let handle = call.int(1);
    let element = Objects::get()?.encrypted_text;
    Ok(Answer::datum(map_array(&call, handle, element, |bytes| of_value(bytes, handle))?))
}

#[pg_extern(sql = false)]
fn probe_text_array(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let handle = call.int(1);
    let probed = map_array(&call, handle, pg_sys::TEXTOID, |bytes| {
        of_text(&encoding::to_utf8(bytes)?, handle)
    })?;
    Ok(Answer::datum(probed))
}

/// The probes of an array's elements, NULLs kept. Cached as a whole.
fn map_array(
    call: &Call,
    handle: i32,
    element: Oid,
    make: impl Fn(&[u8]) -> Result<Datum>,
) -> Result<Datum> {
    // SAFETY: the declaration says an array of that element type
    cached(call, call.bytes(0), handle, || unsafe { transform_array(call.datum(0), element, make) })
}

/// An array of encrypted values made of another array's elements, NULLs kept.
///
/// # Safety
/// `datum` is an array of `element`, a varlena type.
pub unsafe fn transform_array(
    datum: Datum,
    element: Oid,
    make: impl Fn(&[u8]) -> Result<Datum>,
) -> Result<Datum> {
    let encrypted = Objects::get()?.encrypted_text;
    // SAFETY: both are varlena types of int alignment; the new array copies its elements
    unsafe {
        let mut values = Vec::new();
        let mut nulls = Vec::new();
        for element in array_elements(datum, element) {
            nulls.push(element.is_none());
            let made = element.map(|element| make(varlena_bytes(element))).transpose()?;
            values.push(made.unwrap_or(Datum::null()));
        }
        let (mut dimensions, mut bounds) = ([values.len() as i32], [1]);
        let made = pg_sys::construct_md_array(
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            dimensions.as_mut_ptr(),
            bounds.as_mut_ptr(),
            encrypted,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
        );
        Ok(Datum::from(made))
    }
}
