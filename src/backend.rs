//! What is asked of the backend for every single value, without the guard that pgrx puts around
//! each call: the functions here cannot raise an error.

use pgrx::pg_sys;

unsafe extern "C" {
    fn GetUserId() -> pg_sys::Oid;
    fn GetOuterUserId() -> pg_sys::Oid;
    fn GetSessionUserId() -> pg_sys::Oid;
    fn GetAuthenticatedUserId() -> pg_sys::Oid;
    fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
    fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
    fn GetCurrentTransactionStartTimestamp() -> pg_sys::TimestampTz;
    fn GetDatabaseEncoding() -> std::ffi::c_int;
    fn MemoryContextAllocExtended(
        context: pg_sys::MemoryContext,
        size: usize,
        flags: std::ffi::c_int,
    ) -> *mut std::ffi::c_void;
    fn pg_strong_random(buffer: *mut std::ffi::c_void, length: usize) -> bool;
    fn ActiveSnapshotSet() -> bool;
    fn GetActiveSnapshot() -> pg_sys::Snapshot;
    fn hash_bytes(bytes: *const u8, length: std::ffi::c_int) -> u32;
    fn hash_bytes_extended(bytes: *const u8, length: std::ffi::c_int, seed: u64) -> u64;
}

/// The role whose rights count: it changes with SET ROLE and in SECURITY DEFINER functions.
pub fn user() -> pg_sys::Oid {
    // SAFETY: returns a variable
    unsafe { GetUserId() }
}

/// The current user, the one that SET ROLE has left, the one that SET SESSION AUTHORIZATION has
/// left, and the one who logged in.
pub fn users() -> [pg_sys::Oid; 4] {
    // SAFETY: they return variables
    unsafe { [GetUserId(), GetOuterUserId(), GetSessionUserId(), GetAuthenticatedUserId()] }
}

/// Whether what a transaction has committed is there in the snapshot of the current statement.
pub fn is_visible(written_by: pg_sys::TransactionId) -> bool {
    // SAFETY: they look at the state of this transaction and at its snapshot, where there is one
    unsafe {
        pg_sys::TransactionIdIsCurrentTransactionId(written_by)
            || !pg_sys::ActiveSnapshotSet()
            || !pg_sys::XidInMVCCSnapshot(written_by, pg_sys::GetActiveSnapshot())
    }
}

/// Does what raises no error, and holds back interrupts, such as a cancelled query, until it is done.
pub fn without_interrupts<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: a variable of the only thread, as in PostgreSQL's macro HOLD_INTERRUPTS
    unsafe { pg_sys::InterruptHoldoffCount += 1 };
    let result = work();
    // SAFETY: as above
    unsafe { pg_sys::InterruptHoldoffCount -= 1 };
    result
}

/// The time, in microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: reads the clock
    unsafe { GetCurrentTimestamp() }
}

/// When the client's current statement began, in microseconds.
pub fn statement_start() -> i64 {
    // SAFETY: returns a variable
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// The snapshot by which the statement that is running sees rows, if there is one.
pub fn active_snapshot() -> Option<pg_sys::Snapshot> {
    // SAFETY: they look at a variable; what they return is valid while the statement runs
    unsafe { ActiveSnapshotSet().then(|| GetActiveSnapshot()) }
}

/// Whether all statements of the transaction see what was committed before the first of them:
/// REPEATABLE READ and SERIALIZABLE.
pub fn has_transaction_snapshot() -> bool {
    // SAFETY: returns a variable
    unsafe { pg_sys::XactIsoLevel > pg_sys::XACT_READ_COMMITTED as i32 }
}

/// What a snapshot sees: two that are equal see the same rows. Between them no transaction got an
/// id that one of them could see, and none ended.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sight {
    xmin: u32,
    xmax: u32,
    running: [u32; 2],
    command: u32,
}

/// What the active snapshot sees; of none, nothing.
pub fn sight() -> Sight {
    let Some(snapshot) = active_snapshot() else { return Sight::default() };
    // SAFETY: the snapshot is valid while the statement runs
    let snapshot = unsafe { &*snapshot };
    Sight {
        xmin: snapshot.xmin.into_inner(),
        xmax: snapshot.xmax.into_inner(),
        running: [snapshot.xcnt, snapshot.subxcnt.cast_unsigned()],
        command: snapshot.curcid,
    }
}

/// When the current transaction began, in microseconds.
pub fn transaction_start() -> i64 {
    // SAFETY: returns a variable
    unsafe { GetCurrentTransactionStartTimestamp() }
}

/// The database's encoding.
pub fn encoding() -> u32 {
    // SAFETY: returns a field of a constant table
    unsafe { GetDatabaseEncoding() as u32 }
}

/// The id of this process.
pub fn process() -> u32 {
    // SAFETY: PostgreSQL sets it once after the fork; read by the only thread
    unsafe { pg_sys::MyProcPid as u32 }
}

/// PostgreSQL's hash of `bytes`, as its hash indexes use it.
pub fn hash(bytes: &[u8]) -> u32 {
    // SAFETY: the pointer and the length are those of a live slice of at most 1 GB
    unsafe { hash_bytes(bytes.as_ptr(), bytes.len() as std::ffi::c_int) }
}

/// The 64-bit hash of `bytes` for hash partitioning.
pub fn hash_extended(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: the pointer and the length are those of a live slice of at most 1 GB
    unsafe { hash_bytes_extended(bytes.as_ptr(), bytes.len() as std::ffi::c_int, seed) }
}

/// PostgreSQL's MaxAllocSize: what an ordinary allocation may have, in bytes.
const MAXIMUM_ALLOCATION: usize = 0x3fff_ffff;

/// Memory in the current memory context. Raises an error if there is none, or for more than 1 GB.
pub fn allocate(size: usize) -> *mut std::ffi::c_void {
    let flags = pg_sys::MCXT_ALLOC_NO_OOM as std::ffi::c_int;
    let memory = if size <= MAXIMUM_ALLOCATION {
        // SAFETY: the current memory context is always valid. With these flags and a size within
        // the limit PostgreSQL's function raises no error, but returns null
        unsafe { MemoryContextAllocExtended(pg_sys::CurrentMemoryContext, size, flags) }
    } else {
        std::ptr::null_mut()
    };
    if memory.is_null() {
        // SAFETY: guarded; it raises the error that fits
        return unsafe { pg_sys::palloc(size) };
    }
    memory
}

/// Fills a buffer with PostgreSQL's cryptographic random generator; false if that fails. Where
/// PostgreSQL is built with OpenSSL this is much cheaper than a system call.
pub fn strong_random(buffer: &mut [u8]) -> bool {
    // SAFETY: writes that many bytes; raises no error
    unsafe { pg_strong_random(buffer.as_mut_ptr().cast(), buffer.len()) }
}
