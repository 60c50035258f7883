//! The bytes of the audit's events, and the hash chain over them: events are written in batches, and
//! the seal of a batch covers the batch and the seal before it (`docs/audit.md`).
//!
//! Invariant: what was sealed under a key cannot be changed, reordered, left out or continued by
//! whoever does not have that key.

use crate::framing::{self, HmacSha256, Label, sha256};
use crate::key::SecretKey;

/// Length of a seal, in bytes.
pub const SEAL_LENGTH: usize = 32;

/// HMAC-SHA-256 under the audit key or, while there is no key, SHA-256.
pub type Seal = [u8; SEAL_LENGTH];

/// The seal before the first batch.
pub const FIRST: Seal = [0; SEAL_LENGTH];

/// One column of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// SQL NULL.
    Null,
    /// A number, or a time in microseconds since 1970.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// A list of texts.
    Texts(Vec<&'a str>),
}

impl<'a> Item<'a> {
    /// A type byte, and the content behind its length.
    fn append(&self, buffer: &mut Vec<u8>) {
        match self {
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

    /// Takes the first item off `bytes`.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        match kind {
            0 => Some(Self::Null),
            1 => take_array(bytes).map(|number| Self::Number(i64::from_be_bytes(number))),
            2 => take_text(bytes).map(Self::Text),
            3 => {
                let count = u32::from_be_bytes(take_array(bytes)?);
                (0..count).map(|_| take_text(bytes)).collect::<Option<_>>().map(Self::Texts)
            }
            _ => None,
        }
    }
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*array)
}

/// Takes a part off that stands behind its length.
fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_be_bytes(take_array(bytes)?)).ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_part(bytes)?).ok()
}

/// Appends items to the record of an event, where they stand one behind the other.
pub fn append(record: &mut Vec<u8>, items: &[Item<'_>]) {
    items.iter().for_each(|item| item.append(record));
}

/// The items of a record; `None` if it is none.
pub fn items(mut record: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut items = Vec::new();
    while !record.is_empty() {
        items.push(Item::take(&mut record)?);
    }
    Some(items)
}

/// Most bytes of records in a batch: more than are ever written together.
const LONGEST: usize = 1 << 24;

/// The events of a batch as they are stored, made of their records, each behind its length: as an LZ4
/// block behind its unpacked length (4 bytes, little-endian). Events are much alike.
pub fn pack(records: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress_prepend_size(records)
}

/// The records of a batch, each of which stands behind its length; `None` if it is no batch.
pub fn unpack(events: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = lz4_flex::block::uncompressed_size(events).ok()?;
    // the length may be forged
    let records = lz4_flex::block::decompress(block, length.min(LONGEST)).ok()?;
    (records.len() == length).then_some(records)
}

/// Single records out of those that each stand behind its length; `None` if these are none.
pub fn records(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        records.push(take_part(&mut bytes)?);
    }
    Some(records)
}

