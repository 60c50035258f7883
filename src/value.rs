//! What can be done with a value: seal it, make its token, open it, show it.
//!
//! Invariant: the right is checked where the key is used. A value in transit (sealed by the type's
//! input function, which does not know the column) is opened only to become a value of a field.

use std::cell::RefCell;

use fieldcrypt_core::envelope::{self, Envelope, PlaintextType};
use fieldcrypt_core::error::{OpenError, SealError};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::key::KeyId;
use fieldcrypt_core::mask::HIDDEN;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::random::NoncePool;
use fieldcrypt_core::seal::Form;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::Kind;
use pgrx::pg_sys::Datum;
use zeroize::Zeroizing;

use crate::access::Privilege;
use crate::audit::statement::{self, Action, Outcome};
use crate::backend;
use crate::call::{Call, NewVarlena, varlena_bytes};
use crate::catalog::field::{By, Field, Hidden, describe, describe_handle};
use crate::catalog::fields;
use crate::datatype::input::{accepts_envelopes, is_replicated};
use crate::datatype::native;
use crate::document::made;
use crate::encoding;
use crate::error::{Error, Result};
use crate::guc;
use crate::keyring::locked::Locked;
use crate::keyring::sealer::{Sealer, Sections};
use crate::keyring::{OpenKey, cache, usage};

/// Longest text that is kept while it is in transit, in bytes.
const LONGEST_KEPT: usize = 256;

thread_local! {
    static NONCES: RefCell<NoncePool> = RefCell::default();
    /// The last value sealed for transit with its text, until it is opened: most are opened next,
    /// and need not be decrypted for that.
    static IN_TRANSIT: RefCell<Option<(Vec<u8>, Opened)>> = const { RefCell::new(None) };
}

fn nonce(buffer: &mut [u8]) -> std::result::Result<(), SealError> {
    let fill = |bytes: &mut [u8]| {
        if backend::strong_random(bytes) { Ok(()) } else { Err(SealError::Random) }
    };
    NONCES.with_borrow_mut(|pool| pool.take(backend::process(), fill, buffer))
}

/// Seals a value of a field of an account, for whoever may encrypt.
pub fn seal(plaintext: Plaintext<'_>, field: By<'_>, account: &str) -> Result<Datum> {
    let sealer = Sealer::to_encrypt(field, account)?;
    let mut sections = Sections::default();
    write_sections(&sealer, plaintext, &mut sections)?;
    let value = NewValue::new(&sealer, plaintext, sections.as_bytes())?;
    let mut varlena = NewVarlena::with_capacity(value.length);
    value.seal(varlena.bytes_mut())?;
    // it may be a mask that is written back: the row's trigger will ask
    let reads = sealer.privileges().contains(Privilege::Decrypt) && !sealer.field().token_only;
    if !reads {
        made::remember_assigned(varlena.bytes_mut());
    }
    Ok(varlena.finish(value.length))
}

/// The token sections of a value. JSON null, objects and arrays have none, and objects and arrays
/// are refused where values have to be unique.
pub fn sections(sealer: &Sealer, plaintext: Plaintext<'_>) -> Result<Sections> {
    let mut sections = Sections::default();
    write_sections(sealer, plaintext, &mut sections)?;
    Ok(sections)
}

/// The same, written to empty ones.
pub fn write_sections(
    sealer: &Sealer,
    plaintext: Plaintext<'_>,
    sections: &mut Sections,
) -> Result<()> {
    let field = sealer.field();
    if field.equality.is_none() {
        return Ok(());
    }
    let plaintext_type = plaintext.plaintext_type();
    field.require_comparable(plaintext_type)?;
    if plaintext_type == PlaintextType::Json {
        let json = plaintext.bytes();
        if json == b"null" {
            return Ok(());
        }
        if json.starts_with(b"{") || json.starts_with(b"[") {
            let unique = field.equality == Some(Kind::Unique);
            return if unique { Err(Error::NotUnique(field.name.clone())) } else { Ok(()) };
        }
    }
    let normalizer = field.normalizer_of(plaintext_type);
    plaintext.with_text(|text| sealer.write_sections(text, normalizer, sections))
}

