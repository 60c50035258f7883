//! Keys found by some bits of their ids, one of many too, without the cache misses of a list over
//! all of them: one for the set, and one for the key.

use super::cache::{OpenKey, Place};
use super::locked::Locked;

/// Keys of a set.
const WAYS: usize = 4;
/// Sets at first, and at most.
const FIRST_SETS: usize = 1 << 4;
const MOST_SETS: usize = 1 << 14;

/// Keys that were used lately, in sets: a key that comes to a full set takes the place of another.
pub struct Recent(Vec<Set>);

/// It takes one line of the processor's cache.
#[derive(Clone, Default)]
#[repr(align(64))]
struct Set([Option<Slot>; WAYS]);

/// A key, and what is told of it without a look at it.
#[derive(Clone)]
struct Slot {
    ids: u64,
    key: Locked<OpenKey>,
}

/// Ids are random.
fn ids(place: &Place) -> u64 {
    place.0.number() ^ place.1.0
}

impl Default for Recent {
    fn default() -> Self {
        Self(vec![Set::default(); FIRST_SETS])
    }
}

impl Recent {
    fn set(&mut self, ids: u64) -> &mut [Option<Slot>; WAYS] {
        let set = ids as usize & (self.0.len() - 1);
        &mut self.0[set].0
    }

    /// The key at a place, if it is here.
    pub fn get(&mut self, place: &Place) -> Option<Locked<OpenKey>> {
        let ids = ids(place);
        let is_there = |slot: &&Slot| {
            // all of it is needed soon, and waiting once for all of it is shorter
            slot.key.prefetch();
            slot.key.is_at(place)
        };
        let slots = self.set(ids).iter().flatten();
        let slot = slots.filter(|slot| slot.ids == ids).find(is_there)?;
        Some(slot.key.clone())
    }

    /// Adds a key.
    pub fn put(&mut self, place: &Place, key: Locked<OpenKey>) {
        let ids = ids(place);
        let set = self.set(ids);
        set.rotate_right(1);
        set[0] = Some(Slot { ids, key });
    }

    /// Lets go of the key at a place.
    pub fn remove(&mut self, place: &Place) {
        for slot in self.set(ids(place)) {
            slot.take_if(|slot| slot.key.is_at(place));
        }
    }

    /// Makes room for as many keys, and lets go of all where it has to.
    pub fn make_room(&mut self, keys: usize) {
        if keys > self.0.len() * WAYS / 2 && self.0.len() < MOST_SETS {
            self.0 = vec![Set::default(); self.0.len() * 2];
        }
    }

    /// Lets go of all keys.
    pub fn clear(&mut self) {
        self.0.fill(Set::default());
    }
}
