//! Text between the database's encoding and UTF-8: plaintext and tokens are made of UTF-8 only,
//! whatever the server encoding, so that a value moved to another database still opens and is
//! found.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum};

use crate::backend;
use crate::call::NewVarlena;
use crate::error::{Error, Result};

const UTF8: u32 = pg_sys::pg_enc::PG_UTF8;
const SQL_ASCII: u32 = pg_sys::pg_enc::PG_SQL_ASCII;

/// Whether the database's encoding is UTF-8.
pub fn is_utf8() -> bool {
    backend::encoding() == UTF8
}

/// `bytes`, a text in the database's encoding, as UTF-8.
#[inline]
pub fn to_utf8(bytes: &[u8]) -> Result<Cow<'_, str>> {
    if is_utf8() && bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8, and quicker seen to be
        return Ok(Cow::Borrowed(unsafe { std::str::from_utf8_unchecked(bytes) }));
    }
    any_to_utf8(bytes)
}

fn any_to_utf8(bytes: &[u8]) -> Result<Cow<'_, str>> {
    match backend::encoding() {
        // PostgreSQL verified the text when it came in
        UTF8 => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Error::Encoding),
        SQL_ASCII => Err(Error::Encoding),
        _ => convert(bytes, pg_sys::pg_server_to_any).map(Cow::Owned),
    }
}

/// A text datum in the database's encoding.
pub fn from_utf8(text: &str) -> Datum {
    if is_utf8() {
        return NewVarlena::of(text.as_bytes());
    }
    let converted = convert_to_server(text);
    NewVarlena::of(&converted)
}

/// The bytes of `text` in the database's encoding.
pub fn convert_to_server(text: &str) -> Vec<u8> {
    if is_utf8() {
        return text.as_bytes().to_vec();
    }
    // SAFETY: pg_any_to_server reads that many bytes and returns its argument, when nothing is to
    // be converted, or a NUL-terminated copy
    unsafe {
        let source = text.as_ptr().cast::<std::ffi::c_char>().cast_mut();
        let converted = pg_sys::pg_any_to_server(source, text.len() as i32, UTF8 as i32);
        if converted == source {
            text.as_bytes().to_vec()
        } else {
            CStr::from_ptr(converted).to_bytes().to_vec()
        }
    }
}

type Conversion = unsafe fn(*const std::ffi::c_char, i32, i32) -> *mut std::ffi::c_char;

fn convert(bytes: &[u8], conversion: Conversion) -> Result<String> {
    // SAFETY: the conversion reads that many bytes and returns its argument, when nothing is to
    // be converted, or a NUL-terminated copy
    let converted = unsafe {
        let source = bytes.as_ptr().cast::<std::ffi::c_char>();
        let converted = conversion(source, bytes.len() as i32, UTF8 as i32);
        if std::ptr::eq(converted, source) {
            bytes.to_vec()
        } else {
            CStr::from_ptr(converted).to_bytes().to_vec()
        }
    };
    String::from_utf8(converted).map_err(|_| Error::Encoding)
}

/// A text that a client sent in binary form, as UTF-8. PostgreSQL's own check would show the
/// offending bytes in its message.
pub fn from_client(bytes: &[u8]) -> Result<Cow<'_, str>> {
    if bytes.contains(&0) {
        return Err(Error::InvalidText);
    }
    // SAFETY: returns a variable
    let client = unsafe { pg_sys::pg_get_client_encoding() };
    if u32::try_from(client) == Ok(UTF8) {
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Error::InvalidText);
    }
    // SAFETY: reads that many bytes and returns its argument, when nothing is to be converted, or
    // a NUL-terminated copy in the database's encoding
    let server = unsafe {
        let source = bytes.as_ptr().cast::<std::ffi::c_char>();
        let converted = pg_sys::pg_client_to_server(source, bytes.len() as i32);
        if std::ptr::eq(converted, source) {
            bytes.to_vec()
        } else {
            CStr::from_ptr(converted).to_bytes().to_vec()
        }
    };
    Ok(Cow::Owned(to_utf8(&server)?.into_owned()))
}
