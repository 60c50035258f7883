//! Root keys, and the keys that they unwrap.
//!
//! Invariants: key bytes stay in locked memory that no core dump holds ([`locked`]) and reach no
//! SQL function. No key is made because one was missing. A root key that is not the one recorded
//! for this database stops before anything is written.

pub mod cache;
mod examine;
pub mod file;
pub mod locked;
pub mod provider;
pub mod sealer;
mod unwrap;
pub mod usage;

pub use cache::OpenKey;
pub use locked::without_traces;
#[cfg(any(test, feature = "pg_test"))]
pub use unwrap::wrapping_key;
pub use unwrap::{
    Root, current_root, current_root_read_anew, load_in_postmaster, require_roots, root,
    unwrap_account_key, unwrap_under_root,
};
