//! The privileges of the current user, cached until a grant or a role membership changes.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::Oid;

use super::Privileges;
use super::roles;
use crate::catalog::grant::Grant;
use crate::catalog::invalidation;
use crate::error::Result;

#[derive(Default)]
struct Cache {
    generation: u64,
    /// The grants that each user has, by account; those for all accounts under `*`.
    grants: HashMap<Oid, HashMap<String, Vec<Grant>>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Every privilege that `user` has on a field of an account.
pub fn of(user: Oid, account: &str, field: &str) -> Result<Privileges> {
    let generation = invalidation::current();
    let cached = CACHE.with_borrow_mut(|cache| {
        if cache.generation != generation {
            *cache = Cache { generation, ..Cache::default() };
        }
        cache.grants.get(&user).map(|grants| union(grants, account, field))
    });
    if let Some(privileges) = cached {
        return Ok(privileges);
    }
    // the cache is not borrowed while the catalog is read
    let grants = load(user)?;
    let privileges = union(&grants, account, field);
    CACHE.with_borrow_mut(|cache| {
        if cache.generation == invalidation::generation() {
            cache.grants.insert(user, grants);
        }
    });
    Ok(privileges)
}

fn load(user: Oid) -> Result<HashMap<String, Vec<Grant>>> {
    let mut grants = HashMap::<_, Vec<_>>::new();
    for role in roles::inherited(user)? {
        for grant in Grant::of_role(role)? {
            grants.entry(grant.account.clone()).or_default().push(grant);
        }
    }
    Ok(grants)
}

fn union(grants: &HashMap<String, Vec<Grant>>, account: &str, field: &str) -> Privileges {
    [account, crate::catalog::grant::ALL]
        .into_iter()
        .filter_map(|account| grants.get(account))
        .flatten()
        .filter(|grant| grant.covers(account, field))
        .fold(Privileges::default(), |union, grant| union.union(grant.privileges))
}
