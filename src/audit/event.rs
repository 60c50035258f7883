//! One event: what happened, to what, by whom.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::rc::Rc;

use fieldcrypt_core::audit::{self, Item};
use pgrx::pg_sys::{self, Oid};
use serde::Serialize;

use crate::backend;
use crate::catalog::invalidation;
use crate::compat;
use crate::encoding;
use crate::guc::{self, Actor};

/// How many items an event has.
const ITEMS: usize = 20;

/// From 1970 to 2000, where PostgreSQL's timestamps begin, in microseconds.
pub const EPOCH: i64 = 946_684_800_000_000;

/// From the year 1 to the year 9999, in microseconds since 1970.
const TIMES: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Longest text of which no other limit is known, in bytes: with it every event fits into the smallest
/// ring.
const LONGEST_TEXT: usize = 500;

/// As much of a text as an event holds.
pub fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// Room for most records, in bytes.
const USUAL_LENGTH: usize = 256;

/// An event, as it is in the log (as JSON) and, as a record, in the ring and in
/// `fieldcrypt.audit_batch`. Times are in microseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub at: i64,
    pub action: Cow<'static, str>,
    pub outcome: Cow<'static, str>,
    pub field: Option<String>,
    pub account: Option<String>,
    pub count: Option<i64>,
    pub detail: Option<String>,
    #[serde(flatten)]
    pub origin: Rc<Origin>,
    pub entities: Option<Vec<String>>,
    pub pid: i64,
    pub statement_at: i64,
    /// The same in the event that opens a read and the one that closes it.
    pub id: i64,
}

impl Event {
    /// An event that happens now, by the current user.
    pub fn now(action: impl Into<Cow<'static, str>>, outcome: &'static str) -> Self {
        Self { origin: Origin::current(), ..Self::of_the_system(action, outcome) }
    }

    /// An event that nobody has caused.
    pub fn of_the_system(action: impl Into<Cow<'static, str>>, outcome: &'static str) -> Self {
        let now = backend::now();
        Self {
            at: now + EPOCH,
            action: action.into(),
            outcome: Cow::Borrowed(outcome),
            field: None,
            account: None,
            count: None,
            detail: None,
            origin: NOBODY.with(Rc::clone),
            entities: None,
            pid: i64::from(backend::process()),
            statement_at: backend::statement_start() + EPOCH,
            // unique as long as a process makes one per microsecond
            id: (now << 20) ^ i64::from(backend::process()),
        }
    }

    /// Its record: the items in the order of `docs/audit.md`.
    pub fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(USUAL_LENGTH);
        audit::append(
            &mut record,
            &[
                Item::Number(self.at),
                Item::Text(&self.action),
                Item::Text(&self.outcome),
                text(&self.field),
                text(&self.account),
                self.count.map_or(Item::Null, Item::Number),
                text(&self.detail),
            ],
        );
        record.extend_from_slice(&self.origin.items);
        audit::append(
            &mut record,
            &[
                self.entities.as_ref().map_or(Item::Null, |entities| {
                    Item::Texts(entities.iter().map(String::as_str).collect())
                }),
                Item::Number(self.pid),
                Item::Number(self.statement_at),
                Item::Number(self.id),
            ],
        );
        record
    }

    /// The event of a record; `None` if it is none.
    pub fn of_record(record: &[u8]) -> Option<Self> {
        let items: [Item<'_>; ITEMS] = audit::items(record)?.try_into().ok()?;
        let mut items = items.into_iter();
        let mut next = || items.next();
        Some(Self {
            at: time(next()?)?,
            action: owned(next()?)??.into(),
            outcome: owned(next()?)??.into(),
            field: owned(next()?)?,
            account: owned(next()?)?,
            count: number(next()?)?,
            detail: owned(next()?)?,
            origin: Rc::new(Origin {
                session_role: owned(next()?)?,
                set_role: owned(next()?)?,
                acting_role: owned(next()?)?,
                client_address: owned(next()?)?,
                application_name: owned(next()?)?,
                actor_id: owned(next()?)?,
                actor_name: owned(next()?)?,
                actor_address: owned(next()?)?,
                actor_action: owned(next()?)?,
                items: Vec::new(),
            }),
            entities: match next()? {
                Item::Null => None,
                Item::Texts(texts) => Some(texts.into_iter().map(sql_text).collect::<Option<_>>()?),
                _ => return None,
            },
            pid: number(next()?)??,
            statement_at: time(next()?)?,
            id: number(next()?)??,
        })
    }
}

/// Who causes events, and from where.
#[derive(Debug, Default, Serialize)]
pub struct Origin {
    pub session_role: Option<String>,
    pub set_role: Option<String>,
    pub acting_role: Option<String>,
    pub client_address: Option<String>,
    pub application_name: Option<String>,
    pub actor_id: Option<String>,
    pub actor_name: Option<String>,
    pub actor_address: Option<String>,
    pub actor_action: Option<String>,
    /// These as items of a record.
    #[serde(skip)]
    items: Vec<u8>,
}

