//! The CHECK behind the row trigger: whatever other triggers did, a flagged value is an envelope of
//! the row's account. It needs no key.

use std::cell::RefCell;
use std::rc::Rc;

use fieldcrypt_core::envelope::{
    self, FIXED_HEADER_LENGTH, Flags, Header, TEXT_PREFIX, is_reserved_text,
};
use fieldcrypt_core::key::KeyId;
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Step, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::at::Located;
use super::policy::{self, Policy};
use crate::backend;
use crate::call::{Answer, Call};
use crate::error::{Error, Result};
use crate::value;

/// `check_document(document text, value jsonb, account text, kind text, gathered boolean)`: true,
/// or an error that shows nothing of the row.
#[pg_extern(sql = false)]
fn check_document(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    check_arguments(&Call::new(fcinfo))?;
    Ok(true.into())
}

fn check_arguments(call: &Call) -> Result<()> {
    if call.is_null(1) {
        return Ok(());
    }
    let document = call.required_text(0, "the document")?;
    let container = Container::new(call.bytes(1))?;
    let account = call.optional_text(2)?;
    let kind = call.optional_text(3)?;
    let gathered = !call.is_null(4) && call.boolean(4);
    check(&document, container, account.as_deref(), kind.as_deref(), gathered)
}

/// `state_of_document(document text, value jsonb, account text, kind text, gathered boolean)`: what
/// the CHECK would say of it, for `doctor()`: `sealed`, `plain` if a flagged value is not, `foreign`
/// if one is of another account, otherwise `damaged`.
#[pg_extern(sql = false)]
fn state_of_document(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let call = Call::new(fcinfo);
    let error = check_arguments(&call).err().map(Error::innermost);
    Answer::text(match error {
        None => "sealed",
        Some(Error::NotSealed) => "plain",
        Some(Error::AccountMismatch) => "foreign",
        Some(_) => "damaged",
    })
}

/// `needs_sealing(document text, value jsonb, account text, kind text) → boolean`: whether the CHECK
/// would not let it pass.
#[pg_extern(sql = false)]
fn needs_sealing(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    if call.is_null(1) {
        return Ok(false.into());
    }
    let document = call.required_text(0, "the document")?;
    let container = Container::new(call.bytes(1)).map_err(Error::from)?;
    let (account, kind) = (call.optional_text(2)?, call.optional_text(3)?);
    Ok((!passes(&document, container, account.as_deref(), kind.as_deref(), false)?).into())
}

/// Whether the CHECK lets a document pass.
pub fn passes(
    document: &str,
    container: Container<'_>,
    account: Option<&str>,
    kind: Option<&str>,
    gathered: bool,
) -> Result<bool> {
    let policy = policy::of(document, account.unwrap_or("*"), kind)?;
    let mut check = Check { policy: &policy, account, gathered, locates: false, key: None };
    Ok(rewrite(container, policy.flags.start(), &mut check).is_ok())
}

fn check(
    document: &str,
    container: Container<'_>,
    account: Option<&str>,
    kind: Option<&str>,
    gathered: bool,
) -> Result<()> {
    let policy = policy::of(document, account.unwrap_or("*"), kind)?;
    if policy.flags.is_empty() || is_approved(&policy, container) {
        return Ok(());
    }
    let mut check = Check { policy: &policy, account, gathered, locates: true, key: None };
    let start = policy.flags.start();
    rewrite(container, start, &mut check).map_err(|error| error.of(document))?;
    Ok(())
}

/// The document that the row trigger has let pass last.
struct Approved {
    policy: Rc<Policy>,
    /// When the client's statement began in which it did.
    statement: i64,
    /// Whether it is sealed, and needs no check in later statements either.
    is_sealed: bool,
    document: Vec<u8>,
}

thread_local! {
    static APPROVED: RefCell<Option<Approved>> = const { RefCell::new(None) };
}

/// Longest document that is remembered, in bytes.
const LONGEST_APPROVED: usize = 1 << 16;

