//! Stored documents whose flagged values are gathered in a blob column: as in [`super::existing`],
//! but of a row there are two columns, which a job writes together.
//!
//! Invariant: `decrypt(document, blob)` shows the same before and after, of whatever the trigger has
//! let pass.

use std::borrow::Cow;

use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use super::at::Located;
use super::blob::{self, Becomes, in_blob, require_account};
use super::everywhere::may_hold_envelopes;
use super::existing::{is_retired, retired};
use super::json::is_object;
use super::policy::Policy;
use super::seal::{self, Context, Gathered};
use super::{check, policy};
use crate::call::{Answer, Call, NewVarlena, Rows};
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

/// `seal_existing(document text, value jsonb, blob encrypted_jsonb, account text, kind text, handle
/// integer) → (value jsonb, blob encrypted_jsonb)`: the row with its flagged values sealed and
/// gathered, for whoever may encrypt them and the field with that handle, which is the blob's.
#[pg_extern(sql = false)]
fn gather_existing(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let rows = Rows::of(fcinfo);
    let row = Stored::read(&call)?;
    rows.push(row.sealed(handle(&call)?)?.answers(&call));
    Ok(Answer::NULL)
}

/// `needs_sealing(document text, value jsonb, blob encrypted_jsonb, account text, kind text) →
/// boolean`: whether the CHECK would not let the document pass, or the blob is of another account.
#[pg_extern(sql = false)]
fn needs_gathering(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(Stored::read(&Call::new(fcinfo))?.needs_sealing()?.into())
}

/// `open_retired(document text, value jsonb, blob encrypted_jsonb, account text, kind text, handle
/// integer) → (value jsonb, blob encrypted_jsonb)`: the row with the plain values of what is sealed
/// and no longer flagged in its document, for whoever may decrypt them, and encrypt the field with
/// that handle if the blob holds others.
#[pg_extern(sql = false)]
fn scatter_retired(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let rows = Rows::of(fcinfo);
    let row = Stored::read(&call)?;
    rows.push(row.opened(handle(&call)?)?.answers(&call));
    Ok(Answer::NULL)
}

/// `holds_retired(document text, value jsonb, blob encrypted_jsonb, account text, kind text) →
/// boolean`: whether there is something that `open_retired` would open.
#[pg_extern(sql = false)]
fn gathers_retired(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    Ok(Stored::read(&Call::new(fcinfo))?.holds_retired()?.into())
}

fn handle(call: &Call) -> Result<i32> {
    if call.is_null(5) { Err(Error::Null("the handle")) } else { Ok(call.int(5)) }
}

/// What these functions are given of a row.
struct Stored<'a> {
    document: Cow<'a, str>,
    value: Option<Container<'a>>,
    blob: Option<&'a [u8]>,
    account: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
}

/// What becomes of the two columns.
struct Columns {
    /// `None` if it stays as it is.
    value: Option<Zeroizing<Vec<u8>>>,
    blob: Becomes,
}

impl Columns {
    const SAME: Self = Self { value: None, blob: Becomes::Same };

    /// What stays is what the call was given.
    fn answers(self, call: &Call) -> [Answer; 2] {
        let given = |index| match call.is_null(index) {
            true => Answer::NULL,
            false => Answer::datum(call.datum(index)),
        };
        let value =
            self.value.map_or_else(|| given(1), |value| Answer::datum(NewVarlena::of(&value)));
        let blob = match self.blob {
            Becomes::Same => given(2),
            Becomes::Other(blob) => blob.map_or(Answer::NULL, Answer::datum),
        };
        [value, blob]
    }
}

impl<'a> Stored<'a> {
    fn read(call: &'a Call) -> Result<Self> {
        Ok(Self {
            document: call.required_text(0, "the document")?,
            value: (!call.is_null(1)).then(|| Container::new(call.bytes(1))).transpose()?,
            blob: (!call.is_null(2)).then(|| call.bytes(2)),
            account: call.optional_text(3)?,
            kind: call.optional_text(4)?,
        })
    }

    fn account(&self) -> Result<&str> {
        self.account.as_deref().ok_or(Error::RowWithoutAccount)
    }

    fn needs_sealing(&self) -> Result<bool> {
        let account = self.account.as_deref();
        // no account is called by the empty text
        if self.blob.is_some_and(|blob| require_account(blob, account.unwrap_or("")).is_err()) {
            return Ok(true);
        }
        let Some(value) = self.value else { return Ok(false) };
        Ok(!check::passes(&self.document, value, account, self.kind.as_deref(), true)?)
    }

