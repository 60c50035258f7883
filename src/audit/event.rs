//! One event: what happened, to what, by whom.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

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
pub fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()
}

/// An event, as it is in the log (as JSON) and, as a record, in the ring and in
/// `fieldcrypt.audit_batch`. Times are in microseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub at: i64,
    pub action: String,
    pub outcome: String,
    pub field: Option<String>,
    pub account: Option<String>,
    pub count: Option<i64>,
    pub detail: Option<String>,
    pub session_role: Option<String>,
    pub set_role: Option<String>,
    pub acting_role: Option<String>,
    pub client_address: Option<String>,
    pub application_name: Option<String>,
    pub actor_id: Option<String>,
    pub actor_name: Option<String>,
    pub actor_address: Option<String>,
    pub actor_action: Option<String>,
    pub entities: Option<Vec<String>>,
    pub pid: i64,
    pub statement_at: i64,
    /// The same in the event that opens a read and the one that closes it.
    pub id: i64,
}

impl Event {
    /// An event that happens now, by the current user.
    pub fn now(action: &str, outcome: &str) -> Self {
        let [acting, set, _, session] = role_names();
        Self {
            session_role: session,
            set_role: set,
            acting_role: acting,
            client_address: client_address(),
            // SAFETY: a setting of PostgreSQL
            application_name: unsafe { text_of(pg_sys::application_name) },
            actor_id: guc::actor(Actor::Id),
            actor_name: guc::actor(Actor::Name),
            actor_address: guc::actor(Actor::Address),
            actor_action: guc::actor(Actor::Action),
            ..Self::of_the_system(action, outcome)
        }
    }

    /// An event that nobody has caused.
    pub fn of_the_system(action: &str, outcome: &str) -> Self {
        // SAFETY: reads the clock
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        Self {
            at: now + EPOCH,
            action: action.to_owned(),
            outcome: outcome.to_owned(),
            field: None,
            account: None,
            count: None,
            detail: None,
            session_role: None,
            set_role: None,
            acting_role: None,
            client_address: None,
            application_name: None,
            actor_id: None,
            actor_name: None,
            actor_address: None,
            actor_action: None,
            entities: None,
            pid: i64::from(backend::process()),
            statement_at: backend::statement_start() + EPOCH,
            // unique as long as a process makes one per microsecond
            id: (now << 20) ^ i64::from(backend::process()),
        }
    }

    /// Its record: the items in the order of `docs/audit.md`.
    pub fn record(&self) -> Vec<u8> {
        audit::record(&[
            Item::Number(self.at),
            Item::Text(&self.action),
            Item::Text(&self.outcome),
            text(&self.field),
            text(&self.account),
            self.count.map_or(Item::Null, Item::Number),
            text(&self.detail),
            text(&self.session_role),
            text(&self.set_role),
            text(&self.acting_role),
            text(&self.client_address),
            text(&self.application_name),
            text(&self.actor_id),
            text(&self.actor_name),
            text(&self.actor_address),
            text(&self.actor_action),
            self.entities.as_ref().map_or(Item::Null, |entities| {
                Item::Texts(entities.iter().map(String::as_str).collect())
            }),
            Item::Number(self.pid),
            Item::Number(self.statement_at),
            Item::Number(self.id),
        ])
    }

    /// The event of a record; `None` if it is none.
    pub fn of_record(record: &[u8]) -> Option<Self> {
        let items: [Item<'_>; ITEMS] = audit::items(record)?.try_into().ok()?;
        let mut items = items.into_iter();
        let mut next = || items.next();
        Some(Self {
            at: time(next()?)?,
            action: owned(next()?)??,
            outcome: owned(next()?)??,
            field: owned(next()?)?,
            account: owned(next()?)?,
            count: number(next()?)?,
            detail: owned(next()?)?,
            session_role: owned(next()?)?,
            set_role: owned(next()?)?,
            acting_role: owned(next()?)?,
            client_address: owned(next()?)?,
            application_name: owned(next()?)?,
            actor_id: owned(next()?)?,
            actor_name: owned(next()?)?,
            actor_address: owned(next()?)?,
            actor_action: owned(next()?)?,
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

/// # Safety
/// `text` is null or NUL-terminated, in the database's encoding.
unsafe fn text_of(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's
    let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })?;
    let text = encoding::to_utf8(text.to_bytes()).ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

/// The roles of a session and their names, valid in one generation of the catalog.
type Roles = (u64, [Oid; 4], [Option<String>; 4]);

thread_local! {
    static ROLES: RefCell<Option<Roles>> = const { RefCell::new(None) };
}

/// The names of [`backend::users`].
fn role_names() -> [Option<String>; 4] {
    let (generation, users) = (invalidation::generation(), backend::users());
    ROLES.with_borrow_mut(|known| {
        if known.as_ref().is_none_or(|(of, are, _)| (*of, *are) != (generation, users)) {
            *known = Some((generation, users, users.map(role_name)));
        }
        known.as_ref().map(|(_, _, names)| names.clone()).unwrap_or_default()
    })
}

/// The name of a role; `None` if it was dropped.
fn role_name(role: Oid) -> Option<String> {
    // SAFETY: a syscache look-up, which returns null for a role that does not exist
    unsafe { text_of(pg_sys::GetUserNameFromId(role, true)) }
}
