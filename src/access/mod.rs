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