/// Remembers a document that needs no further check, as long as nothing changes it.
pub fn approve(policy: &Rc<Policy>, document: &[u8]) {
    if document.len() <= LONGEST_APPROVED {
        remember(policy, document, true);
    }
}

/// Lets a stored document be written, in this statement, that may hold plain values as before.
pub fn approve_as_stored(policy: &Rc<Policy>, document: &[u8]) {
    remember(policy, document, false);
}

fn remember(policy: &Rc<Policy>, document: &[u8], is_sealed: bool) {
    let statement = backend::statement_start();
    APPROVED.with_borrow_mut(|approved| match approved {
        Some(approved) => {
            if !Rc::ptr_eq(&approved.policy, policy) {
                approved.policy = Rc::clone(policy);
            }
            approved.statement = statement;
            approved.is_sealed = is_sealed;
            approved.document.clear();
            approved.document.extend_from_slice(document);
        }
        None => {
            let (policy, document) = (Rc::clone(policy), document.to_vec());
            *approved = Some(Approved { policy, statement, is_sealed, document });
        }
    });
}

/// Whether the row trigger has let it pass: under this policy, or in this statement, while which
/// another session has changed the policy. Such a row is like one of a moment before.
fn is_approved(policy: &Rc<Policy>, document: Container<'_>) -> bool {
    APPROVED.with_borrow(|approved| {
        let Some(approved) = approved else { return false };
        let is_of_now = approved.is_sealed && Rc::ptr_eq(&approved.policy, policy)
            || approved.statement == backend::statement_start()
                && approved.policy.has_subject_of(policy);
        is_of_now && approved.document == document.as_bytes()
    })
}

struct Check<'a> {
    policy: &'a Policy,
    account: Option<&'a str>,
    /// Whether flagged values belong into another column.
    gathered: bool,
    /// Whether an error is to say where it arose.
    locates: bool,
    /// The key that was looked at last.
    key: Option<KeyId>,
}

impl Transform for Check<'_> {
    type State = State;
    type Error = Located;

    fn key(&mut self, state: &State, key: &[u8]) -> std::result::Result<Option<State>, Located> {
        Ok(self.policy.flags.key(*state, key))
    }

    fn element(
        &mut self,
        state: &State,
        _index: usize,
    ) -> std::result::Result<Option<State>, Located> {
        Ok(self.policy.flags.element(*state))
    }

    fn value(
        &mut self,
        state: State,
        value: Value<'_>,
    ) -> std::result::Result<Change<State>, Located> {
        let Some(index) = self.policy.flags.rule(state, value.is_array()) else {
            return Ok(Change::Enter(state));
        };
        let flag = &self.policy.flags.rules()[index];
        match value {
            Value::String(text) if is_reserved_text(text) => {
                self.sealed(text)?;
                Ok(Change::Keep)
            }
            _ if flag.retired => Ok(Change::Enter(state)),
            Value::Null if !flag.seals_null => Ok(Change::Keep),
            _ => Err(Error::NotSealed.into()),
        }
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        if self.locates { error.within(step) } else { error }
    }
}

/// Of the text form of an envelope: with less there is no header. In bytes.
const SHORTEST: usize = TEXT_PREFIX.len() + FIXED_HEADER_LENGTH.div_ceil(3) * 4;

/// The header of an envelope in text form, and its length in bytes with the tokens, which are not
/// looked at: the rest is what the row trigger has let pass.
pub fn header(text: &[u8]) -> Result<(Header, usize)> {
    let head = envelope::from_text(text.get(..SHORTEST).unwrap_or(text))?;
    Ok(Header::read(&head)?)
}

impl Check<'_> {
    fn sealed(&mut self, text: &[u8]) -> Result<()> {
        if self.gathered || text.len() < SHORTEST {
            return Err(Error::NotSealed);
        }
        let (header, _) = header(text)?;
        if header.flags.contains(Flags::TRANSIT) {
            return Err(Error::NotSealed);
        }
        // the values of a document mostly are under one key
        if self.key.replace(header.key_id) == Some(header.key_id) {
            return Ok(());
        }
        // no account is called by the empty text
        value::require_account(header.key_id, self.account.unwrap_or_default())
    }
}
