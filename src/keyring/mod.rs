//! Root keys, the keys that they unwrap, and the keys of other software.
//!
//! Invariants: key bytes stay in locked memory that no core dump holds ([`locked`]) and reach no
//! SQL function. No key is made because one was missing. A root key that is not the one recorded
//! for this database stops before anything is written.

pub mod cache;
mod command;
mod examine;
pub mod file;
pub mod foreign;
pub mod index;
pub mod locked;
pub mod provider;
mod recent;
mod root;
pub mod sealer;
mod unwrap;
mod unwrapped;
pub mod usage;

pub use cache::OpenKey;
pub use locked::without_traces;
pub use root::Root;
pub use unwrap::{
    current_root, current_root_read_anew, load_in_postmaster, require_roots, root, unwrap,
    unwrap_account_key, unwrap_under_root, wrapping_key,
};
pub use unwrapped::{forget, init_shared_memory};
