//! The table of events, as the worker writes it: in batches, their events numbered without gaps, each
//! batch sealed together with the one before it.

use std::borrow::Cow;
use std::cell::RefCell;

use fieldcrypt_core::audit::{Batch, FIRST, SEAL_LENGTH, Seal, Sealer};
use fieldcrypt_core::field::DATABASE_ACCOUNT;
use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::PgOid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{self, OwnedPreparedStatement, Spi};
use serde::{Deserialize, Deserializer, Serialize};

use super::event::EPOCH;
use super::ring::Head;
use crate::catalog::invalidation;
use crate::catalog::key::StoredKey;
use crate::catalog::tables::Tables;
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::locked::Locked;
use crate::keyring::unwrap_account_key;

/// A seal as JSON holds it: in hexadecimal.
#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Seal);

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let mut seal = [0; SEAL_LENGTH];
        match base16ct::lower::decode(&text, &mut seal) {
            Ok(decoded) if decoded.len() == SEAL_LENGTH => Ok(Self(seal)),
            _ => Err("no seal"),
        }
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        base16ct::lower::encode_string(&hex.0)
    }
}

/// A row of the table, as it is read.
#[derive(Deserialize)]
pub struct Row {
    first_seq: i64,
    pub last_seq: i64,
    /// In microseconds since 1970.
    sealed_at: i64,
    /// 0 where there was no key.
    pub key_id: i64,
    pub seal: Hex,
    #[serde(deserialize_with = "from_hexadecimal")]
    pub events: Vec<u8>,
}

impl Row {
    /// What its seal covers.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            first: self.first_seq,
            last: self.last_seq,
            sealed_at: self.sealed_at,
            key_id: self.key_id,
            events: &self.events,
        }
    }
}

