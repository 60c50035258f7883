//! Under which keys the stored values are: found by looking at each of them, not by counting what
//! was written.

mod keys;
mod places;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use fieldcrypt_core::field::check_account;
use fieldcrypt_core::key::{KeyId, Purpose};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use crate::access::roles::{KEY_ADMIN, require_role};
use crate::call::{Answer, Call, Rows};
use crate::catalog::key::StoredKey;
use crate::error::{Error, Result};
use places::Place;

type Answered = std::result::Result<Answer, ErrorReport>;

/// A key that values of a column are under, or what keeps a column from being looked at.
pub struct Use {
    place: Place,
    /// `None` where it is not known.
    account: Option<String>,
    key: Option<(KeyId, Option<(Purpose, u32)>)>,
    /// Values; `None` where nothing was counted.
    pub count: Option<i64>,
    problem: Option<String>,
}

impl Use {
    /// Whether the values of that account may be concerned.
    pub fn concerns(&self, account: &str) -> bool {
        match &self.account {
            Some(owner) => owner == account,
            None => self.key.is_none(),
        }
    }

    /// Whether the values under that key, which is one of `account`, may be concerned.
    pub fn concerns_key(&self, key: KeyId, account: &str) -> bool {
        match self.key {
            Some((used, _)) if self.problem.is_none() => used == key,
            _ => self.concerns(account),
        }
    }

    /// What it says, in words.
    pub fn describe(&self) -> String {
        let subject = &self.place.subject;
        match (self.count, &self.problem) {
            (Some(count), problem) => {
                format!("{subject}: {count} {}", problem.as_deref().unwrap_or("values"))
            }
            (None, problem) => format!("{subject}: {}", problem.as_deref().unwrap_or_default()),
        }
    }
}

/// What keeps others from putting values under a key back while it is destroyed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nothing: the answer is of the moment.
    GoOn,
    /// Transactions from before have ended, and writers wait until this one ends.
    Wait,
}

/// Every key under which there are values, by column, and what could not be looked at.
pub fn find(writers: Writers) -> Result<Vec<Use>> {
    let places = match writers {
        Writers::GoOn => places::all(writers)?,
        Writers::Wait => places::held()?,
    };
    let mut uses = Vec::new();
    let mut names = Names::new();
    for (place, found) in places::look(places)? {
        add(&mut uses, &mut names, &place, found)?;
    }
    Ok(uses)
}

/// Fails if values of columns, other than documents, have tokens under an index key, or may have.
pub fn require_no_tokens(index_key: KeyId) -> Result<()> {
    let places = places::all(Writers::Wait)?.into_iter().filter(Place::holds_columns).collect();
    for (place, found) in places::look(places)? {
        if place.problem.is_none() && !found.under.contains_key(&index_key) {
            continue;
        }
        let problem =
            place.problem.unwrap_or_else(|| "values under the older index key".to_owned());
        return Err(Error::TokensLeft(format!("{}: {problem}", place.subject)));
    }
    Ok(())
}

type Names = HashMap<KeyId, Option<(String, Purpose, u32)>>;

fn add(uses: &mut Vec<Use>, names: &mut Names, place: &Place, found: keys::Found) -> Result<()> {
    let mut push = |key, account, count, problem: Option<&str>| {
        let problem = problem.map(str::to_owned);
        uses.push(Use { place: place.clone(), account, key, count, problem });
    };
    if let Some(problem) = &place.problem {
        push(None, None, None, Some(problem));
    }
    if found.malformed > 0 {
        push(None, None, Some(found.malformed), Some("values that are no envelopes"));
    }
    for (counts, problem) in [
        (found.under, None),
        (found.closed, Some("documents that cannot be opened to look at the values in them")),
    ] {
        for (id, count) in counts {
            let name = match names.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let key = StoredKey::find(id)?;
                    unknown.insert(key.map(|key| (key.account, key.purpose, key.version)))
                }
            };
            let (account, version) = match name {
                Some((account, purpose, version)) => {
                    (Some(account.clone()), Some((*purpose, *version)))
                }
                None => (None, None),
            };
            push(Some((id, version)), account, Some(count), problem);
        }
    }
    Ok(())
}

/// Adds a row of the type `usage` for each.
pub fn push<'a>(rows: &Rows, uses: impl Iterator<Item = &'a Use>) {
    for found in uses {
        let key = found.key.as_ref();
        let version = key.and_then(|(_, version)| version.as_ref());
        let relation = found.place.relation;
        rows.push([
            relation.map_or(Answer::NULL, |relation| Answer::datum(Datum::from(relation))),
            Answer::optional_text(found.place.column.as_deref()),
            Answer::optional_text(found.account.as_deref()),
            Answer::optional_text(version.map(|(purpose, _)| purpose.name())),
            version.map_or(Answer::NULL, |(_, version)| version.cast_signed().into()),
            key.map_or(Answer::NULL, |(id, _)| id.number().cast_signed().into()),
            found.count.map_or(Answer::NULL, Answer::from),
            Answer::optional_text(found.problem.as_deref()),
        ]);
    }
}

/// `key_usage(account text) → SETOF usage`: which keys the stored values are under, of one account
/// or of all.
#[pg_extern(sql = false)]
fn key_usage(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(KEY_ADMIN, "key_usage")?;
    let account = call.optional_text(0)?;
    if let Some(account) = &account {
        check_account(account).map_err(|error| Error::Name("account", error))?;
    }
    let rows = Rows::of(fcinfo);
    let uses = find(Writers::GoOn)?;
    let of_account = |found: &&Use| account.as_ref().is_none_or(|account| found.concerns(account));
    push(&rows, uses.iter().filter(of_account));
    Ok(Answer::NULL)
}
