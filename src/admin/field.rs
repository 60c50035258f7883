//! Fields and their policies.

use fieldcrypt_core::field::{FieldId, check_field_name};
use fieldcrypt_core::mask::Mask;
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::Scope;
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

fn check_search(kinds: &mut Vec<String>) -> Result<()> {
    kinds.dedup();
    for kind in kinds.iter() {
        one_of("search", kind, ["exact", "unique"])?;
    }
    if kinds.len() > 1 {
        let hint = "A field has one kind: what can be found can be unique as well.".to_owned();
        return Err(Error::InvalidArgument { name: "search", hint });
    }
    Ok(())
}

/// Fails for a field without tokens that is to be searched across accounts, or to keep nothing else.
fn require_tokens(scope: Scope, token_only: bool) -> Result<()> {
    if scope == Scope::Account && !token_only {
        return Ok(());
    }
    let hint = "Without it there are no tokens: search => '{exact}' or '{unique}'.".to_owned();
    Err(Error::InvalidArgument { name: "search", hint })
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
    check_search(&mut search)?;
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
    if search.is_empty() {
        let across = if scope == "account" { Scope::Account } else { Scope::Database };
        require_tokens(across, store == "token")?;
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

/// `alter_field(name, mask, hidden, padding, suite, label, search, normalizer)`: values that are stored
/// stay readable. If they need other tokens the field is not searched until jobs have made them.
/// NULL leaves as it is.
#[pg_extern(sql = false)]
fn alter_field(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "alter_field")?;
    let name = call.optional_text(0)?.unwrap_or_default();
    if [3, 4, 6, 7].into_iter().any(|index| !call.is_null(index)) {
        // what a job has verified is of the policy before; it waits for a batch that is under way
        write::texts("SELECT fieldcrypt.forget_verified($1)::text", &[name.as_ref().into()])?;
    }
    let field = Field::require(By::Name(&name))?;
    let checks: [(usize, &str, Check); 5] = [
        (1, "mask", check_mask),
        (2, "hidden", check_hidden),
        (3, "padding", check_padding),
        (4, "suite", check_suite),
        (7, "normalizer", check_normalizer),
    ];
    let mut changes = Vec::new();
    for (index, policy, check) in checks {
        if let Some(value) = call.optional_text(index)? {
            check(&value)?;
            changes.push(format!("{policy} {value}"));
        }
    }
    let mut search = call.texts(6)?;
    if let Some(kinds) = &mut search {
        check_search(kinds)?;
        changes.push(format!("search {{{}}}", kinds.join(", ")));
    }
    let normalizer = call.optional_text(7)?;
    let about = About { field: Some(&name), detail: Some(changes.join(", ")), account: None };
    change::begins("alter_field", about)?;
    let kind = match &search {
        Some(kinds) => kinds.first().cloned(),
        None => field.search_kind().map(str::to_owned),
    };
    let normalizes_anew = normalizer.as_deref().is_some_and(|new| new != field.normalizer.name());
    let other_tokens = kind.as_deref() != field.search_kind() || kind.is_some() && normalizes_anew;
    if other_tokens {
        require_other_tokens(&field, kind.is_some())?;
    }
    write::run(
        "UPDATE fieldcrypt.field SET \
         mask = CASE WHEN $2 IS NULL THEN mask ELSE NULLIF($2, 'none') END, \
         hidden = COALESCE($3, hidden), padding = COALESCE($4, padding), \
         suite = COALESCE($5, suite), label = COALESCE($6, label), \
         search = COALESCE($7, search), normalizer = COALESCE($8, normalizer), \
         backfilled = CASE WHEN $9 THEN \
             $10 OR NOT EXISTS (SELECT FROM fieldcrypt.places_left(name)) ELSE backfilled END, \
         changed_at = pg_catalog.now(), changed_by = session_user \
         WHERE name OPERATOR(pg_catalog.=) $1",
        &[
            name.as_ref().into(),
            call.optional_text(1)?.as_deref().into(),
            call.optional_text(2)?.as_deref().into(),
            call.optional_text(3)?.as_deref().into(),
            call.optional_text(4)?.as_deref().into(),
            call.optional_text(5)?.as_deref().into(),
            search.into(),
            normalizer.as_deref().into(),
            other_tokens.into(),
            kind.is_none().into(),
        ],
    )?;
    if other_tokens {
        // plans compare tokens, and were permitted to
        // SAFETY: queues a message for every session, whose plans depend on the operators
        unsafe { pg_sys::CacheInvalidateCatalog(pg_sys::OperatorRelationId) };
    }
    done()
}

/// Fails unless the values of a field can get the tokens of another search kind or normalizer.
fn require_other_tokens(field: &Field, searched: bool) -> Result<()> {
    let stays = |obstacle: String, remedy: String| {
        Err(Error::SearchStays { field: field.name.clone(), obstacle, remedy })
    };
    if field.token_only {
        let remedy = "Create another field, and write the values anew.".to_owned();
        return stays("its values are kept as tokens only".to_owned(), remedy);
    }
    if !searched {
        require_tokens(field.scope, field.token_only)?;
    }
    let obstacle = "SELECT pg_catalog.unnest(ARRAY[pg_catalog.concat(p.subject, ' ', p.finding), p.remedy]) \
        FROM (SELECT o.subject, o.finding, o.remedy FROM fieldcrypt.obstacles_to_search($1, $2) AS o LIMIT 1) AS p";
    let found = write::texts(obstacle, &[field.name.as_str().into(), searched.into()])?;
    match <[String; 2]>::try_from(found) {
        Ok([obstacle, remedy]) => stays(obstacle, remedy),
        Err(_) => Ok(()),
    }
}

/// `complete_backfill(field text) → boolean`: lets a field be searched again if all of its values have
/// the tokens of its policy; whether it can be.
#[pg_extern(sql = false)]
fn complete_backfill(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "complete_backfill")?;
    let name = call.text(0)?;
    if !Field::require(By::Name(&name))?.backfilled {
        complete_backfills()?;
    }
    Ok(Field::require(By::Name(&name))?.backfilled.into())
}

/// Lets the fields be searched again of which all values have the tokens of their policy.
pub fn complete_backfills() -> Result<()> {
    for name in write::texts("SELECT fieldcrypt.complete_backfills()", &[])? {
        change::begins("complete_backfill", About { field: Some(&name), ..About::default() })?;
    }
    Ok(())
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
