//! The table of events, as the worker writes it: numbered without gaps, each event sealed together
//! with the one before it.

use std::cell::RefCell;

use fieldcrypt_core::audit::{FIRST, Item, SEAL_LENGTH, Seal, Sealer};
use fieldcrypt_core::field::DATABASE_ACCOUNT;
use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::PgOid;
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{self, OwnedPreparedStatement, Spi};
use serde::{Deserialize, Serialize};

use super::event::{Event, ITEMS, KEY_ID, TIMES};
use super::ring::Head;
use super::table::Rows;
use crate::catalog::invalidation;
use crate::catalog::key::StoredKey;
use crate::catalog::tables::Tables;
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::locked::Locked;
use crate::keyring::unwrap_account_key;

/// Bytes as JSON holds them: in hexadecimal.
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
    /// In microseconds since 1970.
    pub sealed_at: i64,
    /// 0 where there was no key.
    pub key_id: i64,
    pub seal: Hex,
    #[serde(flatten)]
    pub event: Event,
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
    Ok(Tables::get()?.audit_event.table)
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

/// Appends events to the chain, in the current transaction. `seen` is what the worker knows it to
/// have come to, which counts more than what its table says.
pub fn append(events: &[Event], seen: Option<Head>) -> Result<Head> {
    let table = table()?;
    let mut head = match seen {
        Some(seen) if seen.table == table => seen,
        _ => match head()? {
            Some(mark) => Head { table, seq: mark.seq, seal: mark.seal.0 },
            None => Head { table, seq: 0, seal: FIRST },
        },
    };
    let (key_id, sealer) = sealer()?;
    let sealed_at = Event::of_the_system("", "").at;
    let mut rows = Rows::with_capacity(events.len());
    for event in events {
        let items = event.items(sealed_at, key_id);
        head.seq += 1;
        head.seal = sealer.event(&head.seal, head.seq, &items);
        row(&mut rows, &head, &items);
    }
    rows.write(table);
    mark_head(&head, key_id, &sealer.head(head.seq, &head.seal))?;
    Ok(head)
}

/// Records how far the chain has come. The statement is planned once.
fn mark_head(head: &Head, key_id: i64, tag: &Seal) -> Result<()> {
    let parameters =
        [head.seq.into(), head.seal.as_slice().into(), key_id.into(), tag.as_slice().into()];
    let mark = Spi::connect_mut(|client| {
        MARK_HEAD.with_borrow_mut(|known| {
            let statement = match known.take() {
                Some(statement) => statement,
                None => {
                    let types =
                        [pg_sys::INT8OID, pg_sys::BYTEAOID, pg_sys::INT8OID, pg_sys::BYTEAOID];
                    client.prepare_mut(INSERT_HEAD, &types.map(PgOid::from))?.keep()
                }
            };
            client.update(&statement, None, &parameters)?;
            *known = Some(statement);
            Ok::<_, spi::Error>(())
        })
    });
    mark.map_err(|_| Error::Catalog("head of the audit"))
}

const INSERT_HEAD: &str = "INSERT INTO fieldcrypt.audit_head (seq, seal, key_id, tag) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (one_row) DO UPDATE SET seq = EXCLUDED.seq, \
    seal = EXCLUDED.seal, key_id = EXCLUDED.key_id, tag = EXCLUDED.tag";

thread_local! {
    /// What seals events, in a generation of the catalog, with the id of its key.
    static SEALER: RefCell<Option<(u64, i64, Locked<Sealer>)>> = const { RefCell::new(None) };
    static MARK_HEAD: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
}

/// Adds a row with its columns in the order of the table.
fn row(rows: &mut Rows, head: &Head, items: &[Item<'_>; ITEMS]) {
    rows.begin(ITEMS + 2);
    rows.item(&Item::Number(head.seq));
    for (index, item) in items.iter().enumerate() {
        match *item {
            Item::Number(time) if TIMES.contains(&index) => rows.time(time),
            _ => rows.item(item),
        }
        // the seal stands behind what says by which key it was made
        if index == KEY_ID {
            rows.bytes(&head.seal);
        }
    }
}
