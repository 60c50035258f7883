//! Memory for key material: locked, so that it is not swapped out, and left out of core dumps.
//!
//! Invariant: a value is dropped, which wipes it, before its place is used again. Locking is best
//! effort: where the limit (`ulimit -l`) is reached, the rest stays unlocked.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};

use crate::backend;

/// How much is mapped at a time, in bytes; a multiple of the page size. Small, so that a low limit
/// on locked memory still covers the first keys.
pub const CHUNK: usize = 1 << 15;

/// The free places for values of one size.
struct Free {
    size: usize,
    places: Vec<NonNull<u8>>,
}

thread_local! {
    static FREE: RefCell<Vec<Free>> = const { RefCell::new(Vec::new()) };
    static PROCESS: Cell<u32> = const { Cell::new(0) };
    static CHUNKS: RefCell<Vec<NonNull<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Takes a place of `size` bytes, aligned to 64.
fn take(size: usize) -> Option<NonNull<u8>> {
    lock_after_fork();
    let size = size.next_multiple_of(64);
    FREE.with_borrow_mut(|all| {
        let index = all.iter().position(|free| free.size == size).unwrap_or_else(|| {
            all.push(Free { size, places: Vec::new() });
            all.len() - 1
        });
        let free = &mut all[index];
        if free.places.is_empty() {
            let chunk = map()?;
            free.places.extend((0..CHUNK / size).map(|i| {
                // SAFETY: the offset is inside the chunk that was just mapped
                unsafe { chunk.add(i * size) }
            }));
        }
        free.places.pop()
    })
}

fn give_back(place: NonNull<u8>, size: usize) {
    let size = size.next_multiple_of(64);
    // at the end of a process the list may be gone before the last value: then nobody needs it
    let _ = FREE.try_with(|all| {
        if let Some(free) = all.borrow_mut().iter_mut().find(|free| free.size == size) {
            free.places.push(place);
        }
    });
}

/// Maps a chunk. It is never unmapped: its places are used again.
fn map() -> Option<NonNull<u8>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping at an address that the kernel chooses
    let chunk =
        unsafe { mmap_anonymous(std::ptr::null_mut(), CHUNK, protection, MapFlags::PRIVATE).ok()? };
    // SAFETY: the whole range was just mapped. Each call is an improvement only: without it the
    // memory is as any other
    unsafe {
        let _ = madvise(chunk, CHUNK, Advice::LinuxDontDump);
        let _ = mlock(chunk, CHUNK);
    }
    let chunk = NonNull::new(chunk.cast())?;
    CHUNKS.with_borrow_mut(|chunks| chunks.push(chunk));
    Some(chunk)
}

/// Locks again what was mapped before a fork, once per process: locks are not inherited.
pub fn lock_after_fork() {
    if PROCESS.replace(backend::process()) == backend::process() {
        return;
    }
    CHUNKS.with_borrow(|chunks| {
        for chunk in chunks {
            // SAFETY: the chunk was mapped with this size and is never unmapped; best effort
            let _ = unsafe { mlock(chunk.as_ptr().cast(), CHUNK) };
        }
    });
}

/// A value in locked memory.
pub struct Locked<T>(NonNull<T>);

impl<T> Locked<T> {
    /// Moves a value into locked memory.
    ///
    /// # Panics
    /// If the system gives no memory, or the value is larger than a chunk.
    pub fn new(value: T) -> Self {
        const {
            assert!(align_of::<T>() <= 64 && size_of::<T>() <= CHUNK && size_of::<T>() > 0);
        }
        let Some(place) = take(size_of::<T>()) else { panic!("out of memory for keys") };
        let place = place.cast::<T>();
        // SAFETY: the place is free, aligned to 64, and at least as large as T
        unsafe { place.write(value) };
        Self(place)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a value there, and the place is ours until drop
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: as in `deref`; the value is not used after
        unsafe { self.0.drop_in_place() };
        give_back(self.0.cast(), size_of::<T>());
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked")
    }
}
