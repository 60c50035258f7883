//! What administrators call: accounts, fields, grants. Each function checks the caller's role
//! first and then writes as the owner of the extension's tables.

pub mod account;
mod field;
pub mod grant;
