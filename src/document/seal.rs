//! Writing: each flagged value of a new document becomes an envelope, unless it already is one that
//! may stay.
//!
//! Invariant: after it, no flagged value is plain, and no envelope has come from elsewhere: one
//! that stays was in the old row, was made by this session in this statement, came with the row
//! from another partition, or comes from a role that may put envelopes in.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use fieldcrypt_core::envelope::{self, Envelope, is_reserved_text};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::mask::looks_masked;
use fieldcrypt_core::token::Kind;
use fieldcrypt_document::flags::State;
use fieldcrypt_document::jsonb::{Container, Value, strings};
use fieldcrypt_document::rewrite::{Change, Node, Step, Transform, rewrite};
use zeroize::Zeroizing;

use super::at::Located;
use super::everywhere::{reserved_texts, rewrite_everywhere};
use super::json::{self, Plain};
use super::made;
use super::masked::{Seen, seen};
use super::policy::{Flag, Policy};
use crate::access::{Privilege, Privileges};
use crate::datatype::input::accepts_envelopes;
use crate::encoding;
use crate::error::{Error, Result};
use crate::keyring::sealer::{Sealer, Sections};
use crate::value::{self, NewValue};

/// What a new document is held to.
pub struct Context<'a> {
    pub document: &'a str,
    pub policy: &'a Policy,
    pub account: &'a str,
    pub old: Option<Container<'a>>,
    /// Whether the old row is of the same account.
    pub same_account: bool,
    /// Envelopes that came with the row from another partition.
    pub arrived: &'a [Vec<u8>],
    /// Whether the document is stored data, and not one that a user has just written: no mask that
    /// was read, and seen by no trigger.
    pub is_stored: bool,
}

/// The document as it may be stored; `None` if it already is.
pub fn document(context: &Context<'_>, new: Container<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut seal = Seal::new(context, None);
    seal.run(new)
}

/// The same, but every value that would be sealed, or stays as an envelope, is taken out of the
/// document: `gathered` gets it, with the keys that lead to it.
pub fn gather(
    context: &Context<'_>,
    new: Container<'_>,
    gathered: &mut Vec<Gathered>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut seal = Seal::new(context, Some(gathered));
    seal.run(new)
}

/// A value taken out of a document.
pub struct Gathered {
    pub keys: Vec<Vec<u8>>,
    /// Its envelope in text form; `None` where something else stands now, in the document.
    pub envelope: Option<Vec<u8>>,
}

struct Seal<'a, 'g> {
    context: &'a Context<'a>,
    gathered: Option<&'g mut Vec<Gathered>>,
    /// How many envelopes stand at flagged paths.
    found: usize,
    accepts_envelopes: OnceCell<bool>,
    /// Every envelope in the old document, as the current user reads it.
    old_masks: OnceCell<HashSet<(FieldId, Vec<u8>)>>,
}

/// Where a value is, and what was there before.
struct At<'a> {
    state: State,
    old: Option<Value<'a>>,
    /// Of an array, the old element for each new one, where that is not the one at its index.
    counterparts: Option<Rc<[Option<usize>]>>,
    in_array: bool,
    /// The way to it, where values are gathered.
    keys: Option<Vec<Vec<u8>>>,
}

impl<'a> Transform for Seal<'a, '_> {
    type State = At<'a>;
    type Error = Located;

    fn key(&mut self, at: &At<'a>, key: &[u8]) -> std::result::Result<Option<At<'a>>, Located> {
        let Some(state) = self.context.policy.flags.key(at.state, key) else { return Ok(None) };
        let old = match at.old {
            Some(Value::Container(old)) => old.get(key)?,
            _ => None,
        };
        let keys = at.keys.as_ref().map(|keys| {
            let mut keys = keys.clone();
            keys.push(key.to_vec());
            keys
        });
        Ok(Some(At { state, old, counterparts: None, in_array: at.in_array, keys }))
    }

    fn element(
        &mut self,
        at: &At<'a>,
        index: usize,
    ) -> std::result::Result<Option<At<'a>>, Located> {
        let Some(state) = self.context.policy.flags.element(at.state) else { return Ok(None) };
        let index = match &at.counterparts {
            Some(counterparts) => counterparts.get(index).copied().flatten(),
            None => Some(index),
        };
        let old = match (at.old, index) {
            (Some(Value::Container(old)), Some(index)) => old.element(index)?,
            _ => None,
        };
        Ok(Some(At { state, old, counterparts: None, in_array: true, keys: at.keys.clone() }))
    }

    fn value(
        &mut self,
        mut at: At<'a>,
        value: Value<'_>,
    ) -> std::result::Result<Change<At<'a>>, Located> {
        let flags = &self.context.policy.flags;
        let flag = flags.rule(at.state, value.is_array()).map(|index| &flags.rules()[index]);
        let Some(flag) = flag else { return self.enter(at, value) };
        if let Value::String(text) = value
            && is_reserved_text(text)
        {
            self.keep(flag, &at, text)?;
            if self.gathered.is_none() {
                return Ok(Change::Keep);
            }
            return self.placed(&mut at, text.to_vec());
        }
        if flag.retired {
            // a plain value takes the place of what was gathered before
            self.forget(&at);
            return self.enter(at, value);
        }
        let privileges = flag.privileges(self.context.account)?;
        let decrypts = privileges.contains(Privilege::Decrypt) && !flag.field.token_only;
        let old = match at.old.take() {
            Some(Value::String(old)) if self.context.same_account && is_reserved_text(old) => {
                Some(old)
            }
            _ => None,
        };
        if !decrypts
            && !self.context.is_stored
            && self.is_mask(flag, value, old, at.in_array)?
            && let Some(old) = old
        {
            return self.placed(&mut at, old.to_vec());
        }
        if matches!(value, Value::Null) && !flag.seals_null {
            self.forget(&at);
            return Ok(Change::Keep);
        }
        if let Value::Container(container) = value {
            refuse_envelopes(container)?;
        }
        let plain = json::plain(value)?;
        if let Some(old) = old
            && may_keep(flag, privileges)
            && self.is_unchanged(old, flag, &plain)
        {
            return self.placed(&mut at, old.to_vec());
        }
        let sealed = envelope_of(&plain, &*flag.sealer(self.context.account)?)?;
        if !self.context.is_stored {
            made::remember(&sealed);
        }
        self.placed(&mut at, sealed)
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}

