//! Values at paths of a document.

use std::borrow::Cow;
use std::rc::Rc;

use fieldcrypt_core::adopt::Format;
use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_document::flags::{Flags, State};
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::path::{Path, PathError};
use fieldcrypt_document::rewrite::{Change, Node, Step, Transform, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use zeroize::Zeroizing;

use super::{Adoption, DONE, Places};
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::By;
use crate::document::at::Located;
use crate::document::json::{self, Plain};
use crate::document::made;
use crate::document::seal::envelope_of;
use crate::error::{Error, Result};
use crate::keyring::sealer::Sealer;
use crate::value::with_account;

type Answered = std::result::Result<Answer, ErrorReport>;

const PLACES: Places = Places { format: 2, key: 3, previous_keys: 6, associated_data: 7, iv: None };

/// `adopt(document jsonb, paths text[], format, key, field, account, previous_keys, associated_data) →
/// jsonb`
#[pg_extern(sql = false)]
fn adopt_at_paths(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt")?;
    let paths = call.texts(1)?.ok_or(Error::Null("the paths"))?;
    let field = call.required_text(4, "the field")?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    let flags = flags(&paths)?;
    let container = Container::new(call.bytes(0)).map_err(Error::from)?;
    let adopted = with_account(&call, 5, |account| {
        let adoption = Adoption::of(&call, &PLACES, account)?;
        let sealer = Sealer::to_encrypt(By::Name(&field), account)?;
        let adopt = Adopt { adoption, field: &field, sealer };
        rewrite_at(&flags, container, |value| adopt.value(value))
    })?;
    Ok(Answer::datum(adopted.map_or_else(|| call.datum(0), |document| NewVarlena::of(&document))))
}

/// Paths as they are written.
pub(super) fn flags(paths: &[String]) -> Result<Flags<()>> {
    let parse = |path: &String| path.parse::<Path>().map(|path| (path, ()));
    let rules = paths.iter().map(parse).collect::<std::result::Result<Vec<_>, PathError>>();
    let invalid =
        |error: PathError| Error::InvalidArgument { name: "paths", hint: error.to_string() };
    Ok(Flags::compile(rules.map_err(invalid)?))
}

/// The document as `becomes` says of each value that stands at one of the paths; `None` if all are
/// kept.
pub(super) fn rewrite_at(
    flags: &Flags<()>,
    document: Container<'_>,
    becomes: impl FnMut(Value<'_>) -> Result<Change<State>>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    rewrite(document, flags.start(), &mut AtPaths { flags, becomes }).map_err(Located::of_any)
}

struct AtPaths<'a, F> {
    flags: &'a Flags<()>,
    becomes: F,
}

impl<F: FnMut(Value<'_>) -> Result<Change<State>>> Transform for AtPaths<'_, F> {
    type State = State;
    type Error = Located;

    fn key(&mut self, state: &State, key: &[u8]) -> std::result::Result<Option<State>, Located> {
        Ok(self.flags.key(*state, key))
    }

    fn element(
        &mut self,
        state: &State,
        _index: usize,
    ) -> std::result::Result<Option<State>, Located> {
        Ok(self.flags.element(*state))
    }

    fn value(
        &mut self,
        state: State,
        value: Value<'_>,
    ) -> std::result::Result<Change<State>, Located> {
        match self.flags.rule(state, value.is_array()) {
            None => Ok(Change::Enter(state)),
            Some(_) => Ok((self.becomes)(value)?),
        }
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}

struct Adopt<'a> {
    adoption: Adoption<'a>,
    field: &'a str,
    sealer: Rc<Sealer>,
}

impl Adopt<'_> {
    /// What becomes of a value.
    fn value(&self, value: Value<'_>) -> Result<Change<State>> {
        match value {
            Value::Null => Ok(Change::Keep),
            // adopted before, or written since
            Value::String(text) if is_reserved_text(text) => Ok(Change::Keep),
            Value::String(text) => Ok(Change::Replace(self.adopt(text)?)),
            // an object is a value that was stored as one
            Value::Container(object) if !value.is_array() => {
                Ok(Change::Replace(self.adopt(json::document_text(object)?.as_bytes())?))
            }
            _ => {
                let refused = Err(self.adoption.not_encrypted());
                self.adoption.noted(self.field, refused)
            }
        }
    }

    /// The envelope of what a value was made of.
    fn adopt(&self, value: &[u8]) -> Result<Node> {
        let (mut text, key) = self.adoption.open(value, self.field, Format::open_text)?;
        let text = Cow::Owned(std::mem::take(&mut *text));
        let plain = Plain { text, plaintext_type: PlaintextType::Text };
        let sealed = envelope_of(&plain, &self.sealer)?;
        made::remember(&sealed);
        self.adoption.note(DONE, self.field, key)?;
        Ok(Node::String(sealed))
    }
}
