//! What the procedures call.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::{Spi, pg_extern};

use crate::access::roles::{ADMIN, AUDITOR, has_role, inherited, require_role};
use crate::access::{Privilege, refused, rights};
use crate::admin::field::complete_backfills;
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::{Answer, Call, Rows};
use crate::catalog::account;
use crate::catalog::grant::ALL;
use crate::catalog::path::{EVERY_ACCOUNT, FlaggedPath};
use crate::catalog::tables::Tables;
use crate::catalog::write::{self, Restriction, as_owner_of};
use crate::error::{Error, Result};
use crate::jobs::caller::OnBehalf;

type Answered = std::result::Result<Answer, ErrorReport>;

fn done() -> Answered {
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// Fails unless the current user inherits the rights of the owner of each table that a job works on.
/// That a superuser could take any role does not count: the owner may decrypt, and he may not.
fn require_owner(target: &str, action: &str) -> Result<()> {
    let owners = write::texts("SELECT fieldcrypt.owners_of_job($1)::text", &[target.into()])?;
    if owners.is_empty() {
        return Err(Error::JobWithoutTable(target.to_owned()));
    }
    let roles = inherited(backend::user())?;
    let owns =
        |owner: &String| owner.parse().is_ok_and(|owner: u32| roles.contains(&Oid::from(owner)));
    if owners.iter().all(owns) {
        return Ok(());
    }
    let detail = Some(format!("{target}, needs the table's owner"));
    change::denied(action, About { detail, ..About::default() });
    Err(Error::NotOwner)
}

/// What permits the current user to run a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// He administers fieldcrypt, and inherits the rights of the tables' owners.
    Owner,
    /// He manages the account that it is for.
    Manager,
}

/// The field of a path of a document, flagged for an account, that the current user does not manage
/// there; `*` if there is no path.
fn unmanaged(document: &str, account: &str) -> Result<Option<String>> {
    let mut paths = FlaggedPath::of(document, EVERY_ACCOUNT)?;
    paths.extend(FlaggedPath::of(document, account)?);
    if paths.is_empty() {
        return Ok(Some(ALL.to_owned()));
    }
    for path in paths {
        if !rights::of(backend::user(), account, &path.field)?.contains(Privilege::Manage) {
            return Ok(Some(path.field));
        }
    }
    Ok(None)
}

/// What permits the current user to run a job of a document's account, if anything but his rights
/// over the tables does.
fn manager(target: &str, account: Option<&str>, action: &str) -> Result<Option<By>> {
    if let Some(account) = account {
        let document = target.split('/').next().unwrap_or_default();
        match unmanaged(document, account)? {
            None => return Ok(Some(By::Manager)),
            Some(field) if !has_role(ADMIN) => {
                return Err(refused(Privilege::Manage, field, account.to_owned()));
            }
            Some(_) => {}
        }
    }
    require_role(ADMIN, action)?;
    Ok(None)
}

/// Fails unless the current user may run a job.
fn require_worker(target: &str, action: &str) -> Result<By> {
    match manager(target, account_of(target)?.as_deref(), action)? {
        Some(by) => Ok(by),
        None => require_owner(target, action).map(|()| By::Owner),
    }
}

/// The account that a job is for, if there is such a job and it is not for all.
fn account_of(target: &str) -> Result<Option<String>> {
    let account =
        "SELECT j.account FROM fieldcrypt.job AS j WHERE j.target OPERATOR(pg_catalog.=) $1";
    Ok(write::texts(account, &[target.into()])?.pop())
}

/// The jobs that can be of one account.
const OF_AN_ACCOUNT: [&str; 3] = ["encrypt_existing", "decrypt_existing", "reencrypt_existing"];

/// `start_job(action, target, relation, column_name, field, account_column, cut_over, account)`: notes
/// the job, or that it goes on. Only a document's may be of one account.
#[pg_extern(sql = false)]
fn start_job(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let action = call.required_text(0, "the action")?;
    let target = call.required_text(1, "the target")?;
    let (relation, column) = (call.optional_text(2)?, call.optional_text(3)?);
    let (field, account_column) = (call.optional_text(4)?, call.optional_text(5)?);
    let cut_over = call.is_null(6) || call.boolean(6);
    let account = call.optional_text(7)?;
    let manager = manager(&target, account.as_deref(), &action)?;
    let target = match account.as_deref() {
        None => target.into_owned(),
        Some(account) => {
            if !OF_AN_ACCOUNT.contains(&action.as_ref())
                || relation.is_some()
                || target.contains('/')
            {
                let hint = format!("Of one account can be: {}.", OF_AN_ACCOUNT.join(", "));
                return Err(Error::InvalidArgument { name: "account", hint }.into());
            }
            if account::state(account)?.is_none() {
                return Err(Error::AccountMissing(account.to_owned()).into());
            }
            format!("{target}/{account}")
        }
    };
    let detail = Some(target.clone());
    let about = About { field: field.as_deref(), detail, account: account.as_deref() };
    change::begins(&action, about)?;
    write::texts(
        "SELECT fieldcrypt.open_job($1, $2, $3, $4, $5, $6, $7, $8)::text",
        &[
            action.as_ref().into(),
            target.as_str().into(),
            relation.as_deref().into(),
            column.as_deref().into(),
            field.as_deref().into(),
            account_column.as_deref().into(),
            cut_over.into(),
            account.as_deref().into(),
        ],
    )?;
    if manager.is_none() {
        require_owner(&target, &action)?;
    }
    done()
}

