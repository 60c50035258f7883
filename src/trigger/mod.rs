//! Row triggers: what they are given and what they return.
//!
//! - [`account`]: holds encrypted values to their row's account
//! - [`document`]: seals the flagged values of a document

pub mod account;
pub mod document;
mod row;

pub use row::{Row, data};
