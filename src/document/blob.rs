//! Blob mode: the flagged values of a document are gathered in a column of their own, one
//! `encrypted_jsonb`. Inside it each value is an envelope of its own field, so that grants, masks and
//! tokens stay per key; around it is one more, so that the table does not even tell the keys.

use fieldcrypt_core::envelope::{self, Envelope, is_reserved_text};
use fieldcrypt_core::key::KeyId;
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::token::{Kind, MEMBER_TOKEN_LENGTH, Scope, member_section};
use fieldcrypt_document::jsonb::{Container, Value, strings};
use fieldcrypt_document::rewrite::{Change, Node, Transform, document_of, merge, object, rewrite};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use super::at::Located;
use super::everywhere::rewrite_everywhere;
use super::json;
use super::open::{self, Reading};
use super::seal::Gathered;
use crate::access::Privilege;
use crate::audit::statement::{self, Action, Entity, Outcome, with_entity};
use crate::call::{Answer, Call, NewVarlena};
use crate::catalog::field::By;
use crate::error::{Error, Result};
use crate::keyring::sealer::Sealer;
use crate::value::{self, NewValue};

type Answered = std::result::Result<Answer, ErrorReport>;

/// What a blob holds: an object of keys and envelopes. No right is asked: it shows no value.
pub fn content(blob: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let envelope = value::stored(blob)?;
    let opened = value::open(&*value::key_of(&envelope)?, &envelope)?;
    json::document(opened.as_str()?)
}

/// An empty object.
pub fn empty() -> Result<Zeroizing<Vec<u8>>> {
    Ok(document_of(&object(Vec::new())?))
}

/// The content with what was gathered from a new document put in.
pub fn put(content: &[u8], gathered: Vec<Gathered>) -> Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(content.to_vec());
    for Gathered { keys, envelope } in gathered {
        match envelope {
            Some(text) => {
                let mut node = Node::String(text);
                for key in keys.into_iter().rev() {
                    node = object(vec![(key, node)])?;
                }
                content = merge(Container::new(&content)?, Container::new(&document_of(&node))?)?;
            }
            // another value stands in place of the whole document
            None if keys.is_empty() => content = empty()?,
            None => remove(&mut content, &keys)?,
        }
    }
    Ok(content)
}

/// Takes out the value to which the keys lead, and the objects around it that hold nothing else.
fn remove(content: &mut Zeroizing<Vec<u8>>, keys: &[Vec<u8>]) -> Result<()> {
    for depth in (1..=keys.len()).rev() {
        let way = &keys[..depth];
        if depth < keys.len() && !is_empty_at(Container::new(content)?, way)? {
            break;
        }
        let rest = rewrite(Container::new(content)?, 0, &mut Without(way));
        match rest.map_err(Located::of_any)? {
            Some(rest) => *content = rest,
            None => break,
        }
    }
    Ok(())
}

/// Whether the keys lead to an object without pairs.
fn is_empty_at(content: Container<'_>, way: &[Vec<u8>]) -> Result<bool> {
    let mut at = content;
    for key in way {
        match at.get(key)? {
            Some(Value::Container(inner)) => at = inner,
            _ => return Ok(false),
        }
    }
    Ok(at.is_empty())
}

/// Takes out the value to which the keys lead.
struct Without<'a>(&'a [Vec<u8>]);

impl Transform for Without<'_> {
    /// How many of the keys have led here.
    type State = usize;
    type Error = Located;

    fn key(&mut self, at: &usize, key: &[u8]) -> std::result::Result<Option<usize>, Located> {
        Ok(self.0.get(*at).is_some_and(|next| next == key).then_some(at + 1))
    }

    fn element(&mut self, _: &usize, _: usize) -> std::result::Result<Option<usize>, Located> {
        Ok(None)
    }

    fn value(&mut self, at: usize, _: Value<'_>) -> std::result::Result<Change<usize>, Located> {
        Ok(if at == self.0.len() { Change::Remove } else { Change::Enter(at) })
    }
}

/// What becomes of the blob of a row.
pub enum Becomes {
    Same,
    /// Another one, or NULL if nothing is left to gather.
    Other(Option<Datum>),
}

/// The blob of a row, if there is one, with what was gathered from its document put in.
pub fn gather(
    document: &str,
    blob: Option<&[u8]>,
    gathered: Vec<Gathered>,
    handle: i32,
    account: &str,
) -> Result<Becomes> {
    if gathered.is_empty() {
        return Ok(Becomes::Same);
    }
    let before = match blob {
        Some(blob) => content(blob).map_err(|error| in_blob(document, error))?,
        None => empty()?,
    };
    let content = put(&before, gathered)?;
    if content == before {
        return Ok(Becomes::Same);
    }
    seal(&content, handle, account).map(Becomes::Other)
}

/// Fails if a blob is of another account.
pub fn require_account(blob: &[u8], account: &str) -> Result<()> {
    value::require_account(value::stored(blob)?.header().key_id, account)
}

/// The error with where it arose.
pub fn in_blob(document: &str, error: Error) -> Error {
    Error::At { place: format!("blob column of document \"{document}\""), error: Box::new(error) }
}