/// A value that is to be sealed, with its token sections.
pub struct NewValue<'a> {
    key: &'a OpenKey,
    field: &'a Field,
    plaintext: &'a [u8],
    form: Form,
    sections: &'a [u8],
    /// Of the envelope, in bytes.
    pub length: usize,
}

impl<'a> NewValue<'a> {
    /// A value of the sealer's field and account. Of a field that keeps tokens only, the plaintext
    /// is left out.
    #[inline(always)]
    pub fn new(sealer: &'a Sealer, plaintext: Plaintext<'a>, sections: &'a [u8]) -> Result<Self> {
        let (key, field) = (&*sealer.key, sealer.field());
        let plaintext_type = plaintext.plaintext_type();
        let mut form = Form { plaintext_type, padding: field.padding, token_only: false };
        let mut kept = plaintext.bytes();
        if field.token_only {
            if sections.is_empty() {
                return Err(Error::NotUnique(field.name.clone()));
            }
            (form.token_only, form.padding, kept) = (true, Padding::None, &[]);
        }
        let length = key.key.sealed_length(kept.len(), form.padding, sections.len())?;
        Ok(Self { key, field, plaintext: kept, form, sections, length })
    }

    /// The plaintext of an envelope of the key's field and account, with these token sections. The
    /// caller has checked the right to encrypt.
    pub fn again(
        key: &'a OpenKey,
        field: &'a Field,
        envelope: &Envelope<'_>,
        plaintext: &'a [u8],
        sections: &'a [u8],
    ) -> Result<Self> {
        let token_only = envelope.is_token_only();
        let padding = if token_only { Padding::None } else { field.padding };
        let plaintext_type = envelope.header().plaintext_type;
        let form = Form { plaintext_type, padding, token_only };
        let length = key.key.sealed_length(plaintext.len(), padding, sections.len())?;
        Ok(Self { key, field, plaintext, form, sections, length })
    }

    /// Writes the envelope to `out`, which has its length.
    pub fn seal(&self, out: &mut [u8]) -> Result<()> {
        let (key, field) = (self.key, self.field);
        if key.exhausted {
            return Err(Error::KeyExhausted(key.key.key_id()));
        }
        let mut sampled = false;
        let nonce = |buffer: &mut [u8]| {
            nonce(buffer)?;
            sampled = buffer.first_chunk().is_some_and(|first| usage::is_sampled(*first));
            Ok(())
        };
        key.key.seal(self.plaintext, self.form, self.sections, nonce, out)?;
        // the values under a key whose nonces could repeat are counted
        if sampled && field.suite == Suite::Aes256Gcm {
            usage::record(key.key.key_id(), field.id)?;
        }
        Ok(())
    }
}

/// Seals a value for transit: for a field whose account is still open, or for no field yet.
pub fn seal_in_transit(plaintext: Plaintext<'_>, field_id: FieldId) -> Result<Datum> {
    let key = cache::transit(field_id)?;
    let (plaintext_type, bytes) = (plaintext.plaintext_type(), plaintext.bytes());
    let length = key.key.sealed_length(bytes.len(), Padding::None, 0)?;
    let mut varlena = NewVarlena::with_capacity(length);
    let form = Form { plaintext_type, padding: Padding::None, token_only: false };
    key.key.seal(bytes, form, &[], nonce, varlena.bytes_mut())?;
    let sealed = varlena.finish(length);
    if field_id.is_none() && bytes.len() <= LONGEST_KEPT {
        // SAFETY: a varlena that was just made
        let envelope = unsafe { varlena_bytes(sealed) }.to_vec();
        let kept =
            Opened { plaintext_type, length: bytes.len(), bytes: Zeroizing::new(bytes.to_vec()) };
        IN_TRANSIT.set(Some((envelope, kept)));
    }
    Ok(sealed)
}

/// The session's account; `*row*` is none. `work` must not change the setting.
pub fn session_account<T>(work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    guc::with_account(|account| match account {
        Some(account) if account != guc::ACCOUNT_OF_ROW => work(account),
        _ => Err(Error::AccountUnset),
    })
}

