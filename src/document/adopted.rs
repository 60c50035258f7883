//! Values of other software in stored documents, and in those that are written while a job adopts
//! them: at the job's paths, where these are flagged.

use std::borrow::Cow;
use std::rc::Rc;

use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Node, Step, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use super::at::Located;
use super::existing::with_document;
use super::json::{self, Plain};
use super::policy::Policy;
use super::seal::envelope_of;
use super::{check, made, policy};
use crate::adopt::job::{self, Job, is_about_value};
use crate::adopt::{Adoption, Beside, DONE};
use crate::call::{Answer, Call, NewVarlena};
use crate::error::Result;

type Answered = std::result::Result<Answer, ErrorReport>;

/// `adopt_stored_document(document text, value jsonb, account text, kind text, associated_data text) →
/// jsonb`: the document with what opens sealed, for whoever may encrypt; the rest stays.
#[pg_extern(sql = false)]
fn adopt_stored_document(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let beside = &Beside::of(call.optional_text(4)?, None);
    with_document(&call, |document, container, account, kind| {
        let row = Row { document, account, kind, beside };
        let adopted = row.walk(container, Way::AdoptWhatOpens)?.adopted;
        let written = adopted.as_deref().map_or(container.as_bytes(), |adopted| adopted);
        check::approve_as_stored(&policy::of(document, account, kind)?, written);
        Ok(Answer::datum(adopted.map_or_else(|| call.datum(1), |adopted| NewVarlena::of(&adopted))))
    })
}

/// `holds_foreign(document text, value jsonb, account text, kind text, opens boolean, associated_data
/// text) → boolean`: whether something at the job's paths is not sealed, and, if `opens`, could be
/// adopted.
#[pg_extern(sql = false)]
fn holds_foreign(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let way = if call.boolean(4) { Way::LookWhatOpens } else { Way::Look };
    let beside = &Beside::of(call.optional_text(5)?, None);
    with_document(&call, |document, container, account, kind| {
        Ok((Row { document, account, kind, beside }.walk(container, way)?.found > 0).into())
    })
}

/// The document of a row that is written; `None` if it stays as it is. What is not sealed, and does
/// not open, is an error: the document's trigger would seal it once more.
pub fn adopted(row: Row<'_>, container: Container<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    Ok(row.walk(container, Way::AdoptAll)?.adopted)
}

/// What is done with values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    AdoptAll,
    AdoptWhatOpens,
    Look,
    LookWhatOpens,
}

/// The row of a document.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub document: &'a str,
    pub account: &'a str,
    pub kind: Option<&'a str>,
    pub beside: &'a Beside,
}

struct Walked {
    adopted: Option<Zeroizing<Vec<u8>>>,
    found: usize,
}

impl Row<'_> {
    fn walk(self, container: Container<'_>, way: Way) -> Result<Walked> {
        let Self { document, account, kind, beside } = self;
        let (job, policy) = (job::of(document)?, policy::of(document, account, kind)?);
        let start = (job.paths.start(), Some(policy.flags.start()));
        let mut walk = Walk { job, policy, account, beside, way, found: 0 };
        let adopted = rewrite(container, start, &mut walk).map_err(|error| error.of(document))?;
        Ok(Walked { adopted, found: walk.found })
    }
}

struct Walk<'a> {
    job: Rc<Job>,
    policy: Rc<Policy>,
    account: &'a str,
    beside: &'a Beside,
    way: Way,
    found: usize,
}

impl Transform for Walk<'_> {
    /// Where the job's paths lead, and the flagged ones.
    type State = (State, Option<State>);
    type Error = Located;

    fn key(
        &mut self,
        &(state, flagged): &Self::State,
        key: &[u8],
    ) -> std::result::Result<Option<Self::State>, Located> {
        let flagged = flagged.and_then(|state| self.policy.flags.key(state, key));
        Ok(self.job.paths.key(state, key).map(|state| (state, flagged)))
    }

    fn element(
        &mut self,
        &(state, flagged): &Self::State,
        _index: usize,
    ) -> std::result::Result<Option<Self::State>, Located> {
        let flagged = flagged.and_then(|state| self.policy.flags.element(state));
        Ok(self.job.paths.element(state).map(|state| (state, flagged)))
    }

    fn value(
        &mut self,
        (state, flagged): Self::State,
        value: Value<'_>,
    ) -> std::result::Result<Change<Self::State>, Located> {
        let is_array = value.is_array();
        if self.job.paths.rule(state, is_array).is_none() {
            return Ok(Change::Enter((state, flagged)));
        }
        let policy = Rc::clone(&self.policy);
        let rule = flagged.and_then(|state| policy.flags.rule(state, is_array));
        let flag = rule.map(|rule| &policy.flags.rules()[rule]).filter(|flag| !flag.retired);
        let Some(flag) = flag else { return Ok(Change::Keep) };
        match value {
            Value::Null => return Ok(Change::Keep),
            // adopted before, or written since
            Value::String(text) if is_reserved_text(text) => return Ok(Change::Keep),
            _ => {}
        }
        if self.way == Way::Look {
            self.found += 1;
            return Ok(Change::Keep);
        }
        let account = self.account;
        // the right comes first: whether a value opens is not for everyone
        let sealer = flag.sealer(account)?;
        let adoption = match self.job.adoption(account, self.beside) {
            Ok(adoption) => adoption,
            Err(error) if self.way != Way::AdoptAll && is_about_value(&error) => {
                return Ok(Change::Keep);
            }
            Err(error) => return Err(error.into()),
        };
        let opened = self.open(&adoption, value);
        let opened = match self.way {
            Way::LookWhatOpens => opened,
            _ => adoption.noted(&flag.field.name, opened),
        };
        let (plain, key) = match opened {
            Ok(opened) => opened,
            Err(error) if self.way != Way::AdoptAll && is_about_value(&error) => {
                return Ok(Change::Keep);
            }
            Err(error) => return Err(error.into()),
        };
        self.found += 1;
        if self.way == Way::LookWhatOpens {
            return Ok(Change::Keep);
        }
        let sealed = envelope_of(&plain, &sealer)?;
        made::remember(&sealed);
        if let Some(key) = key {
            adoption.note(DONE, &flag.field.name, key)?;
        }
        Ok(Change::Replace(Node::String(sealed)))
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}

impl Walk<'_> {
    /// What is in a value, and the key that opened it, unless it is plain.
    fn open<'v>(
        &self,
        adoption: &'v Adoption<'_>,
        value: Value<'v>,
    ) -> Result<(Plain<'v>, Option<&'v str>)> {
        let object;
        let stored = match value {
            Value::String(text) => text,
            // an object is a value that was stored as one
            Value::Container(container) if !value.is_array() => {
                object = json::document_text(container)?;
                object.as_bytes()
            }
            _ if self.job.takes_plain() => return Ok((json::plain(value)?, None)),
            _ => return Err(adoption.not_encrypted()),
        };
        match adoption.text(stored) {
            Ok((mut text, key)) => {
                let text = Cow::Owned(std::mem::take(&mut *text));
                Ok((Plain { text, plaintext_type: PlaintextType::Text }, Some(key)))
            }
            Err(error) if error.is_not_encrypted() && self.job.takes_plain() => {
                Ok((json::plain(value)?, None))
            }
            Err(error) => Err(error),
        }
    }
}