/// Seals a content as a blob of the field with that handle; `None` if it is empty.
pub fn seal(content: &[u8], handle: i32, account: &str) -> Result<Option<Datum>> {
    let container = Container::new(content)?;
    if container.is_empty() {
        return Ok(None);
    }
    let sealer = Sealer::to_encrypt(By::Handle(handle), account)?;
    let sections = sections(container)?;
    let text = Zeroizing::new(json::document_text(container)?);
    let value = NewValue::new(&sealer, Plaintext::json(&text), &sections)?;
    let mut varlena = NewVarlena::with_capacity(value.length);
    value.seal(varlena.bytes_mut())?;
    Ok(Some(varlena.finish(value.length)))
}

/// The token sections of a blob with a content; `None` if it is no blob, but any other JSON.
pub fn sections_of(content: Container<'_>) -> Result<Option<Vec<u8>>> {
    holds_only_envelopes(content).then(|| sections(content)).transpose()
}

/// The tokens of the values inside, by index key and normalizer, so that the blob can be found by
/// them.
pub fn sections(content: Container<'_>) -> Result<Vec<u8>> {
    type Group = (KeyId, u8, u8);
    let mut groups = Vec::<(Group, Vec<[u8; MEMBER_TOKEN_LENGTH]>)>::new();
    strings(content, |text| {
        let bytes = envelope::from_text(text)?;
        for token in Envelope::parse(&bytes)?.tokens() {
            if token.kind != Kind::Exact as u8 {
                continue;
            }
            let Some(start) = token.bytes.first_chunk() else { continue };
            let of = (token.key_id, token.normalizer, token.scope);
            match groups.iter_mut().find(|(group, _)| *group == of) {
                Some((_, tokens)) => tokens.push(*start),
                None => groups.push((of, vec![*start])),
            }
        }
        Ok::<_, Error>(())
    })?;
    let mut sections = Vec::new();
    for ((key_id, normalizer, scope), mut tokens) in groups {
        tokens.sort_unstable();
        tokens.dedup();
        let normalizer = Normalizer::from_number(normalizer).ok_or(Error::Catalog("normalizer"))?;
        let scope = if scope == Scope::Database as u8 { Scope::Database } else { Scope::Account };
        let section = member_section(key_id, normalizer, scope, &tokens);
        sections.extend(section.ok_or(fieldcrypt_core::error::SealError::TooLong)?);
    }
    Ok(sections)
}

/// `decrypt(document jsonb, blob encrypted_jsonb) → jsonb`
#[pg_extern(sql = false)]
fn decrypt_merged(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read(&Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(document jsonb, blob encrypted_jsonb) → jsonb`
#[pg_extern(sql = false)]
fn reveal_merged(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read(&Call::new(fcinfo), Reading::Reveal)
}

/// `decrypt(document jsonb, blob encrypted_jsonb, entity text) → jsonb`
#[pg_extern(sql = false)]
fn decrypt_merged_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of(&Call::new(fcinfo), Reading::Decrypt)
}

/// `reveal(document jsonb, blob encrypted_jsonb, entity text) → jsonb`
#[pg_extern(sql = false)]
fn reveal_merged_of(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    read_of(&Call::new(fcinfo), Reading::Reveal)
}

fn read_of(call: &Call, reading: Reading) -> Answered {
    if call.is_null(0) && call.is_null(1) {
        return Ok(Answer::NULL);
    }
    let entity = Entity::text(&call.required_text(2, "the entity")?)?;
    Ok(with_entity(entity, || read_merged(call, reading))?)
}

fn read(call: &Call, reading: Reading) -> Answered {
    Ok(read_merged(call, reading)?)
}

fn read_merged(call: &Call, reading: Reading) -> Result<Answer> {
    if call.is_null(0) && call.is_null(1) {
        return Ok(Answer::NULL);
    }
    let document = if call.is_null(0) { empty()? } else { call.bytes(0).to_vec().into() };
    let mut merged = document;
    if !call.is_null(1)
        && let Some(content) = readable(call.bytes(1), reading)?
    {
        merged = merge(Container::new(&merged)?, Container::new(&content)?)?;
    }
    let read = open::document(Container::new(&merged)?, reading)?;
    Ok(Answer::datum(read.unwrap_or_else(|| NewVarlena::of(&merged))))
}

/// The content of a blob; `None` where nothing of it may be shown. One that was gathered shows
/// envelopes; any other is a value itself, and asks for the right to it.
fn readable(blob: &[u8], reading: Reading) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let key = match value::key_of(&value::stored(blob)?) {
        Ok(key) => key,
        Err(error) if error.is_of_closed() && reading == Reading::Reveal => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let content = content(blob)?;
    if holds_only_envelopes(Container::new(&content)?) {
        return Ok(Some(content));
    }
    let (action, outcome) = match reading {
        Reading::Decrypt => {
            key.require(Privilege::Decrypt)?;
            (Action::Decrypt, Outcome::Plain)
        }
        Reading::Reveal if key.privileges()?.contains(Privilege::Decrypt) => {
            (Action::Reveal, Outcome::Plain)
        }
        Reading::Reveal => (Action::Reveal, Outcome::Hidden),
    };
    statement::read(&key, action, outcome)?;
    Ok((outcome == Outcome::Plain).then_some(content))
}

fn holds_only_envelopes(content: Container<'_>) -> bool {
    let look = |value: Value<'_>| match value {
        Value::String(text) if is_reserved_text(text) => Ok(Change::Keep),
        Value::Container(container) if json::is_object(container) => Ok(Change::Enter(())),
        _ => Err(Error::NotSealed),
    };
    rewrite_everywhere(content, look).is_ok()
}
