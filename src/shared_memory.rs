//! What the users of shared memory have in common.

use pgrx::pg_sys;

/// PostgreSQL's `AddinShmemInitLock`, by its number in `lwlocknames.h`, the same in 15 to 18.
const ADDIN_SHMEM_INIT_LOCK: usize = 21;

unsafe extern "C" {
    // without the guard that pgrx puts around each call: they raise no error but where a process
    // holds 200 locks, and here none is taken while more than one is held
    fn LWLockAcquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> bool;
    fn LWLockRelease(lock: *mut pg_sys::LWLock);
}

/// A lightweight lock, held.
pub struct Held(*mut pg_sys::LWLock);

impl Held {
    /// Waits for the lock: one in shared memory that this process does not hold. Nothing may raise
    /// an error while it is held.
    pub fn new(lock: *mut pg_sys::LWLock) -> Self {
        // SAFETY: a lock in shared memory, as the caller says
        unsafe { LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
        Self(lock)
    }

    /// The lock under which new shared memory is set up.
    pub fn for_startup() -> Self {
        // SAFETY: the array is there when PostgreSQL calls the startup hooks
        Self::new(unsafe { &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it was acquired in `new`, and nothing raises an error while it is held
        unsafe { LWLockRelease(self.0) };
    }
}