/// A plain value in memory of our own, wiped when dropped.
pub struct Opened {
    plaintext_type: PlaintextType,
    bytes: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Opened {
    /// The value.
    pub fn plaintext(&self) -> Result<Plaintext<'_>> {
        let bytes = &self.bytes[..self.length];
        Ok(Plaintext::new(self.plaintext_type, bytes).ok_or(OpenError)?)
    }

    /// A text, or JSON text.
    pub fn as_str(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.bytes[..self.length]).map_err(|_| OpenError)?)
    }
}

/// Opens a value in transit. No right is asked: its text came from this database's own users as
/// input, and goes nowhere but into a field, or into a token.
pub fn open_in_transit(envelope: &Envelope<'_>) -> Result<Opened> {
    if !envelope.in_transit() {
        return Err(Error::Open(OpenError));
    }
    let kept = IN_TRANSIT.with_borrow_mut(|kept| kept.take_if(|(sealed, _)| envelope.is(sealed)));
    if let Some((_, opened)) = kept {
        return Ok(opened);
    }
    let header = envelope.header();
    open(&*cache::in_transit(header.key_id, header.field_id)?, envelope)
}

/// The plain value. The caller has checked the right to it.
pub fn open(key: &OpenKey, envelope: &Envelope<'_>) -> Result<Opened> {
    require_kept(key, envelope)?;
    let mut bytes = Zeroizing::new(vec![0; envelope.ciphertext().len()]);
    let length = key.key.open(envelope, &mut bytes)?;
    Ok(Opened { plaintext_type: envelope.header().plaintext_type, bytes, length })
}

/// The plain value of type `plaintext_type`, for whoever may decrypt; otherwise an error.
pub fn decrypt(bytes: &[u8], plaintext_type: PlaintextType) -> Result<Datum> {
    let envelope = stored_as(bytes, plaintext_type)?;
    let key = key_of(&envelope)?;
    key.require(Privilege::Decrypt)?;
    statement::read(&key, Action::Decrypt, Outcome::Plain)?;
    open_datum(&key, &envelope)
}

/// Whether a stored value is that one, of that account. It is opened for this, and goes nowhere.
pub fn holds(bytes: &[u8], plaintext: Plaintext<'_>, account: &str) -> Result<bool> {
    let envelope = Envelope::parse(bytes)?;
    let header = envelope.header();
    if header.plaintext_type != plaintext.plaintext_type() {
        return Ok(false);
    }
    require_account(header.key_id, account)?;
    if envelope.is_token_only() {
        let sealer = Sealer::to_encrypt(By::Id(header.field_id), account)?;
        let sections = sections(&sealer, plaintext)?;
        let sections = sections.as_bytes();
        return Ok(!sections.is_empty() && sections == envelope.token_sections());
    }
    let opened = open(&*key_of(&envelope)?, &envelope)?;
    Ok(opened.plaintext()? == plaintext)
}

/// Fails unless a key is of that account.
pub fn require_account(key_id: KeyId, account: &str) -> Result<()> {
    match cache::account_of(key_id)? {
        Some(owner) if *owner == *account => Ok(()),
        Some(_) => Err(Error::AccountMismatch),
        // a restore may bring the values before the keys
        None if accepts_envelopes() => Ok(()),
        None => Err(Error::KeyMissing(key_id)),
    }
}