/// `step_job(target text, batch_size integer, waits boolean) → boolean`: the next batch or step;
/// whether there is another one.
#[pg_extern(sql = false)]
fn step_job(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let target = call.text(0)?;
    let by = require_worker(&target, "step_job")?;
    let on_behalf = (by == By::Manager).then(OnBehalf::begin);
    let goes_on = write::texts(
        "SELECT fieldcrypt.advance_job($1, $2, $3)::text",
        &[target.as_ref().into(), call.int(1).into(), call.boolean(2).into()],
    )?;
    drop(on_behalf);
    let goes_on = goes_on == ["true"];
    if !goes_on {
        complete_backfills()?;
    }
    Ok(goes_on.into())
}

/// `describe_job(target text) → text`
#[pg_extern(sql = false)]
fn describe_job(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let target = call.text(0)?;
    manager(&target, account_of(&target)?.as_deref(), "describe_job")?;
    let message = "SELECT fieldcrypt.message_of_job($1)";
    let message = write::texts(message, &[target.as_ref().into()])?.pop();
    Ok(Answer::optional_text(message.as_deref()))
}

/// `pause_job(target text)`: it ends after its batch; calling the procedure again goes on.
#[pg_extern(sql = false)]
fn pause_job(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    end(&Call::new(fcinfo), "pause_job", "paused")
}

/// `cancel_job(target text)`: it ends after its batch. What a column was to be replaced by goes; what
/// is encrypted in documents stays so.
#[pg_extern(sql = false)]
fn cancel_job(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    end(&Call::new(fcinfo), "cancel_job", "cancelled")
}

fn end(call: &Call, action: &str, state: &str) -> Answered {
    let target = call.required_text(0, "the target")?;
    let account = account_of(&target)?;
    let manager = manager(&target, account.as_deref(), action)?;
    let detail = Some(target.clone().into_owned());
    change::begins(action, About { detail, account: account.as_deref(), field: None })?;
    // a table that is gone has no owner, and its job has nothing to do
    let known = "SELECT j.target FROM fieldcrypt.job AS j WHERE j.target OPERATOR(pg_catalog.=) $1";
    if write::texts(known, &[target.as_ref().into()])?.is_empty() {
        return Err(Error::JobMissing(target.into_owned()).into());
    }
    if manager.is_none() {
        match require_owner(&target, action) {
            Ok(()) | Err(Error::JobWithoutTable(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    write::texts(
        "SELECT fieldcrypt.end_job($1, $2)::text",
        &[target.as_ref().into(), state.into()],
    )?;
    done()
}

/// `remnants(relation regclass) → SETOF finding`
#[pg_extern(sql = false)]
fn remnants(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    if !has_role(AUDITOR) {
        require_role(ADMIN, "remnants")?;
    }
    // SAFETY: the names are NUL-terminated; they raise an error where nothing can be noted
    unsafe {
        pg_sys::PreventCommandDuringRecovery(c"remnants()".as_ptr());
        pg_sys::PreventCommandIfReadOnly(c"remnants()".as_ptr());
    }
    let relation = (!call.is_null(0)).then(|| Oid::from(call.datum(0).value() as u32));
    let rows = Rows::of(fcinfo);
    let table = Tables::get()?.account.table;
    let query = "SELECT f.severity, f.subject, f.finding, f.remedy \
                 FROM fieldcrypt.find_remnants($1::pg_catalog.regclass) AS f";
    let found = as_owner_of(table, Restriction::None, || {
        Spi::connect_mut(|client| {
            client.update(query, None, &[relation.into()]).map(|_table| rows.push_queried())
        })
    })?;
    found.map_err(|_| Error::Catalog("statement failed"))?;
    Ok(Answer::NULL)
}
