//! The functions of the audit that are called in SQL.

use fieldcrypt_core::audit::{self, SEAL_LENGTH, Seal};
use pgrx::datum::DatumWithOid;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::change::{self, About};
use super::event::{EPOCH, Event};
use super::ring::Ring;
use super::{Mode, chain, statement, verify};
use crate::access::roles::{AUDITOR, KEY_ADMIN, require_role};
use crate::call::{Answer, Call, Rows};
use crate::catalog::write;
use crate::error::{Error, Result};
use crate::guc::{self, Actor, LONGEST_ACTOR};

type Answered = std::result::Result<Answer, ErrorReport>;

/// What an exported head begins with.
const HEAD: &str = "fca1:";

/// `set_actor(id text, name text, address text, action text)`: for this transaction.
#[pg_extern(sql = false)]
fn set_actor(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    // for whom it acted until now
    statement::hand_over();
    for (index, part) in Actor::ALL.into_iter().enumerate() {
        let text = call.optional_text(index)?.unwrap_or_default();
        if text.len() > LONGEST_ACTOR {
            let hint = format!("It has at most {LONGEST_ACTOR} bytes.");
            return Err(Error::InvalidArgument { name: part.name(), hint }.into());
        }
        guc::set_actor(part, &text)?;
    }
    Ok(Answer::datum(Datum::null()))
}

/// `flush_audit()`: returns once all that was handed over before is in the table.
#[pg_extern(sql = false)]
fn flush_audit(_fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    if let Some(ring) = Ring::of_database() {
        ring.wait_for(ring.head())?;
    }
    Ok(Answer::datum(Datum::null()))
}

/// `audit_state() → text`: what `audit_status()` shows, as JSON.
#[pg_extern(sql = false)]
fn audit_state(_fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    require_role(AUDITOR, "audit_status")?;
    let ring = Ring::of_database();
    let status = ring.map(|ring| ring.status());
    let mode = guc::audit();
    let sink = match ring {
        _ if mode == Mode::Off => "none",
        Some(_) => "table",
        None => "log",
    };
    let head = chain::head()?;
    let state = serde_json::json!({
        "mode": mode.name(),
        "sink": sink,
        "worker": status.as_ref().map(|status| status.worker).filter(|&worker| worker != 0),
        "waiting": status.as_ref().map(|status| status.waiting),
        "capacity": ring.map(|ring| ring.capacity()),
        "lost": status.as_ref().map(|status| status.lost),
        "seq": head.map(|head| head.seq),
    });
    Ok(Answer::text(&state.to_string()))
}

/// `audit_head() → text`: how far the audit has come, to be kept elsewhere.
#[pg_extern(sql = false)]
fn audit_head(_fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    require_role(AUDITOR, "audit_head")?;
    let head = chain::head()?;
    Ok(head.map_or(Answer::NULL, |head| {
        Answer::text(&format!("{HEAD}{}:{}", head.seq, String::from(head.seal)))
    }))
}

/// `audit_findings(head text) → text`: what `verify_audit()` shows, as JSON.
#[pg_extern(sql = false)]
fn audit_findings(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    require_role(AUDITOR, "verify_audit")?;
    let head = Call::new(fcinfo).optional_text(0)?.map(|head| parse_head(&head)).transpose()?;
    let findings = verify::verify(head)?;
    let findings = serde_json::to_string(&findings).map_err(|_| Error::Catalog("finding"))?;
    Ok(Answer::text(&findings))
}

fn parse_head(head: &str) -> Result<(i64, Seal)> {
    let parse = || {
        let (seq, seal) = head.strip_prefix(HEAD)?.split_once(':')?;
        let mut bytes = [0; SEAL_LENGTH];
        let decoded = base16ct::lower::decode(seal, &mut bytes).ok()?.len();
        (decoded == SEAL_LENGTH).then_some((seq.parse().ok()?, bytes))
    };
    let hint = || "It is what audit_head() has returned.".to_owned();
    parse().ok_or_else(|| Error::InvalidArgument { name: "head", hint: hint() })
}

