//! What administrators call: accounts, fields, grants, and what is wrong. Each function checks the
//! caller's role first and then reads or writes as the owner of the extension's tables.

pub mod account;
mod destroy;
mod doctor;
pub mod field;
pub mod grant;
mod root;
mod rotation;
mod transfer;
