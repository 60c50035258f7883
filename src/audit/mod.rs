//! Who read what: every plain, masked, hidden or refused value, and every administrative change,
//! becomes an event of the audit (`fieldcrypt.audit`).
//!
//! Events of reads are counted up per statement ([`statement`]), those of changes wait for the end
//! of their transaction ([`change`]). Both go to a ring in shared memory ([`ring`]), from which a
//! background worker ([`worker`]) writes them into a table, in batches sealed in a hash chain
//! ([`chain`]), in transactions of its own. So they survive ROLLBACK, and are made in read-only transactions too.
//! On a standby, and where the library is not preloaded, they go to the server's log ([`sink`]).
//!
//! Invariants: an event carries no value. In strict mode no plain value is handed out before its
//! event is on disk.

mod chain;
pub mod change;
mod event;
mod functions;
pub mod protection;
mod ring;
mod sink;
pub mod statement;
mod verify;
mod worker;

use pgrx::PostgresGucEnum;

pub use ring::stop_worker;

/// What is written to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Mode {
    /// Nothing.
    #[name = c"off"]
    Off,
    /// Every event, soon after it happened.
    #[name = c"on"]
    On,
    /// Every event; a read waits until it is on disk that it is about to happen.
    #[name = c"strict"]
    Strict,
}

impl Mode {
    /// Its name in the setting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Strict => "strict",
        }
    }
}

/// Reserves shared memory; only while the postmaster preloads the library.
pub fn init_shared_memory() {
    ring::init();
}

/// Registers the callbacks.
pub fn init() {
    statement::init();
    change::init();
}
