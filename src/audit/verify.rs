//! Whether the audit is whole.

use std::collections::HashMap;

use fieldcrypt_core::audit::{self, FIRST, Seal, Sealer};
use fieldcrypt_core::field::DATABASE_ACCOUNT;
use fieldcrypt_core::key::Purpose;
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::chain::{self, Mark, Row};
use super::event::Event;
use super::ring::{Head, Ring};
use crate::catalog::key::StoredKey;
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::keyring::locked::Locked;

/// Batches that are read at once. One has a megabyte in hexadecimal at most.
const CHUNK: i64 = 32;

/// A row of what `verify_audit()` returns.
#[derive(Serialize)]
pub struct Finding {
    ok: bool,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    finding: String,
}

/// What every row has, whatever was done to it.
#[derive(Deserialize)]
struct Numbered {
    first_seq: i64,
}

/// What the walk has seen of a number for which the seal was asked.
#[derive(Clone, Copy)]
enum Asked {
    /// No such event.
    Nothing,
    /// An event that is not the last of a batch, or one whose seal is not known.
    Other,
    /// The last event of a batch with that seal.
    Sealed(Seal),
}

/// The walk along the chain.
struct Walk {
    sealers: HashMap<i64, Option<Locked<Sealer>>>,
    findings: Vec<Finding>,
    /// The first number in the row that was read last.
    read_to: Option<i64>,
    /// The first event there is.
    first: Option<i64>,
    /// The last event of the batch before, and its seal unless that is not known.
    seq: i64,
    seal: Option<Seal>,
    key_id: i64,
    /// The numbers for which a seal was asked, such as one that was exported.
    asked: HashMap<i64, Asked>,
}

/// Walks along the whole chain. `head` is one that was exported.
pub fn verify(head: Option<(i64, Seal)>) -> Result<Vec<Finding>> {
    // SAFETY: a variable of the only thread
    if unsafe { pg_sys::XactIsoLevel } > pg_sys::XACT_READ_COMMITTED as i32 {
        return Err(Error::AuditSnapshot);
    }
    let table = chain::table()?;
    let ring = Ring::of_database();
    if let Some(ring) = ring {
        ring.wait_for(ring.head())?;
    }
    let seen = ring.and_then(|ring| ring.status().seen).filter(|seen| seen.table == table);
    // SAFETY: the table exists; nothing is dropped from it until the transaction ends
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32) };
    let mut walk = Walk {
        sealers: HashMap::new(),
        findings: Vec::new(),
        read_to: None,
        first: None,
        seq: 0,
        seal: Some(FIRST),
        key_id: 0,
        asked: head.into_iter().map(|(seq, _)| (seq, Asked::Nothing)).collect(),
    };
    walk.asked.extend(seen.map(|seen| (seen.seq, Asked::Nothing)));
    walk.begin()?;
    walk.find_unnumbered()?;
    let end = walk.read_on()?;
    walk.end(end)?;
    if let Some(Head { seq, seal, .. }) = seen {
        walk.compare(seq, &seal, "the server's memory");
    }
    if let Some((seq, seal)) = head {
        walk.compare(seq, &seal, "the head that was given");
    }
    if walk.findings.is_empty() {
        walk.findings.push(Finding {
            ok: true,
            first_seq: walk.first,
            last_seq: walk.first.map(|_| walk.seq),
            finding: "the audit is whole".to_owned(),
        });
    }
    Ok(walk.findings)
}

impl Walk {
    fn find(&mut self, first: i64, last: i64, finding: &str) {
        self.findings.push(Finding {
            ok: false,
            first_seq: Some(first),
            last_seq: Some(last),
            finding: finding.to_owned(),
        });
    }

    /// What makes the seals of a key; `None` if the key cannot be had.
    fn sealer(&mut self, key_id: i64) -> Option<&Locked<Sealer>> {
        self.sealers.entry(key_id).or_insert_with(|| chain::sealer_of(key_id).ok()).as_ref()
    }

    /// Begins where the chain was dropped up to.
    fn begin(&mut self) -> Result<()> {
        let Some(start) = chain::start()? else { return Ok(()) };
        let tag = self.sealer(start.key_id).map(|sealer| sealer.start(start.seq, &start.seal.0));
        if start.key_id == 0 || tag != Some(start.tag.0) {
            self.find(1, start.seq, "what says that these events were dropped is forged");
        }
        (self.seq, self.seal) = (start.seq, Some(start.seal.0));
        self.note_asked(start.seq);
        Ok(())
    }

    /// Rows that are in no order.
    fn find_unnumbered(&mut self) -> Result<()> {
        let query = "SELECT 'one' FROM fieldcrypt.audit_batch WHERE first_seq IS NULL LIMIT 1";
        if !write::texts(query, &[])?.is_empty() {
            self.find(0, 0, "events were added");
        }
        Ok(())
    }

    /// Walks to the end, and returns what is recorded of it.
    fn read_on(&mut self) -> Result<Option<Mark>> {
        let mut before = None;
        loop {
            let head = chain::head()?;
            while self.read()? {}
            let seq = head.as_ref().map_or(0, |head| head.seq);
            // what is written meanwhile comes with a head of its own
            if seq >= self.seq || before.replace(seq) == Some(seq) {
                return Ok(head);
            }
        }
    }

