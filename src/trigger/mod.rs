//! Row triggers: what they are given and what they return.
//!
//! - [`account`]: holds encrypted values to their row's account
//! - [`adopted`]: adopts what is written while a job adopts what is there
//! - [`both`]: writes a column and its successor while a job moves the values
//! - [`document`]: seals the flagged values of a document

pub mod account;
mod adopted;
mod both;
pub mod document;
mod row;

pub use row::{Row, data};
