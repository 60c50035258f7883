//! Who may do what: privileges on accounts and fields, and the extension's administrative roles.
//!
//! Invariant: rights come from grants and role membership of the current user (`GetUserId`),
//! never from a setting. No one is exempt from the privileges: a superuser holds those that were
//! granted to him or to a role whose rights he inherits.

pub mod can;
mod privilege;
pub mod rights;
pub mod roles;

pub use privilege::{Privilege, Privileges};

use crate::audit::statement;
use crate::error::Error;

/// The error of a privilege that the current user lacks; the audit is told.
pub fn refused(privilege: Privilege, field: String, account: String) -> Error {
    statement::denied(privilege, &field, &account);
    Error::Privilege(privilege, field, account)
}
