//! Sealing a value into an envelope and opening it again (`docs/envelope.md` section 8).

use std::fmt;

use zeroize::Zeroize;

use crate::envelope::{
    Envelope, FIXED_HEADER_LENGTH, Flags, Header, MAXIMUM_LENGTH, PlaintextType,
};
use crate::error::{OpenError, SealError};
use crate::field::FieldId;
use crate::framing::{Label, frame, length_prefix};
use crate::key::{KeyId, Purpose, SecretKey, field_cipher};
use crate::padding::{Padding, pad, unpadded_length};
use crate::suite::{Cipher, Suite};
use crate::token::check_sections;

/// Associated data up to this many bytes needs no allocation: a header with a token section.
const ASSOCIATED_DATA_ON_STACK: usize = 128;

/// How a value is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// What the plaintext is.
    pub plaintext_type: PlaintextType,
    /// To which length it is padded.
    pub padding: Padding,
    /// Whether the value itself is not kept, only its tokens. The plaintext is then empty and not
    /// padded.
    pub token_only: bool,
}

impl From<Padding> for Form {
    /// Text.
    fn from(padding: Padding) -> Self {
        Self { plaintext_type: PlaintextType::Text, padding, token_only: false }
    }
}

/// A field's key of one account, set up for one suite. Wiped when dropped.
///
/// In this order, what tells whether it is the right one shares a cache line with its owner's.
#[repr(C)]
pub struct FieldKey {
    key_id: KeyId,
    field_id: FieldId,
    purpose: Purpose,
    cipher: Cipher,
}

impl fmt::Debug for FieldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FieldKey")
            .field("key_id", &self.key_id)
            .field("field_id", &self.field_id)
            .finish_non_exhaustive()
    }
}

impl FieldKey {
    /// Derives the key of `field` from `key`, an account's data key or the database's transit key.
    pub fn derive(
        key: &SecretKey,
        key_id: KeyId,
        purpose: Purpose,
        account: &str,
        suite: Suite,
        field_id: FieldId,
    ) -> Self {
        Self {
            cipher: field_cipher(key, purpose, suite, field_id, account),
            key_id,
            field_id,
            purpose,
        }
    }

    /// The suite it is set up for.
    pub const fn suite(&self) -> Suite {
        self.cipher.suite()
    }

    /// The id of the key that it was derived from.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The field it belongs to.
    pub const fn field_id(&self) -> FieldId {
        self.field_id
    }

    /// The length of the envelope of a value of `plaintext` bytes with `tokens` bytes of token
    /// sections, in bytes.
    ///
    /// # Errors
    /// [`SealError::TooLong`] over 512 MiB.
    pub fn sealed_length(
        &self,
        plaintext: usize,
        padding: Padding,
        tokens: usize,
    ) -> Result<usize, SealError> {
        if plaintext > MAXIMUM_LENGTH {
            return Err(SealError::TooLong);
        }
        let suite = self.suite();
        let length = FIXED_HEADER_LENGTH
            + tokens
            + suite.nonce_length()
            + suite.ciphertext_length(padding.padded_length(plaintext))
            + suite.tag_length();
        if length > MAXIMUM_LENGTH { Err(SealError::TooLong) } else { Ok(length) }
    }

