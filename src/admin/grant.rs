//! Grants.

use std::ffi::CString;

use fieldcrypt_core::field::{FIELD_NAME_LENGTH, check_account, check_field_name};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_extern};

use crate::access::Privilege;
use crate::access::roles::{GRANTOR, memberships, require_role};
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::{Answer, Call};
use crate::catalog::field::{By, Field};
use crate::catalog::grant::ALL;
use crate::catalog::{account, scan, write};
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

/// What `grant_access` and `revoke_access` take.
struct Arguments {
    role: Oid,
    role_name: String,
    privileges: Vec<String>,
    account: String,
    field: String,
}

impl Arguments {
    fn read(call: &Call) -> Result<Self> {
        let role_name = required(call, 0, "role")?;
        let role = find_role(&role_name)?;
        let privileges = call.texts(1)?.unwrap_or_default();
        if privileges.is_empty()
            || privileges.iter().any(|name| Privilege::from_name(name).is_none())
        {
            let known = Privilege::ALL.map(Privilege::name).join(", ");
            let hint = format!("They are a list of: {known}.");
            return Err(Error::InvalidArgument { name: "privileges", hint });
        }
        Ok(Self {
            role,
            role_name,
            privileges,
            account: required(call, 2, "account")?,
            field: required(call, 3, "field")?,
        })
    }

    fn about(&self) -> About<'_> {
        let detail = Some(format!("{} of role {}", self.privileges.join(", "), self.role_name));
        About { field: Some(&self.field), account: Some(&self.account), detail }
    }
}

fn required(call: &Call, index: usize, name: &'static str) -> Result<String> {
    call.optional_text(index)?.map(Into::into).ok_or_else(|| Error::InvalidArgument {
        name,
        hint: "It has to be written out; '*' means all.".to_owned(),
    })
}

/// The OID of a role that rights can be granted to.
pub fn find_role(name: &str) -> Result<Oid> {
    let role = CString::new(name).ok().and_then(|name| scan::role(&name));
    role.ok_or_else(|| Error::InvalidArgument {
        name: "role",
        hint: format!("Role \"{name}\" does not exist. Rights cannot be granted to PUBLIC."),
    })
}

/// Fails unless `pattern` is an existing field's name, `prefix.*`, or `*`.
fn check_field_pattern(pattern: &str) -> Result<()> {
    match pattern.strip_suffix('*') {
        Some("") => Ok(()),
        Some(prefix) => {
            let name = prefix.strip_suffix('.').filter(|name| name.len() < FIELD_NAME_LENGTH - 1);
            name.is_some_and(|name| check_field_name(name).is_ok()).then_some(()).ok_or_else(|| {
                Error::InvalidArgument {
                    name: "field",
                    hint: "It is a field, a prefix as in lead.*, or '*' for all.".to_owned(),
                }
            })
        }
        None => Field::require(By::Name(pattern)).map(|_| ()),
    }
}

/// `grant_access(role, privileges, account, field)`: adds privileges.
#[pg_extern(sql = false)]
fn grant_access(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(GRANTOR, "grant_access")?;
    let arguments = Arguments::read(&call)?;
    for user in backend::users() {
        if memberships(user)?.contains(&arguments.role) {
            change::denied("grant_access", arguments.about());
            return Err(Error::GrantToSelf.into());
        }
    }
    if arguments.account != ALL {
        check_account(&arguments.account).map_err(|error| Error::Name("account", error))?;
        if account::state(&arguments.account)?.is_none() {
            return Err(Error::AccountMissing(arguments.account).into());
        }
    }
    check_field_pattern(&arguments.field)?;
    change::begins("grant_access", arguments.about())?;
    write::run(
        "INSERT INTO fieldcrypt.access_grant AS g (role, account, field, privileges) \
         VALUES ($1, $2, $3, fieldcrypt.ordered_privileges($4)) \
         ON CONFLICT (role, account, field) DO UPDATE SET \
         privileges = fieldcrypt.ordered_privileges(g.privileges OPERATOR(pg_catalog.||) $4), \
         granted_by = session_user, granted_at = pg_catalog.now()",
        &[
            arguments.role.into(),
            arguments.account.as_str().into(),
            arguments.field.as_str().into(),
            arguments.privileges.into(),
        ],
    )?;
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// `revoke_access(role, privileges, account, field)`: takes privileges from the grant of exactly
/// that account and field.
#[pg_extern(sql = false)]
fn revoke_access(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(GRANTOR, "revoke_access")?;
    let arguments = Arguments::read(&call)?;
    let parameters = || {
        [
            arguments.role.into(),
            arguments.account.as_str().into(),
            arguments.field.as_str().into(),
            arguments.privileges.clone().into(),
        ]
    };
    change::begins("revoke_access", arguments.about())?;
    let changed = write::run(
        "UPDATE fieldcrypt.access_grant SET privileges = ARRAY(SELECT p \
         FROM pg_catalog.unnest(privileges) AS p WHERE NOT p OPERATOR(pg_catalog.=) ANY ($4)), \
         granted_by = session_user, granted_at = pg_catalog.now() \
         WHERE role OPERATOR(pg_catalog.=) $1 AND account OPERATOR(pg_catalog.=) $2 \
         AND field OPERATOR(pg_catalog.=) $3 AND privileges OPERATOR(pg_catalog.&&) $4 \
         RETURNING 1",
        &parameters(),
    )?;
    write::run(
        "DELETE FROM fieldcrypt.access_grant AS g WHERE privileges OPERATOR(pg_catalog.=) '{}' \
         OR NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) g.role)",
        &[],
    )?;
    if changed == 0 {
        let code = PgSqlErrorCode::ERRCODE_WARNING;
        let message = format!("role \"{}\" has no such grant", arguments.role_name);
        ErrorReport::new(code, message, "fieldcrypt")
            .set_hint("A grant is revoked with the account and the field with which it was made: see fieldcrypt.access.")
            .report(PgLogLevel::WARNING);
    }
    Ok(Answer::datum(pg_sys::Datum::null()))
}