/// Events that are sealed together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Number of the first event.
    pub first: i64,
    /// Number of the last event.
    pub last: i64,
    /// When it was sealed, in microseconds since 1970.
    pub sealed_at: i64,
    /// The key of the seal, or 0.
    pub key_id: i64,
    /// The events, packed.
    pub events: &'a [u8],
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

    /// The seal of a batch, given the one before it.
    pub fn batch(&self, previous: &Seal, batch: &Batch<'_>) -> Seal {
        let Batch { first, last, sealed_at, key_id, events } = batch;
        let [first, last, sealed_at, key_id] =
            [first, last, sealed_at, key_id].map(|number| number.to_be_bytes());
        self.hash(Label::AuditBatch, &[previous, &first, &last, &sealed_at, &key_id, events])
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
    use proptest::prelude::*;

    use super::*;

    fn record(items: &[Item<'_>]) -> Vec<u8> {
        let mut record = Vec::new();
        append(&mut record, items);
        record
    }

    fn sealer() -> Sealer {
        Sealer::new(Some(&SecretKey::from_bytes(&mut [7; 32])))
    }

    #[test]
    fn different_batches_have_different_seals() {
        let batch = Batch { first: 1, last: 2, sealed_at: 3, key_id: 4, events: b"5" };
        let batches = [
            batch,
            Batch { first: 2, ..batch },
            Batch { last: 1, ..batch },
            Batch { sealed_at: 4, ..batch },
            Batch { key_id: 3, ..batch },
            Batch { events: b"", ..batch },
            Batch { events: b"55", ..batch },
        ];
        let mut seals = Vec::new();
        for sealer in [sealer(), Sealer::new(None)] {
            for previous in [FIRST, [1; SEAL_LENGTH]] {
                seals.extend(batches.iter().map(|batch| sealer.batch(&previous, batch)));
                for number in [1, 2] {
                    seals.push(sealer.head(number, &previous));
                    seals.push(sealer.start(number, &previous));
                }
            }
        }
        let made = seals.len();
        seals.sort_unstable();
        seals.dedup();
        assert_eq!((made, seals.len()), (44, 44));
    }

    /// Computed with Python's hmac and struct after `docs/audit.md`.
    #[test]
    fn known_answer() {
        let record = record(&[
            Item::Number(-1),
            Item::Null,
            Item::Text("lead.ssn"),
            Item::Texts(vec!["user:42", "user:43"]),
        ]);
        let mut events = Vec::new();
        framing::append(&mut events, &[&record]);
        let batch = Batch { first: 1, last: 1, sealed_at: 3, key_id: 4, events: &events };
        let seal = sealer().batch(&FIRST, &batch);
        assert_eq!(hex(&seal), "bfcce11c8d9f35534de1a98156b65970ecc540514147c85cd1b6d0f2a251e93a");
        assert_eq!(
            hex(&sealer().head(1, &seal)),
            "228325a2778629ea3fb409d496c60c1d53e93a3111a1770f6928e623800bba0e"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        base16ct::lower::encode_string(bytes)
    }

    fn item() -> impl Strategy<Value = Owned> {
        prop_oneof![
            Just(Owned::Null),
            any::<i64>().prop_map(Owned::Number),
            any::<String>().prop_map(Owned::Text),
            prop::collection::vec(any::<String>(), 0..5).prop_map(Owned::Texts),
        ]
    }

    #[derive(Clone, Debug)]
    enum Owned {
        Null,
        Number(i64),
        Text(String),
        Texts(Vec<String>),
    }

    impl Owned {
        fn item(&self) -> Item<'_> {
            match self {
                Self::Null => Item::Null,
                Self::Number(number) => Item::Number(*number),
                Self::Text(text) => Item::Text(text),
                Self::Texts(texts) => Item::Texts(texts.iter().map(String::as_str).collect()),
            }
        }
    }

    /// Made with Python's lz4 after `docs/audit.md`.
    #[test]
    fn packed_elsewhere() {
        let events = "36000000b30000000c20757365723a3107000f12000c507365723a31";
        let records = b"\0\0\0\x0c user:1 user:1".repeat(3);
        let events = base16ct::lower::decode_vec(events).unwrap_or_default();
        assert_eq!(unpack(&events), Some(records));
    }

    #[test]
    fn nothing_too_long_is_unpacked() {
        assert_eq!(unpack(&pack(b"")), Some(Vec::new()));
        assert_eq!(unpack(&pack(&vec![0; LONGEST])).map(|records| records.len()), Some(LONGEST));
        assert_eq!(unpack(&pack(&vec![0; LONGEST + 1])), None);
        assert_eq!(unpack(&[255; 100]), None);
    }

    proptest! {
        #[test]
        fn packed_is_unpacked(records in prop::collection::vec(0..9_u8, 0..2_000)) {
            prop_assert_eq!(unpack(&pack(&records)), Some(records));
        }

        /// Forged bytes raise no error but "not a batch".
        #[test]
        fn anything_may_be_unpacked(length in 0..200_u32, block in prop::collection::vec(any::<u8>(), 0..100)) {
            let forged = [&length.to_le_bytes()[..], &block].concat();
            if let Some(records) = unpack(&forged) {
                prop_assert_eq!(records.len(), length as usize);
            }
        }

        /// What is written is read again, and nothing shorter is a record or a batch of the same.
        #[test]
        fn records_are_read_as_written(
            events in prop::collection::vec(prop::collection::vec(item(), 1..6), 1..5),
        ) {
            let events: Vec<Vec<Item<'_>>> =
                events.iter().map(|event| event.iter().map(Owned::item).collect()).collect();
            let mut batch = Vec::new();
            for event in &events {
                framing::append(&mut batch, &[&record(event)]);
            }
            let read = |batch| -> Option<Vec<_>> { records(batch)?.into_iter().map(items).collect() };
            let written = read(&batch);
            prop_assert_eq!(written.as_ref(), Some(&events));
            for length in 0..batch.len() {
                prop_assert_ne!(read(&batch[..length]), Some(events.clone()));
            }
        }

        /// Bytes that are nothing are refused, or are read as something that is written so.
        #[test]
        fn bytes_have_one_reading(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(items) = items(&bytes) {
                prop_assert_eq!(record(&items), bytes);
            }
        }
    }
}