fn from_hexadecimal<'de, D: Deserializer<'de>>(text: D) -> std::result::Result<Vec<u8>, D::Error> {
    let text = Cow::<str>::deserialize(text)?;
    base16ct::lower::decode_vec(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// The row that says how far the chain has come, or up to where it was dropped.
#[derive(Deserialize)]
pub struct Mark {
    pub seq: i64,
    pub seal: Hex,
    pub key_id: i64,
    pub tag: Hex,
}

impl Mark {
    const NONE: Self = Self { seq: 0, seal: Hex(FIRST), key_id: 0, tag: Hex(FIRST) };
}

/// The table of this database; an error if the extension is not there.
pub fn table() -> Result<Oid> {
    Ok(Tables::get()?.audit_batch)
}

/// What seals events now, and the id of its key; without a key, or while its root is not here,
/// what makes seals without one.
pub fn sealer() -> Result<(i64, Locked<Sealer>)> {
    let generation = invalidation::generation();
    let known = SEALER.with_borrow(|known| known.clone());
    if let Some((_, key_id, sealer)) = known.filter(|(of, ..)| *of == generation) {
        return Ok((key_id, sealer));
    }
    let stored = StoredKey::newest(DATABASE_ACCOUNT, Purpose::Audit)?;
    let key = stored.and_then(|stored| Some((stored.id, unwrap_account_key(&stored).ok()?.0)));
    let Some((id, key)) = key else { return Ok((0, Locked::new(Sealer::new(None)))) };
    let (key_id, sealer) = (id.number().cast_signed(), Locked::new(Sealer::new(Some(&key))));
    SEALER.set(Some((generation, key_id, sealer.clone())));
    Ok((key_id, sealer))
}

/// What has made the seals of that key; an error if the key cannot be had.
pub fn sealer_of(key_id: i64) -> Result<Locked<Sealer>> {
    if key_id == 0 {
        return Ok(Locked::new(Sealer::new(None)));
    }
    let id = KeyId::new(key_id.cast_unsigned()).ok_or(Error::Catalog("key id"))?;
    let stored = StoredKey::find(id)?.filter(|stored| stored.purpose == Purpose::Audit);
    let (key, _) = unwrap_account_key(&stored.ok_or(Error::KeyMissing(id))?)?;
    Ok(Locked::new(Sealer::new(Some(&key))))
}

/// How far the chain has come, as its table says.
pub fn head() -> Result<Option<Mark>> {
    mark("audit_head")
}

/// Up to where it was dropped, as its table says.
pub fn start() -> Result<Option<Mark>> {
    mark("audit_start")
}

fn mark(table: &str) -> Result<Option<Mark>> {
    let statement = format!(
        "SELECT pg_catalog.json_build_object('seq', m.seq, 'seal', pg_catalog.encode(m.seal, 'hex'), \
         'key_id', m.key_id, 'tag', pg_catalog.encode(m.tag, 'hex'))::text FROM fieldcrypt.{table} AS m"
    );
    let rows = write::texts(&statement, &[])?;
    // one that cannot be read says nothing, and its tag is wrong
    Ok(rows.first().map(|row| parse(row).unwrap_or(Mark::NONE)))
}

/// What a query has returned as JSON.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|_| Error::Catalog("row of the audit"))
}

/// Appends a batch of `count` events to the chain, in the current transaction. `sealed_at` is in
/// microseconds since 1970. `seen` is what the worker knows the chain to have come to, which counts
/// more than what its table says.
pub fn append(events: &[u8], count: i64, sealed_at: i64, seen: Option<Head>) -> Result<Head> {
    let table = table()?;
    let mut head = match seen {
        Some(seen) if seen.table == table => seen,
        _ => match head()? {
            Some(mark) => Head { table, seq: mark.seq, seal: mark.seal.0 },
            None => Head { table, seq: 0, seal: FIRST },
        },
    };
    let (key_id, sealer) = sealer()?;
    let first = head.seq + 1;
    head.seq += count;
    let batch = Batch { first, last: head.seq, sealed_at, key_id, events };
    head.seal = sealer.batch(&head.seal, &batch);
    let tag = sealer.head(head.seq, &head.seal);
    write(&[
        first.into(),
        head.seq.into(),
        // SAFETY: a timestamptz is a number of microseconds since 2000
        unsafe { DatumWithOid::new(sealed_at - EPOCH, pg_sys::TIMESTAMPTZOID) },
        key_id.into(),
        head.seal.as_slice().into(),
        events.into(),
        tag.as_slice().into(),
    ])?;
    Ok(head)
}

/// Runs [`APPEND`], which is planned once.
fn write(parameters: &[DatumWithOid<'_>]) -> Result<()> {
    let written = Spi::connect_mut(|client| {
        PLANNED.with_borrow_mut(|known| {
            let statement = match known.take() {
                Some(statement) => statement,
                None => {
                    let types: Vec<_> =
                        parameters.iter().map(|parameter| PgOid::from(parameter.oid())).collect();
                    client.prepare_mut(APPEND, &types)?.keep()
                }
            };
            client.update(&statement, None, parameters)?;
            *known = Some(statement);
            Ok::<_, spi::Error>(())
        })
    });
    written.map_err(|_| Error::Catalog("batch of the audit"))
}

/// Adds a batch, and records how far the chain has come.
const APPEND: &str = "WITH batch AS (INSERT INTO fieldcrypt.audit_batch \
    (first_seq, last_seq, sealed_at, key_id, seal, events) VALUES ($1, $2, $3, $4, $5, $6)) \
    INSERT INTO fieldcrypt.audit_head (seq, seal, key_id, tag) VALUES ($2, $5, $4, $7) \
    ON CONFLICT (one_row) DO UPDATE SET seq = EXCLUDED.seq, seal = EXCLUDED.seal, \
    key_id = EXCLUDED.key_id, tag = EXCLUDED.tag";

thread_local! {
    /// What seals events, in a generation of the catalog, with the id of its key.
    static SEALER: RefCell<Option<(u64, i64, Locked<Sealer>)>> = const { RefCell::new(None) };
    static PLANNED: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
}
