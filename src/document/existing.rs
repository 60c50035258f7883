//! Documents that are stored already: what was there before its path was flagged is sealed, and
//! what stayed sealed where the flag was taken back is opened. Jobs write what comes of it.

use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Step, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use super::at::Located;
use super::everywhere::may_hold_envelopes;
use super::open::{self, Reading};
use super::policy::Policy;
use super::seal::{self, Context};
use super::{check, json, policy};
use crate::call::{Answer, Call, NewVarlena};
use crate::error::{Error, Result};
use crate::jobs::caller;

type Answered = std::result::Result<Answer, ErrorReport>;

/// Calls `work` with the name of the document, its content, and the row's account and kind.
pub fn with_document(
    call: &Call,
    work: impl FnOnce(&str, Container<'_>, &str, Option<&str>) -> Result<Answer>,
) -> Answered {
    if call.is_null(1) {
        return Ok(Answer::NULL);
    }
    let document = call.required_text(0, "the document")?;
    let account = call.optional_text(2)?.ok_or(Error::RowWithoutAccount)?;
    let kind = call.optional_text(3)?;
    let container = Container::new(call.bytes(1)).map_err(Error::from)?;
    Ok(work(&document, container, &account, kind.as_deref())?)
}

/// `seal_existing(document text, value jsonb, account text, kind text) → jsonb`: the document with
/// its flagged values sealed, for whoever may encrypt.
#[pg_extern(sql = false)]
fn seal_existing(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    with_document(&call, |document, container, account, kind| {
        let policy = policy::of(document, account, kind)?;
        let context = Context {
            document,
            policy: &policy,
            account,
            // it keeps the envelopes that are there
            old: may_hold_envelopes(container).then_some(container),
            // but none of another, which the CHECK would refuse
            same_account: false,
            arrived: &[],
            is_stored: true,
        };
        let Some(sealed) = seal::document(&context, container)? else {
            return Ok(Answer::datum(call.datum(1)));
        };
        check::approve(&policy, &sealed);
        Ok(Answer::datum(json::rewritten(sealed)))
    })
}

/// `open_retired(document text, value jsonb, account text, kind text) → jsonb`: the document with the
/// plain values of what is sealed and no longer flagged, for whoever may decrypt.
#[pg_extern(sql = false)]
fn open_retired(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    with_document(&call, |document, container, account, kind| {
        let opened = retired(document, container, account, kind, false)?.opened;
        Ok(Answer::datum(opened.map_or(call.datum(1), |opened| NewVarlena::of(&opened))))
    })
}

/// `holds_retired(document text, value jsonb, account text, kind text) → boolean`: whether there is
/// something that `open_retired` would open.
#[pg_extern(sql = false)]
fn holds_retired(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    with_document(&Call::new(fcinfo), |document, container, account, kind| {
        Ok((retired(document, container, account, kind, true)?.found > 0).into())
    })
}

/// What is sealed in a document and no longer flagged.
pub struct Retired {
    /// The document with it opened, unless it was only counted, or there is nothing.
    pub opened: Option<Zeroizing<Vec<u8>>>,
    pub found: usize,
}

pub fn retired(
    document: &str,
    container: Container<'_>,
    account: &str,
    kind: Option<&str>,
    only_counts: bool,
) -> Result<Retired> {
    let policy = policy::of(document, account, kind)?;
    let mut open = OpenRetired { policy: &policy, only_counts, found: 0 };
    let start = policy.flags.start();
    let opened = rewrite(container, Some(start), &mut open).map_err(|error| error.of(document))?;
    Ok(Retired { opened, found: open.found })
}

/// Whether nothing is to be sealed, or no longer, where flagged paths lead to this state.
pub fn is_retired(policy: &Policy, state: Option<State>) -> bool {
    let rule = state.and_then(|state| policy.flags.rule(state, false));
    rule.is_none_or(|rule| policy.flags.rules()[rule].retired)
}

struct OpenRetired<'a> {
    policy: &'a Policy,
    only_counts: bool,
    found: usize,
}

impl Transform for OpenRetired<'_> {
    /// Where flagged paths lead; `None` where none does.
    type State = Option<State>;
    type Error = Located;

    fn key(
        &mut self,
        state: &Self::State,
        key: &[u8],
    ) -> std::result::Result<Option<Self::State>, Located> {
        Ok(Some(state.and_then(|state| self.policy.flags.key(state, key))))
    }

    fn element(
        &mut self,
        state: &Self::State,
        _index: usize,
    ) -> std::result::Result<Option<Self::State>, Located> {
        Ok(Some(state.and_then(|state| self.policy.flags.element(state))))
    }

    fn value(
        &mut self,
        state: Self::State,
        value: Value<'_>,
    ) -> std::result::Result<Change<Self::State>, Located> {
        match value {
            Value::String(text) if is_reserved_text(text) => {
                if !is_retired(self.policy, state) {
                    return Ok(Change::Keep);
                }
                self.found += 1;
                if self.only_counts {
                    return Ok(Change::Keep);
                }
                caller::require_decrypt(&check::header(text)?.0)?;
                Ok(open::open(text, Reading::Decrypt)?.map_or(Change::Keep, Change::Replace))
            }
            Value::Container(_) => Ok(Change::Enter(state)),
            _ => Ok(Change::Keep),
        }
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}