/// Whether the user may learn by a write whether the old value equals the new one.
fn may_keep(flag: &Flag, privileges: Privileges) -> bool {
    let finds = flag.field.equality == Some(Kind::Exact) && privileges.contains(Privilege::Search);
    privileges.contains(Privilege::Decrypt) || finds
}

/// A value sealed, in text form.
pub fn envelope_of(plain: &Plain<'_>, sealer: &Sealer) -> Result<Vec<u8>> {
    let mut sections = Sections::default();
    value::write_sections(sealer, plain.plaintext(), &mut sections)?;
    let value = NewValue::new(sealer, plain.plaintext(), sections.as_bytes())?;
    let mut bytes = vec![0; value.length];
    value.seal(&mut bytes)?;
    Ok(envelope::to_text(&bytes).into_bytes())
}

impl<'a, 'g> Seal<'a, 'g> {
    fn new(context: &'a Context<'a>, gathered: Option<&'g mut Vec<Gathered>>) -> Self {
        Self {
            context,
            gathered,
            found: 0,
            accepts_envelopes: OnceCell::new(),
            old_masks: OnceCell::new(),
        }
    }

    fn run(&mut self, new: Container<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let start = At {
            state: self.context.policy.flags.start(),
            old: self.context.old.map(Container::root).transpose()?,
            counterparts: None,
            in_array: false,
            keys: self.gathered.is_some().then(Vec::new),
        };
        let rewritten =
            rewrite(new, start, self).map_err(|error| error.of(self.context.document))?;
        self.check_elsewhere(new)?;
        Ok(rewritten)
    }

    /// Whether an old envelope holds a value, and may. What cannot be opened is sealed anew, and so is
    /// what is of another account than its row, however that came about.
    fn is_unchanged(&self, old: &[u8], flag: &Flag, plain: &Plain<'_>) -> bool {
        let is_unchanged = || {
            let bytes = envelope::from_text(old)?;
            let is_of_field = Envelope::parse(&bytes)?.header().field_id == flag.field.id;
            Ok::<_, Error>(
                is_of_field && value::holds(&bytes, plain.plaintext(), self.context.account)?,
            )
        };
        is_unchanged().unwrap_or(false)
    }

    /// What was gathered from there before is no longer so: another value stands there.
    fn forget(&mut self, at: &At<'a>) {
        if let (Some(gathered), Some(keys), false) = (&mut self.gathered, &at.keys, at.in_array) {
            gathered.push(Gathered { keys: keys.clone(), envelope: None });
        }
    }

