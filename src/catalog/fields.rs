//! Fields, cached until the catalog changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fieldcrypt_core::field::FieldId;

use super::field::{By, Field};
use super::invalidation;
use crate::error::{Error, Result};

#[derive(Default)]
struct Cache {
    generation: u64,
    by_handle: HashMap<i32, Rc<Field>>,
    by_id: HashMap<FieldId, Rc<Field>>,
    by_name: HashMap<String, Rc<Field>>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// The field, from the cache or the catalog.
pub fn require(by: By<'_>) -> Result<Rc<Field>> {
    find(by)?.ok_or_else(|| Error::FieldMissing(by.to_string()))
}

/// The field, if it exists.
pub fn find(by: By<'_>) -> Result<Option<Rc<Field>>> {
    let generation = invalidation::current();
    let cached = CACHE.with_borrow_mut(|cache| {
        if cache.generation != generation {
            *cache = Cache { generation, ..Cache::default() };
        }
        match by {
            By::Handle(handle) => cache.by_handle.get(&handle).cloned(),
            By::Id(id) => cache.by_id.get(&id).cloned(),
            By::Name(name) => cache.by_name.get(name).cloned(),
        }
    });
    if cached.is_some() {
        return Ok(cached);
    }
    let Some(field) = Field::find(by)?.map(Rc::new) else { return Ok(None) };
    CACHE.with_borrow_mut(|cache| {
        cache.by_handle.insert(field.id.handle(), Rc::clone(&field));
        cache.by_id.insert(field.id, Rc::clone(&field));
        cache.by_name.insert(field.name.clone(), Rc::clone(&field));
    });
    Ok(Some(field))
}