impl Origin {
    /// With its items, to be shared by events.
    fn shared(mut self) -> Rc<Self> {
        let mut items = Vec::new();
        for part in [
            &self.session_role,
            &self.set_role,
            &self.acting_role,
            &self.client_address,
            &self.application_name,
            &self.actor_id,
            &self.actor_name,
            &self.actor_address,
            &self.actor_action,
        ] {
            audit::append(&mut items, &[text(part)]);
        }
        self.items = items;
        Rc::new(self)
    }

    /// Of what this session does now. It seldom changes, and is made anew only then.
    fn current() -> Rc<Self> {
        let (generation, users) = (invalidation::generation(), backend::users());
        // SAFETY: a setting of PostgreSQL, null or NUL-terminated, which nothing assigns meanwhile
        let name = unsafe { pg_sys::application_name.as_ref() }
            .map(|name| unsafe { CStr::from_ptr(name) });
        CURRENT.with_borrow_mut(|known| {
            if let Some(current) = known
                && (current.generation, current.users) == (generation, users)
                && current.application_name.as_deref() == name
                && Actor::ALL.into_iter().zip(&current.actor).all(|(part, text)| part.is(text))
            {
                return Rc::clone(&current.origin);
            }
            let [acting_role, set_role, _, session_role] = users.map(role_name);
            let origin = Self {
                session_role,
                set_role,
                acting_role,
                client_address: client_address(),
                application_name: name.and_then(text_of),
                actor_id: guc::actor(Actor::Id),
                actor_name: guc::actor(Actor::Name),
                actor_address: guc::actor(Actor::Address),
                actor_action: guc::actor(Actor::Action),
                items: Vec::new(),
            };
            let origin = origin.shared();
            *known = Some(Current {
                generation,
                users,
                application_name: name.map(CStr::to_owned),
                actor: Actor::ALL.map(Actor::setting_text),
                origin: Rc::clone(&origin),
            });
            origin
        })
    }
}

/// An origin, and what it was made of: valid in one generation of the catalog.
struct Current {
    generation: u64,
    users: [Oid; 4],
    application_name: Option<CString>,
    actor: [Option<CString>; 4],
    origin: Rc<Origin>,
}

thread_local! {
    static NOBODY: Rc<Origin> = Origin::default().shared();
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

fn text(text: &Option<String>) -> Item<'_> {
    text.as_deref().map_or(Item::Null, Item::Text)
}

/// The text in an item, or NULL; `None` if it holds something else.
fn owned(item: Item<'_>) -> Option<Option<String>> {
    match item {
        Item::Null => Some(None),
        Item::Text(text) => sql_text(text).map(Some),
        _ => None,
    }
}

/// The text, if it can be one in SQL.
fn sql_text(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| text.to_owned())
}

/// The time in an item; `None` if no event can have it.
fn time(item: Item<'_>) -> Option<i64> {
    number(item)?.filter(|time| TIMES.contains(time))
}

/// The number in an item, or NULL; `None` if it holds something else.
fn number(item: Item<'_>) -> Option<Option<i64>> {
    match item {
        Item::Null => Some(None),
        Item::Number(number) => Some(Some(number)),
        _ => None,
    }
}

thread_local! {
    /// The address does not change while a client is connected.
    static CLIENT_ADDRESS: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// The client's address; `None` for a socket of this machine and for a background process.
fn client_address() -> Option<String> {
    CLIENT_ADDRESS.with_borrow_mut(|known| {
        known
            .get_or_insert_with(|| {
                // SAFETY: a variable of the only thread
                if unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
                    return address_of_the_leader();
                }
                // SAFETY: PostgreSQL's function without arguments, which may return NULL
                let address: Option<pgrx::Inet> =
                    unsafe { pgrx::direct_function_call(pg_sys::inet_client_addr, &[]) };
                address.map(|address| address.0)
            })
            .clone()
    })
}

/// The address of the client whose query this parallel worker runs: the worker has no client.
fn address_of_the_leader() -> Option<String> {
    let leader = compat::parallel_leader();
    if leader.is_null() {
        return None;
    }
    // SAFETY: the family says which address it is
    unsafe {
        let address = &raw const (*leader).st_clientaddr.addr;
        match i32::from((*address).ss_family) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).to_string())
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).to_string())
            }
            _ => None,
        }
    }
}

/// A text in the database's encoding; `None` if it is empty.
fn text_of(text: &CStr) -> Option<String> {
    let text = encoding::to_utf8(text.to_bytes()).ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

/// The name of a role; `None` if it was dropped.
fn role_name(role: Oid) -> Option<String> {
    // SAFETY: a syscache look-up, which returns null for a role that does not exist, or a copy of
    // its name, NUL-terminated
    unsafe {
        pg_sys::GetUserNameFromId(role, true)
            .as_ref()
            .and_then(|name| text_of(CStr::from_ptr(name)))
    }
}
