//! Role membership, and the roles that the extension makes.

use std::collections::HashSet;
use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

use crate::audit::change::{self, About};
use crate::backend;
use crate::catalog::scan::{self, Equals};
use crate::catalog::tables::Indexed;
use crate::compat::membership;
use crate::error::{Error, Result};

/// Manages accounts and keys; alone may read the table of wrapped keys.
pub const KEY_ADMIN: &CStr = c"fieldcrypt_key_admin";
/// Manages fields.
pub const ADMIN: &CStr = c"fieldcrypt_admin";
/// Grants access to fields, never to a role that he is in.
pub const GRANTOR: &CStr = c"fieldcrypt_grantor";
/// Sees accounts, grants and keys (no bytes), and whether a role can do something.
pub const AUDITOR: &CStr = c"fieldcrypt_auditor";
/// May put envelopes in as they are.
pub const RESTORE: &CStr = c"fieldcrypt_restore";

/// Whether the current user has the rights of an administrative role. Superusers have.
pub fn has_role(name: &CStr) -> bool {
    // SAFETY: both are roles that exist
    scan::role(name).is_some_and(|role| unsafe { pg_sys::has_privs_of_role(backend::user(), role) })
}

/// Fails unless the current user has the rights of an administrative role, which the function
/// `action` asks for.
pub fn require_role(name: &'static CStr, action: &str) -> Result<()> {
    if has_role(name) {
        return Ok(());
    }
    let name = name.to_str().unwrap_or_default();
    let detail = Some(format!("needs {name}"));
    change::denied(action, About { detail, ..About::default() });
    Err(Error::Role(name))
}

/// The role itself and every role whose rights it inherits. That a superuser could act as any
/// role does not count here: he holds what was granted to him.
pub fn inherited(user: Oid) -> Result<HashSet<Oid>> {
    walk(user, true)
}

/// The role itself and every role that it is in, whether it inherits the rights or could take
/// them by SET ROLE.
pub fn memberships(user: Oid) -> Result<HashSet<Oid>> {
    walk(user, false)
}

fn walk(user: Oid, only_inherited: bool) -> Result<HashSet<Oid>> {
    let by_member = Indexed { table: membership::TABLE, index: membership::BY_MEMBER };
    let mut roles = HashSet::from([user]);
    let mut open = vec![user];
    while let Some(member) = open.pop() {
        if only_inherited && !membership::inherits(member) {
            continue;
        }
        let matching = [Equals::Oid(membership::MEMBER, member)];
        scan::rows(by_member, &matching, |row| {
            let role = row.oid(membership::ROLE)?;
            let counts = !only_inherited || membership::row_inherits(row);
            if counts && roles.insert(role) {
                open.push(role);
            }
            Ok(())
        })?;
    }
    Ok(roles)
}
