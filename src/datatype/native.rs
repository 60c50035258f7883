//! Between datums of PostgreSQL's own types and the canonical bytes that are sealed.
//!
//! PostgreSQL's input functions read what users write, so that dates and numbers are understood as
//! everywhere else. Their messages show what they could not read; ours do not.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_document::jsonb::Container;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{PgSqlErrorCode as Code, PgTryBuilder};
use zeroize::Zeroizing;

use crate::call::{NewVarlena, varlena_bytes};
use crate::catalog::family::native;
use crate::document::json;
use crate::encoding;
use crate::error::{Error, Result, is_data_exception};

/// The canonical bytes of a value.
pub enum Canonical<'a> {
    /// A text where it lies.
    Text(&'a str),
    /// Bytes of its own, wiped when dropped.
    Bytes(PlaintextType, Zeroizing<Vec<u8>>),
}

impl Canonical<'_> {
    /// Bytes that are those of a value of that type.
    pub fn of(plaintext_type: PlaintextType, bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(plaintext_type, Zeroizing::new(bytes.into()))
    }

    /// As a value to be sealed.
    pub fn plaintext(&self) -> Result<Plaintext<'_>> {
        match self {
            Self::Text(text) => Ok(Plaintext::text(text)),
            Self::Bytes(kind, bytes) => Plaintext::new(*kind, bytes)
                .ok_or_else(|| invalid(*kind, Code::ERRCODE_INVALID_TEXT_REPRESENTATION)),
        }
    }
}

fn invalid(plaintext_type: PlaintextType, code: Code) -> Error {
    Error::InvalidInput(plaintext_type, code)
}

/// Input and output, in text and binary, of PostgreSQL's type of such values.
struct Functions {
    input: u32,
    receive: u32,
}

/// Those of the types that are read by PostgreSQL: text needs no reading.
fn functions(plaintext_type: PlaintextType) -> Functions {
    let (input, receive) = match plaintext_type {
        PlaintextType::Text => (pg_sys::F_TEXTIN, pg_sys::F_TEXTRECV),
        PlaintextType::Bytea => (pg_sys::F_BYTEAIN, pg_sys::F_BYTEARECV),
        PlaintextType::Json => (pg_sys::F_JSONB_IN, pg_sys::F_JSONB_RECV),
        PlaintextType::Bigint => (pg_sys::F_INT8IN, pg_sys::F_INT8RECV),
        PlaintextType::Numeric => (pg_sys::F_NUMERIC_IN, pg_sys::F_NUMERIC_RECV),
        PlaintextType::Date => (pg_sys::F_DATE_IN, pg_sys::F_DATE_RECV),
        PlaintextType::Timestamptz => (pg_sys::F_TIMESTAMPTZ_IN, pg_sys::F_TIMESTAMPTZ_RECV),
        PlaintextType::Boolean => (pg_sys::F_BOOLIN, pg_sys::F_BOOLRECV),
        PlaintextType::Uuid => (pg_sys::F_UUID_IN, pg_sys::F_UUID_RECV),
    };
    Functions { input, receive }
}

/// Reads a text that is given as input.
pub fn from_text(plaintext_type: PlaintextType, text: &str) -> Result<Canonical<'static>> {
    match plaintext_type {
        PlaintextType::Text => Ok(Canonical::of(plaintext_type, text)),
        PlaintextType::Json => Ok(Canonical::of(plaintext_type, json::canonical(text)?)),
        _ => {
            let text =
                CString::new(encoding::convert_to_server(text)).map_err(|_| Error::InvalidText)?;
            let datum = input(plaintext_type, &text)?;
            // SAFETY: the input function made a datum of that type
            unsafe { from_datum(plaintext_type, datum) }
        }
    }
}

/// Reads the rest of a message in the type's binary form.
///
/// # Safety
/// `message` is a valid message with the cursor inside it.
pub unsafe fn from_message(
    plaintext_type: PlaintextType,
    message: *mut pg_sys::StringInfoData,
) -> Result<Canonical<'static>> {
    let function = Oid::from(functions(plaintext_type).receive);
    let datum = read(plaintext_type, || {
        // SAFETY: a receive function of that type takes the message
        unsafe { pg_sys::OidReceiveFunctionCall(function, message, Oid::INVALID, -1) }
    })?;
    // SAFETY: the receive function made a datum of that type
    unsafe { from_datum(plaintext_type, datum) }
}

/// What the type's input function makes of a text.
pub fn input(plaintext_type: PlaintextType, text: &CStr) -> Result<Datum> {
    let function = Oid::from(functions(plaintext_type).input);
    read(plaintext_type, || {
        // SAFETY: an input function of that type takes a NUL-terminated text
        unsafe {
            pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), Oid::INVALID, -1)
        }
    })
}

