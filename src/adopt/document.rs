//! A document that was encrypted as a whole: each of its values is sealed by the flag on its path.

use std::rc::Rc;

use fieldcrypt_core::adopt::Format;
use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Node, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::{Adoption, DONE, Places};
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call, NewVarlena, varlena_bytes};
use crate::document::at::Located;
use crate::document::policy::{self, Policy};
use crate::document::seal::{envelope_of, refuse_envelopes};
use crate::document::{json, made};
use crate::error::{Error, Result};
use crate::value::with_account;

const PLACES: Places =
    Places { format: 1, key: 2, previous_keys: 5, associated_data: 6, iv: Some(7) };

/// `adopt_document(value, format, key, document, account, previous_keys, associated_data, iv, kind) →
/// jsonb`; the value is text or bytea.
#[pg_extern(sql = false)]
fn adopt_document(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt")?;
    let document = call.required_text(3, "the document")?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    let kind = call.optional_text(8)?;
    let adopted = with_account(&call, 4, |account| {
        let adoption = Adoption::of(&call, &PLACES, account)?;
        let policy = policy::of(&document, account, kind.as_deref())?;
        if policy.flags.is_empty() {
            return Err(Error::DocumentMissing(document.to_string()));
        }
        // the right comes first, on all that there may be in it
        for flag in policy.flags.rules().iter().filter(|flag| !flag.retired) {
            flag.sealer(account)?;
        }
        let (text, key) = adoption.open(call.bytes(0), "", Format::open_text)?;
        let opened = json::parse(&text)?;
        // SAFETY: a jsonb that was just made
        let opened = Container::new(unsafe { varlena_bytes(opened) })?;
        let start = policy.flags.start();
        let mut adopt = Adopt { adoption: &adoption, document: &document, policy, key };
        rewrite(opened, start, &mut adopt)
            .map(|adopted| NewVarlena::of(adopted.as_deref().map_or(opened.as_bytes(), |a| a)))
            .map_err(|error| error.of(&document))
    })?;
    Ok(Answer::datum(adopted))
}

struct Adopt<'a> {
    adoption: &'a Adoption<'a>,
    document: &'a str,
    policy: Rc<Policy>,
    key: &'a str,
}

impl Adopt<'_> {
    /// What is not flagged would be seen by the caller.
    fn not_flagged(&self) -> Located {
        Error::NotFlagged(self.document.to_owned()).into()
    }
}

impl Transform for Adopt<'_> {
    type State = State;
    type Error = Located;

    fn key(&mut self, state: &State, key: &[u8]) -> std::result::Result<Option<State>, Located> {
        self.policy.flags.key(*state, key).map(Some).ok_or_else(|| self.not_flagged())
    }

    fn element(
        &mut self,
        state: &State,
        _index: usize,
    ) -> std::result::Result<Option<State>, Located> {
        self.policy.flags.element(*state).map(Some).ok_or_else(|| self.not_flagged())
    }

    fn value(
        &mut self,
        state: State,
        value: Value<'_>,
    ) -> std::result::Result<Change<State>, Located> {
        let flags = &self.policy.flags;
        let flag = flags.rule(state, value.is_array()).map(|index| &flags.rules()[index]);
        let Some(flag) = flag.filter(|flag| !flag.retired) else {
            return match value {
                Value::Container(_) => Ok(Change::Enter(state)),
                _ => Err(self.not_flagged()),
            };
        };
        match value {
            Value::Null if !flag.seals_null => return Ok(Change::Keep),
            Value::String(text) if is_reserved_text(text) => {
                return Err(Error::EnvelopeRefused.into());
            }
            Value::Container(container) => refuse_envelopes(container)?,
            _ => {}
        }
        Ok(Change::Replace(self.sealed(value, flag)?))
    }

    // errors do not say where: keys of the document are encrypted, too
}

impl Adopt<'_> {
    fn sealed(&self, value: Value<'_>, flag: &policy::Flag) -> Result<Node> {
        let sealer = flag.sealer(self.adoption.account)?;
        let sealed = envelope_of(&json::plain(value)?, &sealer)?;
        made::remember(&sealed);
        self.adoption.note(DONE, &flag.field.name, self.key)?;
        Ok(Node::String(sealed))
    }
}
