//! The hash chain of the audit: the seal of an event covers the event and the seal before it
//! (`docs/audit.md`).
//!
//! Invariant: what was sealed under a key cannot be changed, reordered, left out or continued by
//! whoever does not have that key.

use crate::framing::{self, HmacSha256, Label, sha256};
use crate::key::SecretKey;

/// Length of a seal, in bytes.
pub const SEAL_LENGTH: usize = 32;

/// HMAC-SHA-256 under the audit key or, while there is no key, SHA-256.
pub type Seal = [u8; SEAL_LENGTH];

/// The seal before the first event.
pub const FIRST: Seal = [0; SEAL_LENGTH];

/// One column of an event.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// SQL NULL.
    Null,
    /// A number, or a time in microseconds since 1970.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// A list of texts.
    Texts(&'a [String]),
}

impl Item<'_> {
    /// A type byte, and the content behind its length.
    fn append(&self, buffer: &mut Vec<u8>) {
        match *self {
            Self::Null => buffer.push(0),
            Self::Number(number) => {
                buffer.push(1);
                buffer.extend_from_slice(&number.to_be_bytes());
            }
            Self::Text(text) => {
                buffer.push(2);
                framing::append(buffer, &[text.as_bytes()]);
            }
            Self::Texts(texts) => {
                buffer.push(3);
                buffer.extend_from_slice(&(texts.len() as u32).to_be_bytes());
                texts.iter().for_each(|text| framing::append(buffer, &[text.as_bytes()]));
            }
        }
    }
}

/// Makes and checks the seals of one key, or of none.
#[derive(Debug)]
pub struct Sealer(Option<HmacSha256>);

impl Sealer {
    /// Seals under a key; without one a seal can be made by everyone, and counts only once a seal
    /// under a key has followed it.
    pub fn new(key: Option<&SecretKey>) -> Self {
        Self(key.map(|key| HmacSha256::new(key.as_bytes())))
    }

    fn hash(&self, label: Label, parts: &[&[u8]]) -> Seal {
        match &self.0 {
            Some(hmac) => hmac.tag(label, parts),
            None => sha256(label, parts),
        }
    }

    /// The seal of the event with that number, given the one before it.
    pub fn event(&self, previous: &Seal, number: i64, items: &[Item<'_>]) -> Seal {
        let mut content = Vec::with_capacity(512);
        items.iter().for_each(|item| item.append(&mut content));
        self.hash(Label::AuditEvent, &[previous, &number.to_be_bytes(), &content])
    }

    /// What proves that the chain has come to the event with that number and seal.
    pub fn head(&self, number: i64, seal: &Seal) -> Seal {
        self.hash(Label::AuditHead, &[&number.to_be_bytes(), seal])
    }

    /// What proves that the events up to the one with that number and seal were dropped.
    pub fn start(&self, number: i64, seal: &Seal) -> Seal {
        self.hash(Label::AuditStart, &[&number.to_be_bytes(), seal])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(Some(&SecretKey::from_bytes(&mut [7; 32])))
    }

    #[test]
    fn different_events_have_different_seals() {
        let ab = ["a".to_owned(), "b".to_owned()];
        let joined = ["ab".to_owned()];
        let events: [&[Item<'_>]; 9] = [
            &[],
            &[Item::Null],
            &[Item::Text("")],
            &[Item::Texts(&[])],
            &[Item::Number(0)],
            &[Item::Text("ab"), Item::Text("c")],
            &[Item::Text("a"), Item::Text("bc")],
            &[Item::Texts(&ab)],
            &[Item::Texts(&joined)],
        ];
        let mut seals = Vec::new();
        for sealer in [sealer(), Sealer::new(None)] {
            for previous in [FIRST, [1; SEAL_LENGTH]] {
                for number in [1, 2] {
                    seals.extend(events.iter().map(|event| sealer.event(&previous, number, event)));
                    seals.push(sealer.head(number, &previous));
                    seals.push(sealer.start(number, &previous));
                }
            }
        }
        let made = seals.len();
        seals.sort_unstable();
        seals.dedup();
        assert_eq!((made, seals.len()), (88, 88));
    }

    /// Computed with Python's hmac and struct after `docs/audit.md`.
    #[test]
    fn known_answer() {
        let entities = ["user:42".to_owned(), "user:43".to_owned()];
        let items = [Item::Number(-1), Item::Null, Item::Text("lead.ssn"), Item::Texts(&entities)];
        let seal = sealer().event(&FIRST, 1, &items);
        assert_eq!(hex(&seal), "fbe6b5f6b758cbee261d6130a8f2541473a84a525f9ba2d07dba3d0c34abf46b");
        assert_eq!(
            hex(&sealer().head(1, &seal)),
            "5b5ce3ddb21c4d01df50daa77c94302c963861215b714318acd227e00934d8f2"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        base16ct::lower::encode_string(bytes)
    }
}
