//! Flagging paths.

use fieldcrypt_core::field::{check_account, check_field_name};
use fieldcrypt_document::path::{Path, PathStep};
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::access::roles::{ADMIN, has_role, require_role};
use crate::access::{Privilege, refused, rights};
use crate::audit::change::{self, About};
use crate::backend;
use crate::call::{Answer, Call};
use crate::catalog::field::{By, Field};
use crate::catalog::path::{EVERY_ACCOUNT, FlaggedPath};
use crate::catalog::query::ask;
use crate::catalog::{account, write};
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

fn done() -> Answered {
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// Fails unless the current user may flag paths of a field for an account.
fn require_manager(account: &str, field: &str, action: &str) -> Result<()> {
    if has_role(ADMIN) {
        return Ok(());
    }
    if account == EVERY_ACCOUNT {
        return require_role(ADMIN, action);
    }
    if rights::of(backend::user(), account, field)?.contains(Privilege::Manage) {
        return Ok(());
    }
    Err(refused(Privilege::Manage, field.to_owned(), account.to_owned()))
}

/// What `protect_path` and `unprotect_path` both take.
struct Arguments {
    document: String,
    paths: Vec<Path>,
    account: String,
    /// Empty for every kind.
    kind: String,
}

impl Arguments {
    fn read(call: &Call, account: usize) -> Result<Self> {
        let document = call.required_text(0, "the document")?.into_owned();
        let paths = call.texts(1)?.filter(|paths| !paths.is_empty()).ok_or(Error::Null("paths"))?;
        let paths = paths
            .into_iter()
            .map(|path| {
                path.parse().map_err(|error: fieldcrypt_document::path::PathError| Error::Path {
                    path,
                    reason: error.to_string(),
                })
            })
            .collect::<Result<Vec<Path>>>()?;
        let (kind, account) = (call.optional_text(account + 1)?, call.optional_text(account)?);
        let account = account.ok_or(Error::Null("the account"))?.into_owned();
        if account != EVERY_ACCOUNT {
            check_account(&account).map_err(|error| Error::Name("account", error))?;
            if account::state(&account)?.is_none() {
                return Err(Error::AccountMissing(account));
            }
        }
        let kind = kind.unwrap_or_default().into_owned();
        Ok(Self { document, paths, account, kind })
    }
}

/// `protect_path(document, paths, field, account, kind, nulls)`
#[pg_extern(sql = false)]
fn protect_path(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let Arguments { document, paths, account, kind } = Arguments::read(&call, 3)?;
    let field = call.required_text(2, "the field")?;
    let field = Field::require(By::Name(&field))?;
    require_manager(&account, &field.name, "protect_path")?;
    let nulls = call.optional_text(5)?.unwrap_or("keep".into());
    if !["keep", "encrypt"].contains(&&*nulls) {
        let hint = "It is one of: keep, encrypt.".to_owned();
        return Err(Error::InvalidArgument { name: "nulls", hint }.into());
    }
    let Some(gathers) = ask("SELECT fieldcrypt.document_gathers($1)", document.as_str().into())?
    else {
        return Err(Error::DocumentMissing(document).into());
    };
    for (index, path) in paths.iter().enumerate() {
        check_path(path, gathers)?;
        let others = paths[..index].iter().map(|other| (other.clone(), None));
        let known = known_paths(&document, &account)?.into_iter().filter_map(|known| {
            let applies = known.kind.is_empty() || kind.is_empty() || known.kind == kind;
            let same_scope = known.account == account && known.kind == kind;
            (applies && !known.retired)
                .then(|| Some((known.path.parse().ok()?, same_scope.then_some(known.field))))
                .flatten()
        });
        for (other, other_field) in others.chain(known) {
            check_overlap(path, &other, other_field.as_deref(), &field.name)?;
        }
        let detail = Some(format!("{path} of {document}"));
        let about = About { field: Some(&field.name), account: Some(&account), detail };
        change::begins("protect_path", about)?;
        write::run(
            "INSERT INTO fieldcrypt.path AS p (document, account, kind, path, field, nulls, state) \
             VALUES ($1, $2, $3, $4, $5, $6, 'active') \
             ON CONFLICT (document, account, kind, path) DO UPDATE SET \
             field = excluded.field, nulls = excluded.nulls, state = 'active', \
             changed_at = pg_catalog.now(), changed_by = session_user",
            &[
                document.as_str().into(),
                account.as_str().into(),
                kind.as_str().into(),
                path.to_string().into(),
                field.name.as_str().into(),
                nulls.as_ref().into(),
            ],
        )?;
    }
    done()
}

/// The flags that could hold together with one for the account.
fn known_paths(document: &str, account: &str) -> Result<Vec<FlaggedPath>> {
    if account == EVERY_ACCOUNT {
        return FlaggedPath::all_of(document);
    }
    let mut known = FlaggedPath::of(document, EVERY_ACCOUNT)?;
    known.extend(FlaggedPath::of(document, account)?);
    Ok(known)
}

/// Fails for names that can never be encrypted, and for arrays where values are gathered.
fn check_path(path: &Path, gathers: bool) -> Result<()> {
    let refused = |reason: String| Err(Error::Path { path: path.to_string(), reason });
    if gathers && path.steps().contains(&PathStep::Each) {
        return refused("values inside arrays cannot be gathered in a blob column".to_owned());
    }
    let last = path.steps().iter().rev().find_map(|step| match step {
        PathStep::Key(key) => Some(key),
        PathStep::Each => None,
    });
    if let Some(name) = last
        && ask("SELECT fieldcrypt.is_plain_name($1)", name.as_str().into())? == Some(true)
    {
        return refused(format!("\"{name}\" is a name that is never encrypted"));
    }
    Ok(())
}

/// Fails if one of two paths is inside the other, or if they are the same and of two fields.
fn check_overlap(path: &Path, other: &Path, other_field: Option<&str>, field: &str) -> Result<()> {
    let refused = |reason: String| Err(Error::Path { path: path.to_string(), reason });
    if path == other {
        return match other_field {
            Some(other) if other != field => {
                refused(format!("it is flagged with field \"{other}\" already"))
            }
            _ => Ok(()),
        };
    }
    // a key looks into arrays as well, so that what counts is the keys
    let (keys, other_keys) = (keys(path), keys(other));
    if keys == other_keys {
        refused(format!("it takes the same values as {other}, which is flagged already"))
    } else if keys.starts_with(&other_keys) {
        refused(format!("it is inside {other}, which is flagged already"))
    } else if other_keys.starts_with(&keys) {
        refused(format!("{other} inside it is flagged already"))
    } else {
        Ok(())
    }
}

fn keys(path: &Path) -> Vec<&str> {
    let keys = path.steps().iter().filter_map(|step| match step {
        PathStep::Key(key) => Some(key.as_str()),
        PathStep::Each => None,
    });
    keys.collect()
}

/// `unprotect_path(document, paths, account, kind)`
#[pg_extern(sql = false)]
fn unprotect_path(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let Arguments { document, paths, account, kind } = Arguments::read(&call, 2)?;
    if FlaggedPath::all_of(&document)?.is_empty() {
        return Err(Error::DocumentMissing(document).into());
    }
    for path in paths {
        let path = path.to_string();
        let flagged = FlaggedPath::of(&document, &account)?
            .into_iter()
            .find(|known| known.path == path && known.kind == kind && !known.retired);
        let Some(flagged) = flagged else {
            let reason = "it is not flagged for that account and kind".to_owned();
            return Err(Error::Path { path, reason }.into());
        };
        require_manager(&account, &flagged.field, "unprotect_path")?;
        if !Field::require(By::Name(&flagged.field))?.reversible {
            return Err(Error::Irreversible(flagged.field).into());
        }
        let detail = Some(format!("{path} of {document}"));
        let about = About { field: Some(&flagged.field), account: Some(&account), detail };
        change::begins("unprotect_path", about)?;
        write::run(
            "UPDATE fieldcrypt.path SET state = 'retired', changed_at = pg_catalog.now(), \
             changed_by = session_user WHERE document OPERATOR(pg_catalog.=) $1 \
             AND account OPERATOR(pg_catalog.=) $2 AND kind OPERATOR(pg_catalog.=) $3 \
             AND path OPERATOR(pg_catalog.=) $4",
            &[
                document.as_str().into(),
                account.as_str().into(),
                kind.as_str().into(),
                path.as_str().into(),
            ],
        )?;
    }
    done()
}

/// `keep_plain(names text[])`: names of keys that are never encrypted from now on.
#[pg_extern(sql = false)]
fn keep_plain(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "keep_plain")?;
    for name in call.texts(0)?.unwrap_or_default() {
        let flagged = "SELECT fieldcrypt.path_ending_in($1)";
        if let Some(path) = ask(flagged, name.as_str().into())? {
            let reason = "it is flagged already".to_owned();
            return Err(Error::Path { path, reason }.into());
        }
        let about = About { detail: Some(name.clone()), ..About::default() };
        change::begins("keep_plain", about)?;
        write::run(
            "INSERT INTO fieldcrypt.plain_name (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
            &[name.as_str().into()],
        )?;
    }
    done()
}

/// `check_document_name(name text)`
#[pg_extern(sql = false)]
fn check_document_name(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    check_field_name(&call.text(0)?).map_err(|error| Error::Name("document", error))?;
    done()
}
