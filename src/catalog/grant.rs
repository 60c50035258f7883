//! The rows of grants.

use pgrx::pg_sys::Oid;

use super::scan::{self, Equals};
use super::tables::Tables;
use crate::access::Privileges;
use crate::error::Result;

/// The pattern that matches every account or field.
pub const ALL: &str = "*";

/// What a role may do.
#[derive(Clone, Debug)]
pub struct Grant {
    /// An account, or [`ALL`].
    pub account: String,
    /// A field, `prefix.*`, or [`ALL`].
    pub field: String,
    pub privileges: Privileges,
}

impl Grant {
    /// The grants of a role.
    pub fn of_role(role: Oid) -> Result<Vec<Self>> {
        let mut grants = Vec::new();
        scan::rows(Tables::get()?.access_grant, &[Equals::Oid(1, role)], |row| {
            grants.push(Self {
                account: row.required_text(2)?,
                field: row.required_text(3)?,
                privileges: Privileges::from_names(&row.texts(4)?),
            });
            Ok(())
        })?;
        Ok(grants)
    }

    /// Whether it is about that account and field. `*` covers the accounts that users have, not
    /// the reserved one of the database.
    pub fn covers(&self, account: &str, field: &str) -> bool {
        let account_matches =
            self.account == account || (self.account == ALL && !account.starts_with('*'));
        account_matches && field_matches(&self.field, field)
    }
}

/// Whether a field's name matches a pattern: the name itself, `prefix.*`, or `*`.
pub fn field_matches(pattern: &str, field: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        // the prefix keeps its dot: lead.* is not about leads.x
        Some(prefix) if prefix.ends_with('.') => field.starts_with(prefix),
        _ => pattern == field,
    }
}
