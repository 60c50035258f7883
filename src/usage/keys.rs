//! The keys that a stored value is under, as the headers of its envelopes say. No right is asked,
//! and nothing is shown of it but these.

use std::collections::BTreeMap;

use fieldcrypt_core::envelope::{
    Envelope, FIXED_HEADER_LENGTH, Flags, Header, PlaintextType, TEXT_PREFIX,
};
use fieldcrypt_core::key::KeyId;
use fieldcrypt_core::token;
use pgrx::pg_sys::Datum;

use crate::call::{varlena_bytes, varlena_prefix};
use crate::document::search::header_of_text;
use crate::error::{Error, Result};
use crate::value;

/// How much of a value stored out of line is fetched to find its header, in bytes.
const PREFIX: i32 = 512;

/// What was found in a column.
#[derive(Default)]
pub struct Found {
    /// How many values are under each key. One that has tokens is under its index key too.
    pub under: BTreeMap<KeyId, i64>,
    /// How many values under each key could not be opened, though there may be others in them.
    pub closed: BTreeMap<KeyId, i64>,
    /// How many values of an encrypted type are no envelopes.
    pub malformed: i64,
}

impl Found {
    /// Looks at a value of an encrypted type.
    ///
    /// # Safety
    /// `datum` is one.
    pub unsafe fn add_value(&mut self, datum: Datum) {
        // SAFETY: the caller's; encrypted types are varlenas
        let mut bytes = unsafe { varlena_prefix(datum, PREFIX) };
        let Ok((header, length)) = Header::read(bytes) else {
            self.malformed += 1;
            return;
        };
        // a document may hold values of its own (`blob_column`), which only opening it shows
        let is_document = header.plaintext_type == PlaintextType::Json
            && !header.flags.contains(Flags::TRANSIT)
            && !header.flags.contains(Flags::TOKEN_ONLY);
        if is_document || bytes.len() < length {
            // SAFETY: as above
            bytes = unsafe { varlena_bytes(datum) };
        }
        let Some(sections) = bytes.get(FIXED_HEADER_LENGTH..length) else {
            self.malformed += 1;
            return;
        };
        self.add_header(header.key_id, sections);
        if is_document && let Err(error) = self.add_content(bytes) {
            // what is in a value whose key is gone is gone too
            if !error.is_of_destroyed() {
                *self.closed.entry(header.key_id).or_default() += 1;
            }
        }
    }

    /// Looks for envelopes in text form, wherever they stand: in JSON, or in arrays and rows as they
    /// are printed. What only looks like one is counted too if it has a whole header.
    pub fn add_text(&mut self, text: &[u8]) {
        for start in memchr::memmem::find_iter(text, TEXT_PREFIX.as_bytes()) {
            let text = &text[start..];
            let prefix = TEXT_PREFIX.len();
            let is_digit = |&&b: &&u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            let length = prefix + text[prefix..].iter().take_while(is_digit).count();
            let Ok(bytes) = header_of_text(&text[..length]) else { continue };
            let Ok((header, _)) = Header::read(&bytes) else { continue };
            self.add_header(header.key_id, bytes.get(FIXED_HEADER_LENGTH..).unwrap_or_default());
        }
    }

    fn add_header(&mut self, key: KeyId, sections: &[u8]) {
        *self.under.entry(key).or_default() += 1;
        let mut last = key;
        for token in token::tokens(sections) {
            // the tokens of one index key stand together
            if token.key_id != last {
                last = token.key_id;
                *self.under.entry(last).or_default() += 1;
            }
        }
    }

    fn add_content(&mut self, bytes: &[u8]) -> Result<()> {
        let envelope = Envelope::parse(bytes).map_err(Error::from)?;
        let opened = value::open(&*value::key_of(&envelope)?, &envelope)?;
        self.add_text(opened.as_str()?.as_bytes());
        Ok(())
    }
}
