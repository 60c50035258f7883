//! Which values of a document are flagged, for an account and a kind: compiled once, and kept
//! until the catalog changes.
//!
//! Invariant: of several flags on one path the most specific holds: account and kind, then
//! account, then kind, then neither; one that is retired holds only where no other does. Of a path
//! and another below it, the outer one holds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fieldcrypt_document::flags::Flags;
use fieldcrypt_document::path::Path;

use crate::access::{Privileges, rights};
use crate::backend;
use crate::catalog::field::{By, Field};
use crate::catalog::path::{EVERY_ACCOUNT, FlaggedPath};
use crate::catalog::{fields, invalidation};
use crate::error::{Error, Result};
use crate::keyring::sealer::Sealer;

/// Policies that are kept at most.
const MOST_KEPT: usize = 10_000;

/// The flag on a path.
pub struct Flag {
    pub field: Rc<Field>,
    pub seals_null: bool,
    /// No longer flagged; what was sealed there stays as it is.
    pub retired: bool,
    sealer: RefCell<Option<Rc<Sealer>>>,
}

impl Flag {
    /// Seals values of the flag's field, for whoever may encrypt.
    pub fn sealer(&self, account: &str) -> Result<Rc<Sealer>> {
        if let Some(sealer) = &*self.sealer.borrow()
            && sealer.is_current(account)
        {
            return Ok(Rc::clone(sealer));
        }
        let sealer = Sealer::to_encrypt(By::Id(self.field.id), account)?;
        self.sealer.replace(Some(Rc::clone(&sealer)));
        Ok(sealer)
    }

    /// What the current user may do with the flag's field.
    pub fn privileges(&self, account: &str) -> Result<Privileges> {
        if let Some(sealer) = &*self.sealer.borrow()
            && sealer.is_current(account)
        {
            return Ok(sealer.privileges());
        }
        rights::of(backend::user(), account, &self.field.name)
    }
}

/// The flags of a document for an account and a kind.
pub struct Policy {
    pub flags: Flags<Flag>,
    document: String,
    account: String,
    /// Empty where there is none.
    kind: String,
}

#[derive(Default)]
struct Cache {
    generation: u64,
    policies: HashMap<String, Rc<Policy>>,
    /// The one that was asked for last: most rows of a statement have the same.
    last: Option<Rc<Policy>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// The policy of a document for an account and a kind.
pub fn of(document: &str, account: &str, kind: Option<&str>) -> Result<Rc<Policy>> {
    let generation = invalidation::current();
    let kind = kind.unwrap_or_default();
    let last = CACHE.with_borrow(|cache| {
        let last = cache.last.as_ref().filter(|_| cache.generation == generation)?;
        last.is_of(document, account, kind).then(|| Rc::clone(last))
    });
    if let Some(policy) = last {
        return Ok(policy);
    }
    let policy = look_up(generation, document, account, kind)?;
    CACHE.with_borrow_mut(|cache| {
        if cache.generation == invalidation::generation()
            && let Some(before) = cache.last.replace(Rc::clone(&policy))
        {
            before.let_go_of_keys();
        }
    });
    Ok(policy)
}

fn look_up(generation: u64, document: &str, account: &str, kind: &str) -> Result<Rc<Policy>> {
    // neither a name nor an account holds a control character
    let key = [document, account, kind].join("\0");
    let cached = CACHE.with_borrow_mut(|cache| {
        if cache.generation != generation {
            *cache = Cache { generation, ..Cache::default() };
        }
        cache.policies.get(&key).cloned()
    });
    if let Some(policy) = cached {
        return Ok(policy);
    }
    let policy = Rc::new(Policy::load(document, account, kind)?);
    CACHE.with_borrow_mut(|cache| {
        if cache.generation == invalidation::generation() {
            if cache.policies.len() >= MOST_KEPT {
                cache.policies.clear();
            }
            cache.policies.insert(key, Rc::clone(&policy));
        }
    });
    Ok(policy)
}

impl Policy {
    /// Whether both are of the same document, account and kind, perhaps of different times.
    pub fn has_subject_of(&self, other: &Self) -> bool {
        self.is_of(&other.document, &other.account, &other.kind)
    }

    fn is_of(&self, document: &str, account: &str, kind: &str) -> bool {
        // most documents have no kind: to compare nothing at no address takes glibc's memcmp with
        // AVX-512 longer than all the rest, since the processor has to suppress a fault
        let is_of_kind = if kind.is_empty() { self.kind.is_empty() } else { self.kind == kind };
        is_of_kind && self.account == account && self.document == document
    }

    /// Leaves its keys to the key cache, which has a bound.
    fn let_go_of_keys(&self) {
        for flag in self.flags.rules() {
            flag.sealer.take();
        }
    }

    fn load(document: &str, account: &str, kind: &str) -> Result<Self> {
        let mut paths = FlaggedPath::of(document, EVERY_ACCOUNT)?;
        if account != EVERY_ACCOUNT {
            paths.extend(FlaggedPath::of(document, account)?);
        }
        paths.retain(|path| path.kind.is_empty() || path.kind == kind);
        // the later of two flags on one path holds
        paths.sort_by_key(|path| {
            (!path.retired, path.account != EVERY_ACCOUNT, !path.kind.is_empty())
        });
        let mut rules = Vec::new();
        for path in paths {
            let field = fields::require(By::Name(&path.field))?;
            let flag = Flag {
                field,
                seals_null: path.seals_null,
                retired: path.retired,
                sealer: RefCell::default(),
            };
            let path: Path = path.path.parse().map_err(|_| Error::Catalog("path"))?;
            rules.push((path, flag));
        }
        Ok(Self {
            flags: Flags::compile(rules),
            document: document.to_owned(),
            account: account.to_owned(),
            kind: kind.to_owned(),
        })
    }
}
