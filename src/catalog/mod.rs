//! The extension's tables, read by direct index scan: no SPI, no search path, no ACL of the
//! caller. What a role may do with what is read here is decided in `access`.
//!
//! Invariant: nothing read here is trusted beyond the statement without [`invalidation`].

pub mod account;
pub mod family;
pub mod field;
pub mod fields;
pub mod grant;
pub mod invalidation;
pub mod key;
pub mod path;
pub mod query;
pub mod scan;
pub mod tables;
pub mod write;