    fn enter(
        &mut self,
        mut at: At<'a>,
        value: Value<'_>,
    ) -> std::result::Result<Change<At<'a>>, Located> {
        if !matches!(value, Value::Container(_)) || value.is_array() {
            self.forget(&at);
        }
        let Value::Container(new) = value else { return Ok(Change::Keep) };
        if let (true, Some(Value::Container(old))) = (value.is_array(), at.old)
            && self.reads_masks()?
        {
            at.counterparts = Some(self.counterparts(at.state, old, new)?.into());
        }
        Ok(Change::Enter(at))
    }

    /// Puts an envelope where a value was, or takes it out to be gathered.
    fn placed(
        &mut self,
        at: &mut At<'a>,
        text: Vec<u8>,
    ) -> std::result::Result<Change<At<'a>>, Located> {
        match (&mut self.gathered, at.keys.take()) {
            (Some(_), _) if at.in_array => Err(Error::InArray.into()),
            (Some(gathered), Some(keys)) => {
                gathered.push(Gathered { keys, envelope: Some(text) });
                Ok(Change::Remove)
            }
            _ => Ok(Change::Replace(Node::String(text))),
        }
    }

    /// Fails unless an envelope in the new document may stay where it is.
    fn keep(&mut self, flag: &Flag, at: &At<'a>, text: &[u8]) -> Result<()> {
        self.found += 1;
        let in_place = matches!(at.old, Some(Value::String(old)) if old == text);
        if in_place && self.context.same_account {
            return Ok(());
        }
        if !in_place && !self.may_stay(text)? {
            return Err(Error::EnvelopeRefused);
        }
        let bytes = envelope::from_text(text)?;
        let header = *value::stored(&bytes)?.header();
        // where it was, and where a restore puts it, it may be of a field that the path had before
        let as_it_was = in_place || self.has_arrived(text) || self.accepts_envelopes();
        if !as_it_was && header.field_id != flag.field.id {
            let found = crate::catalog::field::describe(header.field_id);
            return Err(Error::FieldMismatch(found, format!("\"{}\"", flag.field.name)));
        }
        value::require_account(header.key_id, self.context.account)
    }

    /// Whether an envelope does not come from elsewhere.
    fn may_stay(&self, text: &[u8]) -> Result<bool> {
        if self.has_arrived(text) || made::contains(text) || self.accepts_envelopes() {
            return Ok(true);
        }
        let mut known = false;
        if let Some(old) = self.context.old {
            strings(old, |string| {
                known |= string == text;
                Ok::<_, Error>(())
            })?;
        }
        Ok(known)
    }

    /// Whether an envelope came with the row from another partition.
    fn has_arrived(&self, text: &[u8]) -> bool {
        self.context.arrived.iter().any(|arrived| arrived == text)
    }

    fn accepts_envelopes(&self) -> bool {
        *self.accepts_envelopes.get_or_init(accepts_envelopes)
    }

    /// Fails if a text of the reserved form stands where nothing is flagged.
    fn check_elsewhere(&self, new: Container<'_>) -> Result<()> {
        if reserved_texts(new) <= self.found {
            return Ok(());
        }
        let mut refused = None;
        strings(new, |text| {
            if refused.is_none() && is_reserved_text(text) && !self.may_stay(text)? {
                refused = Some(text);
            }
            Ok::<_, Error>(())
        })?;
        let Some(refused) = refused else { return Ok(()) };
        // once more, so that the error says where
        let found = rewrite_everywhere(new, |value| match value {
            Value::String(text) if text == refused => Err(Error::EnvelopeRefused),
            _ => Ok(Change::Enter(())),
        });
        found.map_err(|error| error.of(self.context.document))?;
        Err(Error::EnvelopeRefused)
    }

    /// Whether a role that may not decrypt some field writes over a document that it read.
    fn reads_masks(&self) -> Result<bool> {
        for flag in self.context.policy.flags.rules() {
            if !flag.privileges(self.context.account)?.contains(Privilege::Decrypt) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a value is what the current user reads of the old one. Fails if it is the mask of
    /// another value, or looks like one.
    fn is_mask(
        &self,
        flag: &Flag,
        value: Value<'_>,
        old: Option<&[u8]>,
        in_array: bool,
    ) -> Result<bool> {
        let seen = old.and_then(|old| seen(&envelope::from_text(old).ok()?));
        match (value, seen) {
            (Value::Null, Some(Seen::Null)) => return Ok(true),
            (Value::String(text), Some(Seen::Value(seen)))
                if encoding::to_utf8(text)?.as_bytes() == seen =>
            {
                return Ok(true);
            }
            _ => {}
        }
        let refused = match value {
            Value::String(text) => {
                let text = encoding::to_utf8(text)?;
                looks_masked(&text)
                    || in_array
                        && self
                            .old_masks()?
                            .contains(&(flag.field.id, text.into_owned().into_bytes()))
            }
            Value::Container(container) => holds_masks(container)?,
            _ => false,
        };
        if refused { Err(Error::Masked(flag.field.name.clone())) } else { Ok(false) }
    }

    fn old_masks(&self) -> Result<&HashSet<(FieldId, Vec<u8>)>> {
        if let Some(masks) = self.old_masks.get() {
            return Ok(masks);
        }
        let mut masks = HashSet::new();
        if let Some(old) = self.context.old {
            strings(old, |text| {
                if is_reserved_text(text)
                    && let Ok(bytes) = envelope::from_text(text)
                    && let Ok(envelope) = Envelope::parse(&bytes)
                    && let Some(Seen::Value(seen)) = seen(&bytes)
                {
                    masks.insert((envelope.header().field_id, seen));
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(self.old_masks.get_or_init(|| masks))
    }

    /// The one old element that each new element can only mean: of objects and arrays the one
    /// whose unflagged rest is equal; of scalars the one at the same index, if all of them are
    /// masks and none came or went.
    fn counterparts(
        &self,
        state: State,
        old: Container<'_>,
        new: Container<'_>,
    ) -> Result<Vec<Option<usize>>> {
        let flags = &self.context.policy.flags;
        let Some(element) = flags.element(state) else { return Ok(Vec::new()) };
        let old_elements = old.elements().collect::<std::result::Result<Vec<_>, _>>()?;
        let new_elements = new.elements().collect::<std::result::Result<Vec<_>, _>>()?;
        let by_index = old_elements.len() == new_elements.len()
            && new_elements.iter().zip(&old_elements).try_fold(true, |all, (new, old)| {
                Ok::<_, Error>(all && self.is_mask_of_scalar(*new, *old)?)
            })?;
        let mut by_rest = HashMap::with_capacity(old_elements.len());
        for (index, old) in old_elements.iter().enumerate() {
            if let Some(rest) = self.rest(element, *old)? {
                // two of the same: which of them is meant cannot be told
                by_rest.entry(rest).and_modify(|only| *only = None).or_insert(Some(index));
            }
        }
        let mut counterparts = Vec::with_capacity(new_elements.len());
        for (index, new) in new_elements.iter().enumerate() {
            let Some(rest) = self.rest(element, *new)? else {
                counterparts.push(by_index.then_some(index));
                continue;
            };
            counterparts.push(by_rest.get(&rest).copied().flatten());
        }
        Ok(counterparts)
    }

    /// Whether an element that is a scalar is what the current user reads of an old one.
    fn is_mask_of_scalar(&self, new: Value<'_>, old: Value<'_>) -> Result<bool> {
        Ok(match (new, old) {
            (Value::Container(_), _) => true,
            (Value::String(new), Value::String(old)) => {
                let seen = envelope::from_text(old).ok().and_then(|old| seen(&old));
                match seen {
                    Some(Seen::Value(seen)) => encoding::to_utf8(new)?.as_bytes() == seen,
                    _ => new == old,
                }
            }
            _ => false,
        })
    }

    /// An object or array without its flagged values; `None` for scalars.
    fn rest(&self, state: State, value: Value<'_>) -> Result<Option<Vec<u8>>> {
        let Value::Container(container) = value else { return Ok(None) };
        let mut transform = Rest(self.context.policy);
        let rest = rewrite(container, (state, false), &mut transform)
            .map_err(|error| error.of(self.context.document))?;
        Ok(Some(rest.map_or_else(|| container.as_bytes().to_vec(), |rest| rest.to_vec())))
    }
}

/// Fails if an envelope stands in a value that is sealed as a whole: it would be sealed twice.
pub fn refuse_envelopes(container: Container<'_>) -> Result<()> {
    strings(
        container,
        |text| {
            if is_reserved_text(text) { Err(Error::EnvelopeRefused) } else { Ok(()) }
        },
    )
}

/// Whether a text in an object or array looks masked: a role that may not decrypt has read none.
fn holds_masks(container: Container<'_>) -> Result<bool> {
    let mut found = false;
    strings(container, |text| {
        found |= looks_masked(&encoding::to_utf8(text)?);
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

fn is_envelope(value: Value<'_>) -> bool {
    matches!(value, Value::String(text) if is_reserved_text(text))
}

/// Takes flagged values out.
struct Rest<'a>(&'a Policy);

impl Transform for Rest<'_> {
    /// Whether it is an element of an array.
    type State = (State, bool);
    type Error = Located;

    fn key(
        &mut self,
        (state, _): &(State, bool),
        key: &[u8],
    ) -> std::result::Result<Option<(State, bool)>, Located> {
        Ok(self.0.flags.key(*state, key).map(|state| (state, false)))
    }

    fn element(
        &mut self,
        (state, _): &(State, bool),
        _index: usize,
    ) -> std::result::Result<Option<(State, bool)>, Located> {
        Ok(self.0.flags.element(*state).map(|state| (state, true)))
    }

    fn value(
        &mut self,
        (state, is_element): (State, bool),
        value: Value<'_>,
    ) -> std::result::Result<Change<(State, bool)>, Located> {
        Ok(match self.0.flags.rule(state, value.is_array()) {
            None => Change::Enter((state, is_element)),
            Some(index) if self.0.flags.rules()[index].retired && !is_envelope(value) => {
                Change::Enter((state, is_element))
            }
            Some(_) if is_element => Change::Replace(Node::Null),
            Some(_) => Change::Remove,
        })
    }
}
