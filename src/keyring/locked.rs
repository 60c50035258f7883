//! Memory for key material: locked, so that it is not swapped out, and left out of core dumps; and
//! stack and registers wiped of what passed through them on the way there.
//!
//! Invariant: a value is dropped, which wipes it, before its place is used again. Locking is best
//! effort: where the limit (`ulimit -l`) is reached, the rest stays unlocked.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use rustix::process::{Resource, getrlimit};

use crate::backend;

/// How much is mapped at first, in bytes: little, so that a low limit on locked memory still
/// covers the first keys.
pub const FIRST_CHUNK: usize = 1 << 15;
/// How much is mapped at a time from then on, in bytes.
const CHUNK: usize = 1 << 18;

/// The free places for values of one size.
struct Free {
    size: usize,
    places: Vec<NonNull<u8>>,
}

thread_local! {
    static FREE: RefCell<Vec<Free>> = const { RefCell::new(Vec::new()) };
    static PROCESS: Cell<u32> = const { Cell::new(0) };
    static CHUNKS: RefCell<Vec<(NonNull<u8>, usize)>> = const { RefCell::new(Vec::new()) };
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
            let (chunk, length) = map()?;
            free.places.extend((0..length / size).map(|i| {
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
fn map() -> Option<(NonNull<u8>, usize)> {
    let length = if CHUNKS.with_borrow(Vec::len) < 4 { FIRST_CHUNK } else { CHUNK };
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping at an address that the kernel chooses
    let chunk = unsafe {
        mmap_anonymous(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE).ok()?
    };
    // SAFETY: the whole range was just mapped. Each call is an improvement only: without it the
    // memory is as any other
    unsafe {
        let _ = madvise(chunk, length, Advice::LinuxDontDump);
        let _ = mlock(chunk, length);
    }
    let chunk = NonNull::new(chunk.cast())?;
    CHUNKS.with_borrow_mut(|chunks| chunks.push((chunk, length)));
    Some((chunk, length))
}

/// Locks again what was mapped before a fork, once per process: locks are not inherited.
pub fn lock_after_fork() {
    if PROCESS.replace(backend::process()) == backend::process() {
        return;
    }
    CHUNKS.with_borrow(|chunks| {
        for (chunk, length) in chunks {
            // SAFETY: the chunk was mapped with this size and is never unmapped; best effort
            let _ = unsafe { mlock(chunk.as_ptr().cast(), *length) };
        }
    });
}

/// A value in locked memory, shared as by [`std::rc::Rc`]: dropped with the last of its owners.
pub struct Locked<T>(NonNull<Shared<T>>);

#[repr(C)]
struct Shared<T> {
    owners: Cell<usize>,
    value: T,
}

impl<T> Locked<T> {
    /// Moves a value into locked memory.
    ///
    /// # Panics
    /// If the system gives no memory.
    pub fn new(value: T) -> Self {
        const {
            assert!(align_of::<T>() <= 64 && size_of::<Shared<T>>() <= FIRST_CHUNK);
        }
        let Some(place) = take(size_of::<Shared<T>>()) else { panic!("out of memory for keys") };
        let place = place.cast::<Shared<T>>();
        // SAFETY: the place is free, aligned to 64, and at least as large
        unsafe { place.write(Shared { owners: Cell::new(1), value }) };
        Self(place)
    }

    /// Starts to fetch the whole value into the processor's cache, without waiting for it.
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for offset in (0..size_of::<Shared<T>>()).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint that reads nothing; every x86-64 processor has it
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.0.as_ptr().cast::<i8>().add(offset)) };
        }
    }

    /// How many values the system's limit on locked memory leaves room for; `None`: there is none.
    pub fn limit() -> Option<u64> {
        let size = size_of::<Shared<T>>().next_multiple_of(64) as u64;
        getrlimit(Resource::Memlock).current.map(|bytes| bytes / size)
    }

    fn shared(&self) -> &Shared<T> {
        // SAFETY: `new` wrote it, and it stays while it has an owner
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Locked<T> {
    fn clone(&self) -> Self {
        let owners = &self.shared().owners;
        owners.set(owners.get() + 1);
        Self(self.0)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared().value
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        let owners = self.shared().owners.get() - 1;
        self.shared().owners.set(owners);
        if owners == 0 {
            // SAFETY: there is no other owner, and this one ends here
            unsafe { self.0.drop_in_place() };
            give_back(self.0.cast(), size_of::<Shared<T>>());
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked")
    }
}

/// How much of the stack is wiped, in bytes: more than setting up a key takes.
const STACK: usize = 1 << 15;

/// Runs `work`, which sets up keys, and wipes stack and registers behind it, also if it fails: a
/// value that is moved, into locked memory too, leaves copies on the way. What it returns must not
/// hold key bytes itself.
pub fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    struct Wipe;
    impl Drop for Wipe {
        fn drop(&mut self) {
            wipe_stack();
            wipe_registers();
        }
    }

    let _wipe = Wipe;
    apart(work)
}

/// In a frame of its own below the caller's.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe_stack() {
    std::hint::black_box(&mut [0_u8; STACK]);
}

/// Clears the vector registers, which copies go through: at the next signal the kernel would store
/// them on the stack. On other processors than x86-64 it does nothing.
#[inline(never)]
fn wipe_registers() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: only registers are changed that a call of a function may change anyway, by
    // instructions that the processor has: every x86-64 has SSE2
    unsafe {
        use std::arch::asm;
        if is_x86_feature_detected!("avx512f") {
            asm!(
                ".irp i, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                "vpxord zmm\\i, zmm\\i, zmm\\i",
                ".endr",
                clobber_abi("C"),
                options(nomem, nostack, preserves_flags)
            );
        }
        if is_x86_feature_detected!("avx") {
            asm!("vzeroall", clobber_abi("C"), options(nomem, nostack, preserves_flags));
        } else {
            asm!(
                ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                "pxor xmm\\i, xmm\\i",
                ".endr",
                clobber_abi("C"),
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}
