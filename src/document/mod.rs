//! Documents: flagged values inside JSONB.
//!
//! - [`policy`]: which values of a document are flagged, for an account and a kind
//! - [`seal`]: flagged values become envelopes when a row is written; [`made`] knows which of
//!   them this statement has made, [`moved`] which came with a row from another partition, [`masked`] recognises masks that are written back
//! - [`check`]: the CHECK behind the row trigger
//! - [`existing`]: documents that were stored before their paths were flagged, or after; [`gathered`]: those with a blob
//! - [`adopted`]: values of other software in them, while a job adopts these
//! - [`open`]: reading: plain, masked or hidden
//! - [`search`]: tokens of documents
//! - [`blob`]: flagged values gathered in a column of their own
//! - [`json`]: between JSON values and the text that is sealed
//! - [`at`]: errors that say where in a document; [`everywhere`]: rewriting that enters all of it
//!
//! The stored form of jsonb is read and written by the crate `fieldcrypt-document`, without going
//! through text: numbers keep their digits, and what is not flagged is copied.

pub mod admin;
pub mod adopted;
pub mod at;
pub mod blob;
pub mod check;
pub mod everywhere;
mod existing;
mod gathered;
pub mod json;
pub mod made;
pub mod masked;
pub mod moved;
pub mod open;
pub mod policy;
pub mod seal;
pub mod search;