    /// What the row trigger would make of it: of two values at a path the document's is the newer.
    fn sealed(&self, handle: i32) -> Result<Columns> {
        let account = self.account()?;
        if let Some(blob) = self.blob {
            require_account(blob, account).map_err(|error| in_blob(&self.document, error))?;
        }
        let Some(value) = self.value else { return Ok(Columns::SAME) };
        let policy = policy::of(&self.document, account, self.kind.as_deref())?;
        let context = Context {
            document: &self.document,
            policy: &policy,
            account,
            // envelopes that are there are gathered, too
            old: may_hold_envelopes(value).then_some(value),
            // but none of another, of which nobody would see anything in a blob
            same_account: false,
            arrived: &[],
            is_stored: true,
        };
        let mut gathered = Vec::new();
        let Some(rest) = seal::gather(&context, value, &mut gathered)? else {
            return Ok(Columns::SAME);
        };
        let blob = blob::gather(&self.document, self.blob, gathered, handle, account)?;
        check::approve(&policy, &rest);
        Ok(Columns { value: Some(rest), blob })
    }

    fn holds_retired(&self) -> Result<bool> {
        if self.value.is_none() && self.blob.is_none() {
            return Ok(false);
        }
        let (document, account, kind) = (&*self.document, self.account()?, self.kind.as_deref());
        if let Some(value) = self.value
            && retired(document, value, account, kind, true)?.found > 0
        {
            return Ok(true);
        }
        let Some(blob) = self.blob else { return Ok(false) };
        let content = blob::content(blob).map_err(|error| in_blob(document, error))?;
        let policy = policy::of(document, account, kind)?;
        Ok(!gathered_retired(&policy, Container::new(&content)?)?.is_empty())
    }

    /// Envelopes that are no longer flagged go back to where they came from, and are opened there.
    fn opened(&self, handle: i32) -> Result<Columns> {
        let (document, account, kind) = (&*self.document, self.account()?, self.kind.as_deref());
        let mut columns = Columns::SAME;
        if let Some(blob) = self.blob {
            let content = blob::content(blob).map_err(|error| in_blob(document, error))?;
            let policy = policy::of(document, account, kind)?;
            let found = gathered_retired(&policy, Container::new(&content)?)?;
            if !found.is_empty() {
                require_account(blob, account).map_err(|error| in_blob(document, error))?;
                let value = match self.value {
                    Some(value) => Zeroizing::new(value.as_bytes().to_vec()),
                    None => blob::empty()?,
                };
                let taken = found
                    .iter()
                    .map(|Gathered { keys, .. }| Gathered { keys: keys.clone(), envelope: None });
                columns.blob = blob::gather(document, self.blob, taken.collect(), handle, account)?;
                columns.value = Some(blob::put(&value, found)?);
            }
        }
        let value = match &columns.value {
            Some(value) => Some(Container::new(value)?),
            None => self.value,
        };
        if let Some(value) = value
            && let Some(opened) = retired(document, value, account, kind, false)?.opened
        {
            columns.value = Some(opened);
        }
        Ok(columns)
    }
}

/// The envelopes in the content of a blob that are no longer flagged.
fn gathered_retired(policy: &Policy, content: Container<'_>) -> Result<Vec<Gathered>> {
    let mut find = FindRetired { policy, found: Vec::new() };
    // what is no object was not gathered
    if is_object(content) {
        let start = (Some(policy.flags.start()), Vec::new());
        rewrite(content, start, &mut find).map_err(Located::of_any)?;
    }
    Ok(find.found)
}

struct FindRetired<'a> {
    policy: &'a Policy,
    found: Vec<Gathered>,
}

impl Transform for FindRetired<'_> {
    /// Where flagged paths lead, if any does, and the keys on the way.
    type State = (Option<State>, Vec<Vec<u8>>);
    type Error = Located;

    fn key(
        &mut self,
        (state, keys): &Self::State,
        key: &[u8],
    ) -> std::result::Result<Option<Self::State>, Located> {
        let state = state.and_then(|state| self.policy.flags.key(state, key));
        Ok(Some((state, [&**keys, &[key.to_vec()]].concat())))
    }

    fn element(
        &mut self,
        _: &Self::State,
        _: usize,
    ) -> std::result::Result<Option<Self::State>, Located> {
        // nothing is gathered from arrays
        Ok(None)
    }

    fn value(
        &mut self,
        (state, keys): Self::State,
        value: Value<'_>,
    ) -> std::result::Result<Change<Self::State>, Located> {
        match value {
            Value::String(text) if is_reserved_text(text) => {
                if is_retired(self.policy, state) {
                    self.found.push(Gathered { keys, envelope: Some(text.to_vec()) });
                }
                Ok(Change::Keep)
            }
            _ => Ok(Change::Enter((state, keys))),
        }
    }
}