/// `audit_events(first_seq bigint, events bytea) → SETOF record`: the events of a batch, as
/// `fieldcrypt.audit` shows them.
#[pg_extern(sql = false)]
fn audit_events(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let (first, rows) = (call.bigint(0), Rows::of(fcinfo));
    let unreadable = || Error::AuditBatch(first);
    let records = audit::unpack(call.bytes(1)).ok_or_else(unreadable)?;
    let records = audit::records(&records).ok_or_else(unreadable)?;
    // what it would end with
    first.checked_add(records.len() as i64).ok_or_else(unreadable)?;
    for (seq, record) in (first..).zip(records) {
        let event = Event::of_record(record).ok_or_else(unreadable)?;
        let origin = &event.origin;
        let text = |text: &Option<String>| Answer::optional_text(text.as_deref());
        rows.push([
            seq.into(),
            time(event.at),
            Answer::text(&event.action),
            Answer::text(&event.outcome),
            text(&event.field),
            text(&event.account),
            event.count.map_or(Answer::NULL, Answer::from),
            text(&event.detail),
            text(&origin.session_role),
            text(&origin.set_role),
            text(&origin.acting_role),
            text(&origin.client_address),
            text(&origin.application_name),
            text(&origin.actor_id),
            text(&origin.actor_name),
            text(&origin.actor_address),
            text(&origin.actor_action),
            event.entities.as_deref().map_or(Answer::NULL, Answer::texts),
            event.pid.into(),
            time(event.statement_at),
            event.id.into(),
        ]);
    }
    Ok(Answer::NULL)
}

/// A timestamptz, given in microseconds since 1970.
fn time(microseconds: i64) -> Answer {
    Answer::datum(Datum::from(microseconds.saturating_sub(EPOCH)))
}

/// `drop_audit(before timestamptz) → bigint`: drops the partitions that end before; returns how
/// many events were in them.
#[pg_extern(sql = false)]
fn drop_audit(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "drop_audit")?;
    // SAFETY: the declaration says timestamptz, and STRICT
    let before = || unsafe { DatumWithOid::new(call.datum(0), pg_sys::TIMESTAMPTZOID) };
    let (key_id, sealer) = chain::sealer()?;
    if key_id == 0 {
        return Err(Error::AuditUnavailable.into());
    }
    // before anything is locked: in strict mode it waits for the worker, which writes to the table
    let time =
        write::texts("SELECT pg_catalog.to_json($1) OPERATOR(pg_catalog.#>>) '{}'", &[before()])?;
    let detail = Some(format!("before {}", time.concat()));
    change::begins("drop_audit", About { detail, ..About::default() })?;
    let dropped = write::texts("SELECT fieldcrypt.drop_audit_partitions($1)::text", &[before()])?;
    let Some(dropped) = dropped.first() else { return Ok(0_i64.into()) };
    let dropped: Dropped = chain::parse(dropped)?;
    write::run(
        "INSERT INTO fieldcrypt.audit_start (seq, seal, key_id, tag) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (one_row) DO UPDATE SET seq = EXCLUDED.seq, seal = EXCLUDED.seal, \
         key_id = EXCLUDED.key_id, tag = EXCLUDED.tag",
        &[
            dropped.seq.into(),
            dropped.seal.0.as_slice().into(),
            key_id.into(),
            sealer.start(dropped.seq, &dropped.seal.0).as_slice().into(),
        ],
    )?;
    change::add_detail(&format!("{} events, up to number {}", dropped.events, dropped.seq));
    Ok(dropped.events.into())
}

/// What `drop_audit_partitions()` has dropped: how many events, and the last of them.
#[derive(serde::Deserialize)]
struct Dropped {
    events: i64,
    seq: i64,
    seal: chain::Hex,
}