    /// Seals `plaintext` into `out`, which has the length that [`FieldKey::sealed_length`] says.
    /// `nonce` fills a buffer with fresh random bytes. On an error `out` holds nothing of the
    /// plaintext.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        plaintext: &[u8],
        form: impl Into<Form>,
        tokens: &[u8],
        nonce: impl FnOnce(&mut [u8]) -> Result<(), SealError>,
        out: &mut [u8],
    ) -> Result<(), SealError> {
        let Form { plaintext_type, padding, token_only } = form.into();
        if out.len() != self.sealed_length(plaintext.len(), padding, tokens.len())? {
            return Err(SealError::TooLong);
        }
        // what no reader would take must not be written
        let transit = self.purpose == Purpose::Transit;
        let opens = match self.purpose {
            Purpose::Data => !self.field_id.is_none(),
            Purpose::Transit => tokens.is_empty() && !token_only,
            _ => false,
        } && !(token_only && (!plaintext.is_empty() || padding != Padding::None));
        if !opens || check_sections(tokens).is_err() {
            return Err(SealError::Malformed);
        }
        let suite = self.suite();
        let mut flags = Flags::default();
        if padding != Padding::None {
            flags = flags.with(Flags::PADDED);
        }
        if transit {
            flags = flags.with(Flags::TRANSIT);
        }
        if token_only {
            flags = flags.with(Flags::TOKEN_ONLY);
        }
        let header =
            Header { suite, plaintext_type, flags, key_id: self.key_id, field_id: self.field_id };
        let header_length = header.write(tokens, out).ok_or(SealError::TooLong)?;
        let (header, rest) = out.split_at_mut(header_length);
        let (nonce_bytes, rest) = rest.split_at_mut(suite.nonce_length());
        let (body, tag) = rest.split_at_mut(rest.len() - suite.tag_length());
        nonce(nonce_bytes)?;
        body[..plaintext.len()].copy_from_slice(plaintext);
        let padded = padding.padded_length(plaintext.len());
        if padding != Padding::None {
            pad(&mut body[..padded], plaintext.len());
        }
        let sealed = with_associated_data(header, |associated| {
            self.cipher.encrypt(nonce_bytes, associated, body, padded, tag)
        });
        sealed.ok_or_else(|| {
            body.zeroize();
            SealError::TooLong
        })
    }

    /// Opens `envelope` into `out`, which has the length of its ciphertext. Returns the length of
    /// the plaintext at the start of `out`, in bytes. On an error `out` is wiped.
    ///
    /// # Errors
    /// [`OpenError`], whatever is wrong.
    pub fn open(&self, envelope: &Envelope<'_>, out: &mut [u8]) -> Result<usize, OpenError> {
        let opened = self.open_into(envelope, out);
        if opened.is_err() {
            out.zeroize();
        }
        opened
    }

    fn open_into(&self, envelope: &Envelope<'_>, out: &mut [u8]) -> Result<usize, OpenError> {
        let header = envelope.header();
        let ciphertext = envelope.ciphertext();
        let purpose = if envelope.in_transit() { Purpose::Transit } else { Purpose::Data };
        if header.key_id != self.key_id
            || header.field_id != self.field_id
            || header.suite != self.suite()
            || purpose != self.purpose
            || out.len() != ciphertext.len()
        {
            return Err(OpenError);
        }
        out.copy_from_slice(ciphertext);
        let length = with_associated_data(envelope.header_bytes(), |associated| {
            self.cipher.decrypt(envelope.nonce(), associated, out, envelope.tag())
        })?;
        if header.flags.contains(Flags::PADDED) {
            unpadded_length(&out[..length])
        } else if envelope.is_token_only() && length > 0 {
            Err(OpenError)
        } else {
            Ok(length)
        }
    }
}

/// Hands the associated data of a header to `work`: from the stack, if it fits there.
fn with_associated_data<T>(header: &[u8], work: impl FnOnce(&[u8]) -> T) -> T {
    let label = Label::AssociatedData.as_bytes();
    let start = 4 + label.len() + 4;
    let mut buffer = [0; ASSOCIATED_DATA_ON_STACK];
    match buffer.get_mut(..start + header.len()) {
        Some(data) => {
            data[..4].copy_from_slice(&length_prefix(label));
            data[4..start - 4].copy_from_slice(label);
            data[start - 4..start].copy_from_slice(&length_prefix(header));
            data[start..].copy_from_slice(header);
            work(data)
        }
        None => work(&frame(Label::AssociatedData, &[header])),
    }
}
