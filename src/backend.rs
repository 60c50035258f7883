//! What is asked of the backend for every single value, without the guard that pgrx puts around
//! each call: the functions here cannot raise an error.

use pgrx::pg_sys;

unsafe extern "C" {
    fn GetUserId() -> pg_sys::Oid;
    fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
    fn GetDatabaseEncoding() -> std::ffi::c_int;
    fn hash_bytes(bytes: *const u8, length: std::ffi::c_int) -> u32;
    fn hash_bytes_extended(bytes: *const u8, length: std::ffi::c_int, seed: u64) -> u64;
}

/// The role whose rights count: it changes with SET ROLE and in SECURITY DEFINER functions.
pub fn user() -> pg_sys::Oid {
    // SAFETY: returns a variable
    unsafe { GetUserId() }
}

/// When the client's current statement began, in microseconds.
pub fn statement_start() -> i64 {
    // SAFETY: returns a variable
    unsafe { GetCurrentStatementStartTimestamp() }
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
