//! Whether a role may do something with a field of an account, and why.

use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::roles::{self, ADMIN, AUDITOR, GRANTOR, KEY_ADMIN};
use super::{Privilege, rights};
use crate::admin::grant::find_role;
use crate::backend;
use crate::call::{Answer, Call};
use crate::catalog::account::{self, AccountState};
use crate::catalog::field::{By, Field};
use crate::catalog::grant::Grant;
use crate::error::{Error, Result};

/// `can_reason(role, privilege, account, field) → text`: begins with `yes` or `no`. About other
/// roles only administrators may ask.
#[pg_extern(sql = false)]
fn can_reason(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    let role = find_role(&call.text(0)?)?;
    let asks_others = [KEY_ADMIN, ADMIN, GRANTOR, AUDITOR].into_iter().any(roles::has_role);
    if role != backend::user() && !asks_others {
        return Err(Error::Role("fieldcrypt_auditor").into());
    }
    let privilege = call.text(1)?;
    let privilege = Privilege::from_name(&privilege).ok_or_else(|| Error::InvalidArgument {
        name: "privilege",
        hint: format!("It is one of: {}.", Privilege::ALL.map(Privilege::name).join(", ")),
    })?;
    let (account, field) = (call.text(2)?, call.text(3)?);
    Ok(Answer::text(&reason(role, privilege, &account, &field)?))
}

fn reason(role: pg_sys::Oid, privilege: Privilege, account: &str, field: &str) -> Result<String> {
    match account::state(account)? {
        None => return Ok(format!("no: account \"{account}\" does not exist")),
        Some(AccountState::Active) => {}
        Some(state) => return Ok(format!("no: account \"{account}\" is {}", state.name())),
    }
    if Field::find(By::Name(field))?.is_none() {
        return Ok(format!("no: field \"{field}\" does not exist"));
    }
    if rights::of(role, account, field)?.contains(privilege) {
        for member_of in roles::inherited(role)? {
            for grant in Grant::of_role(member_of)? {
                if grant.covers(account, field) && grant.privileges.contains(privilege) {
                    return Ok(format!(
                        "yes: granted to role \"{}\" on field {} of account {}",
                        role_name(member_of),
                        grant.field,
                        grant.account
                    ));
                }
            }
        }
    }
    // SAFETY: the role exists
    let superuser = unsafe { pg_sys::superuser_arg(role) };
    let exempt = if superuser { "; superusers are not exempt" } else { "" };
    Ok(format!("no: nothing grants it to the role or to one whose rights it inherits{exempt}"))
}

fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd name, or null for a role that is gone
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            role.to_string()
        } else {
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}
