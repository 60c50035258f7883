//! The table of events, as the worker writes it: numbered without gaps, each event sealed together
//! with the one before it.

use fieldcrypt_core::audit::{FIRST, SEAL_LENGTH, Seal, Sealer};
use fieldcrypt_core::field::DATABASE_ACCOUNT;
use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::pg_sys::Oid;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::ring::Head;
use crate::catalog::key::StoredKey;
use crate::catalog::tables::Tables;
use crate::catalog::write;
use crate::encoding;
use crate::error::{Error, Result};
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

/// A row of the table.
#[derive(Serialize, Deserialize)]
pub struct Row {
    pub seq: i64,
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

/// The columns of [`Row`], as `json_to_recordset` is to read them.
const COLUMNS: &str = "seq bigint, sealed_at bigint, key_id bigint, seal text, at bigint, \
    action text, outcome text, field text, account text, count bigint, detail text, \
    session_role text, set_role text, acting_role text, client_address text, \
    application_name text, actor_id text, actor_name text, actor_address text, \
    actor_action text, entities text[], pid bigint, statement_at bigint, id bigint";

/// The table of this database; an error if the extension is not there.
pub fn table() -> Result<Oid> {
    Ok(Tables::get()?.audit_event.table)
}

/// What seals events now, and the id of its key; without a key, or while its root is not here,
/// what makes seals without one.
pub fn sealer() -> Result<(i64, Sealer)> {
    let Some(stored) = StoredKey::newest(DATABASE_ACCOUNT, Purpose::Audit)? else {
        return Ok((0, Sealer::new(None)));
    };
    Ok(match unwrap_account_key(&stored) {
        Ok(key) => (stored.id.number().cast_signed(), Sealer::new(Some(&key))),
        Err(_) => (0, Sealer::new(None)),
    })
}

/// What has made the seals of that key; an error if the key cannot be had.
pub fn sealer_of(key_id: i64) -> Result<Sealer> {
    if key_id == 0 {
        return Ok(Sealer::new(None));
    }
    let id = KeyId::new(key_id.cast_unsigned()).ok_or(Error::Catalog("key id"))?;
    let stored = StoredKey::find(id)?.filter(|stored| stored.purpose == Purpose::Audit);
    let key = unwrap_account_key(&stored.ok_or(Error::KeyMissing(id))?)?;
    Ok(Sealer::new(Some(&key)))
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
pub fn append(events: Vec<Event>, seen: Option<Head>) -> Result<Head> {
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
    let rows: Vec<Row> = events
        .into_iter()
        .map(|event| {
            head.seq += 1;
            head.seal = sealer.event(&head.seal, head.seq, &event.items(sealed_at, key_id));
            Row { seq: head.seq, sealed_at, key_id, seal: Hex(head.seal), event }
        })
        .collect();
    insert(&rows)?;
    write::run(
        "INSERT INTO fieldcrypt.audit_head (seq, seal, key_id, tag) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (one_row) DO UPDATE SET seq = EXCLUDED.seq, seal = EXCLUDED.seal, \
         key_id = EXCLUDED.key_id, tag = EXCLUDED.tag",
        &[
            head.seq.into(),
            head.seal.as_slice().into(),
            key_id.into(),
            sealer.head(head.seq, &head.seal).as_slice().into(),
        ],
    )?;
    Ok(head)
}

fn insert(rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string(rows).map_err(|_| Error::Catalog("row of the audit"))?;
    let statement = format!(
        "INSERT INTO fieldcrypt.audit_event (seq, sealed_at, key_id, seal, at, action, outcome, \
         field, account, count, detail, session_role, set_role, acting_role, client_address, \
         application_name, actor_id, actor_name, actor_address, actor_action, entities, pid, \
         statement_at, id) \
         SELECT e.seq, fieldcrypt.audit_time(e.sealed_at), e.key_id, pg_catalog.decode(e.seal, 'hex'), \
         fieldcrypt.audit_time(e.at), e.action, e.outcome, e.field, e.account, e.count, e.detail, \
         e.session_role, e.set_role, e.acting_role, e.client_address, e.application_name, \
         e.actor_id, e.actor_name, e.actor_address, e.actor_action, e.entities, e.pid, \
         fieldcrypt.audit_time(e.statement_at), e.id \
         FROM pg_catalog.json_to_recordset($1::json) AS e ({COLUMNS})"
    );
    // SAFETY: a text datum, which lives as long as the transaction
    let json = unsafe {
        pgrx::datum::DatumWithOid::new(encoding::from_utf8(&json), pgrx::pg_sys::TEXTOID)
    };
    write::run(&statement, &[json]).map(|_| ())
}