/// Fails where tokens of a value are under an older index key, such as those of one that was read
/// before a rotation: in a column it would not be found. Replication brings what its publisher has.
pub fn require_newest_tokens(envelope: &Envelope<'_>) -> Result<()> {
    for token in envelope.tokens() {
        match cache::is_superseded(token.key_id) {
            Ok(true) if !is_replicated() => return Err(Error::IndexKeyOlder),
            // a restore may bring the values before the keys
            Ok(_) | Err(Error::KeyMissing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The account of an argument, or the session's.
pub fn with_account<T>(
    call: &Call,
    index: usize,
    work: impl FnOnce(&str) -> Result<T>,
) -> Result<T> {
    match call.optional_text(index)? {
        Some(account) => work(&account),
        None => session_account(work),
    }
}

/// What the current user may see of a value.
pub enum Shown {
    Plain(Opened),
    /// Of a text or JSON a text in UTF-8, of another type the bytes of such a value.
    Masked(Vec<u8>),
    Null,
    Hidden,
    Ciphertext,
}

/// Who is shown a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The user: the audit is told.
    User,
    /// Nobody: it stays in the server.
    Nobody,
}

/// What the current user may see of a stored value.
pub fn show(envelope: &Envelope<'_>, reader: Reader) -> Result<Shown> {
    match key_to_show(envelope, reader)? {
        Ok((key, Outcome::Plain)) => Ok(Shown::Plain(open(&key, envelope)?)),
        Ok((key, outcome)) => show_in_part(&key, outcome, envelope),
        Err(shown) => Ok(shown),
    }
}

type KeyToShow = std::result::Result<(Locked<OpenKey>, Outcome), Shown>;

/// The key of a value and what the current user may see of it; otherwise what stands in its place.
fn key_to_show(envelope: &Envelope<'_>, reader: Reader) -> Result<KeyToShow> {
    let key = match key_of(envelope) {
        Ok(key) => key,
        // of a closed account nothing is shown, and that is no error
        Err(error) if error.is_of_closed() => {
            let header = envelope.header();
            let field = fields::find(By::Id(header.field_id))?;
            if reader == Reader::User {
                let account = cache::account_of(header.key_id)?.unwrap_or_default();
                let name = field.as_ref().map_or("", |field| field.name.as_str());
                statement::hidden(name, &account)?;
            }
            return Ok(Err(hidden(field.as_deref())));
        }
        Err(error) => return Err(error),
    };
    let privileges = key.privileges()?;
    let has_mask = key.field.as_ref().is_some_and(|field| field.mask.is_some());
    let outcome = if envelope.is_token_only() {
        Outcome::Hidden
    } else if privileges.contains(Privilege::Decrypt) {
        Outcome::Plain
    } else if has_mask && privileges.contains(Privilege::Mask) {
        Outcome::Masked
    } else {
        Outcome::Hidden
    };
    if reader == Reader::User {
        statement::read(&key, Action::Reveal, outcome)?;
    }
    Ok(Ok((key, outcome)))
}

/// What a user without the right to the plain value may see.
fn show_in_part(key: &OpenKey, outcome: Outcome, envelope: &Envelope<'_>) -> Result<Shown> {
    let field = key.field.as_deref();
    match field.and_then(|field| field.mask.as_ref()) {
        Some(mask) if outcome == Outcome::Masked => {
            let masked = open(key, envelope)?.plaintext()?.masked(mask);
            Ok(masked.map_or(Shown::Null, Shown::Masked))
        }
        _ => Ok(hidden(field)),
    }
}

fn hidden(field: Option<&Field>) -> Shown {
    match field.map_or(Hidden::Mask, |field| field.hidden) {
        Hidden::Mask => Shown::Hidden,
        Hidden::Ciphertext => Shown::Ciphertext,
    }
}

/// What the current user may see of a value of type `plaintext_type`: plain, masked, or hidden.
/// `None` is SQL NULL, which also stands for a hidden value that is no text.
pub fn reveal(bytes: &[u8], plaintext_type: PlaintextType) -> Result<Option<Datum>> {
    let envelope = stored_as(bytes, plaintext_type)?;
    let shown = match key_to_show(&envelope, Reader::User)? {
        Ok((key, Outcome::Plain)) => return open_datum(&key, &envelope).map(Some),
        Ok((key, outcome)) => show_in_part(&key, outcome, &envelope)?,
        Err(shown) => shown,
    };
    let is_text = plaintext_type == PlaintextType::Text;
    Ok(match shown {
        Shown::Plain(opened) => Some(native::datum(opened.plaintext()?)?),
        Shown::Masked(masked) => {
            Some(native::datum(Plaintext::new(plaintext_type, &masked).ok_or(OpenError)?)?)
        }
        Shown::Hidden if is_text => Some(encoding::from_utf8(HIDDEN)),
        Shown::Ciphertext if is_text => Some(encoding::from_utf8(&envelope::to_text(bytes))),
        Shown::Null | Shown::Hidden | Shown::Ciphertext => None,
    })
}

/// A value of the encrypted type of such plain values, not one in transit.
fn stored_as(bytes: &[u8], plaintext_type: PlaintextType) -> Result<Envelope<'_>> {
    let envelope = stored(bytes)?;
    require_type(&envelope, plaintext_type)?;
    Ok(envelope)
}

/// Fails unless an envelope is of the encrypted type of such plain values. A stored text is also
/// JSON: in documents strings are sealed as texts.
pub fn require_type(envelope: &Envelope<'_>, plaintext_type: PlaintextType) -> Result<()> {
    match (envelope.header().plaintext_type, plaintext_type) {
        (PlaintextType::Text, PlaintextType::Json) if !envelope.in_transit() => Ok(()),
        (found, expected) if found == expected => Ok(()),
        (found, expected) => Err(Error::TypeMismatch(found, expected)),
    }
}

/// A value that is stored data, not one in transit.
pub fn stored(bytes: &[u8]) -> Result<Envelope<'_>> {
    let envelope = Envelope::parse(bytes)?;
    if envelope.in_transit() { Err(Error::Transit) } else { Ok(envelope) }
}

pub fn key_of(envelope: &Envelope<'_>) -> Result<Locked<OpenKey>> {
    let header = envelope.header();
    cache::to_open(header.key_id, header.field_id, header.suite)
}

/// Fails where the value itself is not kept.
fn require_kept(key: &OpenKey, envelope: &Envelope<'_>) -> Result<()> {
    if !envelope.is_token_only() {
        return Ok(());
    }
    Err(Error::TokenOnly(key.field.as_ref().map_or_else(String::new, |field| field.name.clone())))
}

/// The plain value as a datum. Texts and bytes are opened where they will be.
fn open_datum(key: &OpenKey, envelope: &Envelope<'_>) -> Result<Datum> {
    let plaintext_type = envelope.header().plaintext_type;
    let in_place = match plaintext_type {
        PlaintextType::Text => encoding::is_utf8(),
        PlaintextType::Bytea => true,
        _ => false,
    };
    if !in_place {
        return native::datum(open(key, envelope)?.plaintext()?);
    }
    require_kept(key, envelope)?;
    let mut varlena = NewVarlena::with_capacity(envelope.ciphertext().len());
    let length = key.key.open(envelope, varlena.bytes_mut())?;
    Plaintext::new(plaintext_type, &varlena.bytes_mut()[..length]).ok_or(OpenError)?;
    Ok(varlena.finish(length))
}

/// Makes of a value one of the field with that handle, as an assignment to a column does: a value
/// in transit is sealed under the session's account, one of this field stays as it is, and one of
/// another field is refused.
pub fn assign(bytes: &[u8], handle: i32) -> Result<Option<Datum>> {
    let envelope = Envelope::parse(bytes)?;
    let field_id = envelope.header().field_id;
    if field_id.is_none() {
        let opened = open_in_transit(&envelope)?;
        return assign_plaintext(opened.plaintext()?, handle).map(Some);
    }
    if field_id.handle() == handle {
        require_newest_tokens(&envelope)?;
        return Ok(None);
    }
    Err(Error::FieldMismatch(describe(field_id), describe_handle(handle)))
}

/// Seals a value for a column: under the session's account, or left to the row's trigger.
pub fn assign_plaintext(plaintext: Plaintext<'_>, handle: i32) -> Result<Datum> {
    let field = By::Handle(handle);
    guc::with_account(|account| match account {
        Some(guc::ACCOUNT_OF_ROW) => seal_in_transit(plaintext, fields::require(field)?.id),
        Some(account) => seal(plaintext, field, account),
        None => Err(Error::AccountUnset),
    })
}