/// Calls a function of PostgreSQL that reads a value, with our error in place of its own about the
/// value.
fn read(
    plaintext_type: PlaintextType,
    call: impl FnOnce() -> Datum + std::panic::UnwindSafe + std::panic::RefUnwindSafe,
) -> Result<Datum> {
    PgTryBuilder::new(|| Ok(call()))
        .catch_others(|error| match &error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                if is_about_data(report.sql_error_code()) =>
            {
                Err(invalid(plaintext_type, report.sql_error_code()))
            }
            _ => error.rethrow(),
        })
        .execute()
}

/// Whether an error is about the value, or about the form of a message.
fn is_about_data(code: Code) -> bool {
    is_data_exception(code as i32) || code == Code::ERRCODE_PROTOCOL_VIOLATION
}

/// The canonical bytes of a datum.
///
/// # Safety
/// `datum` is a datum of PostgreSQL's type of such values that is not NULL, and lives as long as
/// `'a`.
pub unsafe fn from_datum<'a>(plaintext_type: PlaintextType, datum: Datum) -> Result<Canonical<'a>> {
    let canonical = |bytes: &[u8]| Ok(Canonical::of(plaintext_type, bytes));
    // SAFETY: the caller's; what is passed by reference is read as long as its type says
    unsafe {
        match plaintext_type {
            PlaintextType::Text => Ok(match encoding::to_utf8(varlena_bytes(datum))? {
                Cow::Borrowed(text) => Canonical::Text(text),
                Cow::Owned(text) => Canonical::of(plaintext_type, text),
            }),
            PlaintextType::Bytea => canonical(varlena_bytes(datum)),
            PlaintextType::Json => {
                let text = json::document_text(Container::new(varlena_bytes(datum))?)?;
                Ok(Canonical::of(plaintext_type, text))
            }
            PlaintextType::Bigint | PlaintextType::Timestamptz => {
                canonical(&(datum.value() as i64).to_be_bytes())
            }
            PlaintextType::Numeric => {
                let text = json::output(pg_sys::F_NUMERIC_OUT, datum)?;
                Ok(Canonical::of(plaintext_type, text))
            }
            PlaintextType::Date => canonical(&(datum.value() as i32).to_be_bytes()),
            PlaintextType::Boolean => canonical(&[(datum.value() & 1) as u8]),
            PlaintextType::Uuid => canonical(&*datum.cast_mut_ptr::<[u8; 16]>()),
        }
    }
}

/// The canonical bytes of a column's value, whose type need not be that of an encrypted type's plain
/// values, but is one that PostgreSQL casts to it.
///
/// # Safety
/// `datum` is a datum of type `column_type` that is not NULL, and lives as long as `'a`.
pub unsafe fn from_column<'a>(column_type: Oid, datum: Datum) -> Result<Canonical<'a>> {
    let of_type = |kind: &PlaintextType| native(*kind) == column_type;
    // SAFETY: the caller's; short integers are passed by value, and char is a varlena
    unsafe {
        match column_type {
            pg_sys::INT2OID => {
                from_datum(PlaintextType::Bigint, Datum::from(i64::from(datum.value() as i16)))
            }
            pg_sys::INT4OID => {
                from_datum(PlaintextType::Bigint, Datum::from(i64::from(datum.value() as i32)))
            }
            pg_sys::VARCHAROID => from_datum(PlaintextType::Text, datum),
            // the padding of char(n) is no part of the value
            pg_sys::BPCHAROID => {
                let text = encoding::to_utf8(varlena_bytes(datum).trim_ascii_end())?;
                from_text(PlaintextType::Text, &text)
            }
            _ => {
                let plaintext_type = PlaintextType::ALL.into_iter().find(of_type);
                from_datum(plaintext_type.ok_or(Error::Catalog("type of a column"))?, datum)
            }
        }
    }
}

/// A datum of PostgreSQL's type of such values.
pub fn datum(plaintext: Plaintext<'_>) -> Result<Datum> {
    let bytes = plaintext.bytes();
    Ok(match plaintext.plaintext_type() {
        PlaintextType::Text => encoding::from_utf8(&plaintext.as_text()),
        PlaintextType::Bytea => NewVarlena::of(bytes),
        PlaintextType::Json => json::parse(&plaintext.as_text())?,
        PlaintextType::Bigint | PlaintextType::Timestamptz => {
            Datum::from(i64::from_be_bytes(*bytes.first_chunk().ok_or(OpenError)?))
        }
        PlaintextType::Numeric => {
            let text = CString::new(bytes).map_err(|_| OpenError)?;
            input(PlaintextType::Numeric, &text)?
        }
        PlaintextType::Date => {
            Datum::from(i32::from_be_bytes(*bytes.first_chunk().ok_or(OpenError)?))
        }
        PlaintextType::Boolean => Datum::from(bytes == [1]),
        PlaintextType::Uuid => {
            let memory = crate::backend::allocate(bytes.len()).cast::<u8>();
            // SAFETY: that much was allocated
            unsafe { memory.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            Datum::from(memory)
        }
    })
}