    /// Reads on; false if there is nothing more.
    fn read(&mut self) -> Result<bool> {
        let rows = write::texts(
            "SELECT pg_catalog.row_to_json(b)::text FROM (SELECT first_seq, last_seq, \
             fieldcrypt.audit_microseconds(sealed_at) AS sealed_at, key_id, \
             pg_catalog.encode(seal, 'hex') AS seal, pg_catalog.encode(events, 'hex') AS events \
             FROM fieldcrypt.audit_batch \
             WHERE $1 IS NULL AND first_seq IS NOT NULL OR first_seq OPERATOR(pg_catalog.>) $1 \
             ORDER BY first_seq FETCH FIRST $2 ROWS WITH TIES) AS b",
            &[self.read_to.into(), CHUNK.into()],
        )?;
        for row in &rows {
            let Numbered { first_seq } = chain::parse(row)?;
            self.read_to = Some(first_seq);
            self.step(first_seq, chain::parse(row).ok().as_ref());
        }
        Ok(!rows.is_empty())
    }

    /// Goes on to a row; `None` if no batch can be in it.
    fn step(&mut self, first: i64, row: Option<&Row>) {
        let row = row.filter(|row| row.last_seq >= first);
        let last = row.map_or(first, |row| row.last_seq);
        if first <= self.seq {
            self.find(first, last, "events were added");
            return;
        }
        if first > self.seq.saturating_add(1) {
            self.find(self.seq + 1, first - 1, "events are missing");
            self.seal = None;
        }
        self.first.get_or_insert(first);
        self.seq = last;
        let Some(row) = row else {
            self.find(first, last, "events were changed");
            self.seal = None;
            return;
        };
        // what is before the first batch that is left can be known only from where it was dropped
        let expected = self.seal.map(|previous| {
            self.sealer(row.key_id).map(|sealer| sealer.batch(&previous, &row.batch()))
        });
        match expected {
            Some(None) => self.find(first, last, "the key of the seal cannot be had"),
            Some(Some(expected)) if expected != row.seal.0 => {
                self.find(first, last, "events were changed");
            }
            // only before the first account there is no key, and nothing to read either
            _ if row.key_id == 0 && (self.key_id != 0 || tells_of_values(&row.events)) => {
                self.find(first, last, "events were sealed without a key");
            }
            _ => {}
        }
        self.seal = Some(row.seal.0);
        if row.key_id != 0 {
            self.key_id = row.key_id;
        }
        self.note_asked(first);
    }

    /// Notes what the batch that begins with `first` says of what was asked.
    fn note_asked(&mut self, first: i64) {
        for (&seq, asked) in
            self.asked.iter_mut().filter(|(seq, _)| (first..=self.seq).contains(seq))
        {
            let seal = self.seal.filter(|_| seq == self.seq);
            *asked = seal.map_or(Asked::Other, Asked::Sealed);
        }
    }

    /// Compares the end with what is recorded of it.
    fn end(&mut self, head: Option<Mark>) -> Result<()> {
        let last = self.seq;
        if let Some(first) = self.first.filter(|_| self.key_id == 0)
            && StoredKey::newest(DATABASE_ACCOUNT, Purpose::Audit)?.is_some()
        {
            self.find(first, last, "no event was sealed with a key yet");
        }
        let Some(head) = head else {
            if last > 0 {
                self.find(last, last, "what says how far the audit has come is missing");
            }
            return Ok(());
        };
        let tag = self.sealer(head.key_id).map(|sealer| sealer.head(head.seq, &head.seal.0));
        if tag != Some(head.tag.0) || head.key_id == 0 && self.key_id != 0 {
            self.find(head.seq, head.seq, "what says how far the audit has come is forged");
        } else if head.seq > last {
            self.find(last + 1, head.seq, "events are missing at the end");
        } else if head.seq < last {
            self.find(head.seq + 1, last, "events were added");
        } else if Some(head.seal.0) != self.seal {
            self.find(last, last, "events were changed");
        }
        Ok(())
    }

    /// Compares the end of a batch with what is known of it from elsewhere.
    fn compare(&mut self, seq: i64, seal: &Seal, source: &str) {
        match self.asked.get(&seq) {
            Some(Asked::Sealed(found)) if found == seal => {}
            Some(Asked::Sealed(_) | Asked::Other) => {
                self.find(seq, seq, &format!("events differ from what {source} knows"));
            }
            _ if seq > self.seq => {
                self.find(self.seq + 1, seq, &format!("events are missing that {source} knows"));
            }
            // dropped, or never there
            _ => self.find(seq, seq, &format!("there is no event to compare with {source}")),
        }
    }
}

/// Whether there is an event of values among them, or something that is no event.
fn tells_of_values(events: &[u8]) -> bool {
    let events = audit::unpack(events);
    let events = events
        .as_deref()
        .and_then(audit::records)
        .map(|records| records.into_iter().map(Event::of_record).collect::<Option<Vec<_>>>());
    !matches!(events, Some(Some(events)) if events.iter().all(|event| event.count.is_none()))
}
