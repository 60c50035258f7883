//! Fields and their policies.

use fieldcrypt_core::field::{FieldId, check_field_name};
use fieldcrypt_core::mask::Mask;
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::suite::Suite;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::access::roles::{ADMIN, require_role};
use crate::audit::change::{self, About};
use crate::call::{Answer, Call};
use crate::catalog::field::{By, Field};
use crate::catalog::{query, write};
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

fn done() -> Answered {
    Ok(Answer::datum(pg_sys::Datum::null()))
}

/// Fails unless `value` is one of `known`.
fn one_of<'a>(
    name: &'static str,
    value: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let known: Vec<_> = known.into_iter().collect();
    if known.contains(&value) {
        return Ok(());
    }
    Err(Error::InvalidArgument { name, hint: format!("It is one of: {}.", known.join(", ")) })
}

fn check_suite(value: &str) -> Result<()> {
    one_of("suite", value, Suite::ALL.map(Suite::name))
}

fn check_normalizer(value: &str) -> Result<()> {
    one_of("normalizer", value, Normalizer::ALL.map(Normalizer::name))
}

fn check_mask(value: &str) -> Result<()> {
    if value == "none" {
        return Ok(());
    }
    Mask::parse(value)?;
    Ok(())
}

fn check_hidden(value: &str) -> Result<()> {
    one_of("hidden", value, ["mask", "ciphertext"])
}

fn check_scope(value: &str) -> Result<()> {
    one_of("scope", value, ["account", "database"])
}

fn check_store(value: &str) -> Result<()> {
    one_of("store", value, ["value", "token"])
}

fn check_padding(value: &str) -> Result<()> {
    one_of("padding", value, Padding::ALL.map(Padding::name))
}

type Check = fn(&str) -> Result<()>;

/// `create_field(name, search, normalizer, mask, hidden, padding, suite, label, scope, store,
/// reversible, small_domain)`
#[pg_extern(sql = false)]
fn create_field(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "create_field")?;
    let name = call.optional_text(0)?.unwrap_or_default();
    check_field_name(&name).map_err(|error| Error::Name("field", error))?;
    let mut search = call.texts(1)?.unwrap_or_default();
    search.dedup();
    for kind in &search {
        one_of("search", kind, ["exact", "unique"])?;
    }
    if search.len() > 1 {
        let hint = "A field has one kind: what can be found can be unique as well.".to_owned();
        return Err(Error::InvalidArgument { name: "search", hint }.into());
    }
    let text = |index, default: &str| {
        Ok::<_, Error>(call.optional_text(index)?.map_or_else(|| default.to_owned(), Into::into))
    };
    let normalizer = text(2, Normalizer::None.name())?;
    check_normalizer(&normalizer)?;
    let mask = text(3, "none")?;
    check_mask(&mask)?;
    let hidden = text(4, "mask")?;
    check_hidden(&hidden)?;
    let padding = text(5, Padding::None.name())?;
    check_padding(&padding)?;
    let suite = text(6, Suite::Xaes256Gcm.name())?;
    check_suite(&suite)?;
    let label = call.optional_text(7)?;
    let scope = text(8, "account")?;
    check_scope(&scope)?;
    let store = text(9, "value")?;
    check_store(&store)?;
    let reversible = call.is_null(10) || call.boolean(10);
    let small_domain = !call.is_null(11) && call.boolean(11);
    if search.is_empty() && (scope != "account" || store != "value") {
        let hint = "Without it there are no tokens: search => '{exact}' or '{unique}'.".to_owned();
        return Err(Error::InvalidArgument { name: "search", hint }.into());
    }

    let id = FieldId::of(&name);
    if Field::find(By::Name(&name))?.is_some() {
        return Err(Error::FieldExists(name.into_owned()).into());
    }
    if let Some(other) = Field::find(By::Handle(id.handle()))? {
        return Err(Error::FieldHandle(name.into_owned(), other.name).into());
    }
    let detail = Some(format!(
        "suite {suite}, search {{{}}}, normalizer {normalizer}, mask {mask}, hidden {hidden}, \
         padding {padding}, scope {scope}, store {store}, reversible {reversible}, \
         small_domain {small_domain}",
        search.join(", ")
    ));
    change::begins("create_field", About { field: Some(&name), detail, ..About::default() })?;
    write::run(
        "INSERT INTO fieldcrypt.field \
         (name, field_id, handle, label, suite, search, normalizer, mask, hidden, padding, \
         scope, store, reversible, small_domain) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULLIF($8, 'none'), $9, $10, $11, $12, $13, $14)",
        &[
            name.as_ref().into(),
            id.0.cast_signed().into(),
            id.handle().into(),
            label.as_deref().into(),
            suite.as_str().into(),
            search.into(),
            normalizer.as_str().into(),
            mask.as_str().into(),
            hidden.as_str().into(),
            padding.as_str().into(),
            scope.as_str().into(),
            store.as_str().into(),
            reversible.into(),
            small_domain.into(),
        ],
    )?;
    done()
}

/// `alter_field(name, mask, hidden, padding, suite, label)`: what is safe to change, since values
/// that are stored stay readable and searchable. NULL leaves as it is.
#[pg_extern(sql = false)]
fn alter_field(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "alter_field")?;
    let name = call.optional_text(0)?.unwrap_or_default();
    Field::require(By::Name(&name))?;
    let checks: [(&str, Check); 4] = [
        ("mask", check_mask),
        ("hidden", check_hidden),
        ("padding", check_padding),
        ("suite", check_suite),
    ];
    let mut changes = Vec::new();
    for (index, (policy, check)) in checks.iter().enumerate() {
        if let Some(value) = call.optional_text(index + 1)? {
            check(&value)?;
            changes.push(format!("{policy} {value}"));
        }
    }
    let about = About { field: Some(&name), detail: Some(changes.join(", ")), account: None };
    change::begins("alter_field", about)?;
    write::run(
        "UPDATE fieldcrypt.field SET \
         mask = CASE WHEN $2 IS NULL THEN mask ELSE NULLIF($2, 'none') END, \
         hidden = COALESCE($3, hidden), padding = COALESCE($4, padding), \
         suite = COALESCE($5, suite), label = COALESCE($6, label), \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE name OPERATOR(pg_catalog.=) $1",
        &[
            name.as_ref().into(),
            call.optional_text(1)?.as_deref().into(),
            call.optional_text(2)?.as_deref().into(),
            call.optional_text(3)?.as_deref().into(),
            call.optional_text(4)?.as_deref().into(),
            call.optional_text(5)?.as_deref().into(),
        ],
    )?;
    done()
}

/// `drop_field(name)`: refused while a column or a domain is of the field. Grants that name it are
/// dropped with it.
#[pg_extern(sql = false)]
fn drop_field(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "drop_field")?;
    let name = call.required_text(0, "the field")?;
    let field = Field::require(By::Name(&name))?;
    let uses =
        "SELECT used_by FROM fieldcrypt.uses_of_field($1) AS used_by ORDER BY used_by LIMIT 1";
    if let Some(user) = query::ask(uses, field.id.handle().into())? {
        return Err(Error::FieldInUse(field.name, user).into());
    }
    change::begins("drop_field", About { field: Some(&name), ..About::default() })?;
    write::run(
        "DELETE FROM fieldcrypt.access_grant WHERE field OPERATOR(pg_catalog.=) $1",
        &[name.as_ref().into()],
    )?;
    write::run(
        "DELETE FROM fieldcrypt.field WHERE name OPERATOR(pg_catalog.=) $1",
        &[name.as_ref().into()],
    )?;
    done()
}
