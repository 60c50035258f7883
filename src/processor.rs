//! Whether this processor has the instructions that the library was built with.
//!
//! `.cargo/config.toml` has AES, AVX and PCLMULQDQ used without asking each time, as all server
//! processors since 2012 have them: the ciphers are a quarter faster. Where they are hidden, as by an
//! emulator, the library must not end the server by SIGILL.
//!
//! Invariant: nothing but this runs before it has been asked, and what runs here and in the functions
//! of PostgreSQL needs none of them. A test runs it on a processor without.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__cpuid, _xgetbv};
use std::ffi::{c_char, c_int};

use pgrx::{PgLogLevel, PgSqlErrorCode};

unsafe extern "C-unwind" {
    // PostgreSQL's own, without the guard that pgrx puts around each call
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// Raises an error on a processor that lacks what the library was built with.
pub fn require() {
    if !has_features() {
        // SAFETY: as ereport() calls them; the texts are constants without formats. What is left
        // behind by errfinish(), which does not return, needs no destructor
        unsafe {
            if errstart(PgLogLevel::ERROR as c_int, std::ptr::null()) {
                errcode(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED as c_int);
                errmsg(c"fieldcrypt was built for processors with AES, AVX and PCLMULQDQ".as_ptr());
                errhint(
                    c"Pass them on to the virtual machine, or build it with RUSTFLAGS=\"\"."
                        .as_ptr(),
                );
                errfinish(c"processor.rs".as_ptr(), 0, c"require".as_ptr());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_features() -> bool {
    // Intel SDM volume 2, CPUID leaf 1: the bits of ECX
    const PCLMULQDQ: u32 = 1 << 1;
    const AES: u32 = 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    // volume 1, section 13.3: the system saves the registers of SSE and of AVX
    const SAVED: u64 = 0b110;

    // not is_x86_feature_detected!(), which takes for granted what the library was built with
    let mut needed = 0;
    if cfg!(target_feature = "pclmulqdq") {
        needed |= PCLMULQDQ;
    }
    if cfg!(target_feature = "aes") {
        needed |= AES;
    }
    if cfg!(target_feature = "avx") {
        needed |= AVX | OSXSAVE;
    }
    let has = __cpuid(1).ecx;
    // SAFETY: XGETBV exists where the system uses XSAVE, which is asked first
    has & needed == needed && (needed & AVX == 0 || unsafe { saved_registers() } & SAVED == SAVED)
}

/// Which registers the system saves.
///
/// # Safety
/// CPUID says OSXSAVE.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "xsave")]
unsafe fn saved_registers() -> u64 {
    // SAFETY: the caller's
    unsafe { _xgetbv(0) }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_features() -> bool {
    true
}
