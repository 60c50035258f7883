//! The settings. A setting selects; it never grants (`access` does).

use std::ffi::{CStr, CString};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

use crate::encoding;

static ACCOUNT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEYRING_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEY_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static KEY_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(300);
static ACCEPT_ENVELOPES: GucSetting<bool> = GucSetting::<bool>::new(false);
static TRANSPARENT: GucSetting<bool> = GucSetting::<bool>::new(false);

/// The account value that leaves the account to the row's trigger.
pub const ACCOUNT_OF_ROW: &str = "*row*";

/// Defines the settings and reserves their prefix.
pub fn init() {
    GucRegistry::define_string_guc(
        c"fieldcrypt.account",
        c"Account whose keys this session uses.",
        c"It selects, it does not permit: the grants decide. \"*row*\" leaves it to the row trigger of protect_table().",
        &ACCOUNT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"fieldcrypt.keyring_file",
        c"TOML file that names the root keys.",
        c"Outside the data directory. It holds no key bytes itself.",
        &KEYRING_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"fieldcrypt.key_cache_size",
        c"Most field keys that a session keeps set up.",
        c"The least recently used are dropped. About 1 kB each, in locked memory.",
        &KEY_CACHE_SIZE,
        16,
        1_000_000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"fieldcrypt.key_lifetime",
        c"How long a session keeps a field key before it unwraps it again.",
        c"",
        &KEY_LIFETIME,
        1,
        86_400,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"fieldcrypt.accept_envelopes",
        c"Accept encrypted values as input from every role.",
        c"For nodes that only receive from other nodes. Otherwise roles need to be in fieldcrypt_restore.",
        &ACCEPT_ENVELOPES,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"fieldcrypt.transparent",
        c"Show encrypted columns in the results of this session's own statements as reveal() does.",
        c"It selects, it does not permit: the grants decide. Meant for ALTER ROLE ... SET.",
        &TRANSPARENT,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: called from _PG_init with a NUL-terminated literal
    unsafe { pg_sys::MarkGUCPrefixReserved(c"fieldcrypt".as_ptr()) };
}

/// The session's account, borrowed from the setting; `None` if unset or empty.
///
/// The closure must not run SQL or assign settings: that could free the text.
pub fn with_account<T>(read: impl FnOnce(Option<&str>) -> T) -> T {
    // SAFETY: PostgreSQL keeps the pointer null or NUL-terminated; the closure does not assign
    let account = unsafe { borrowed(&ACCOUNT) };
    let account = account.and_then(|account| encoding::to_utf8(account.to_bytes()).ok());
    read(account.as_deref().filter(|account| !account.is_empty()))
}

/// # Safety
/// The setting must not be assigned while the result lives.
unsafe fn borrowed(setting: &'static GucSetting<Option<CString>>) -> Option<&'static CStr> {
    // SAFETY: the pointer is the variable that PostgreSQL maintains for the setting
    let text = unsafe { *setting.as_ptr() };
    // SAFETY: not null, and NUL-terminated as every string setting
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// The keyring's path; `None` if unset or empty.
pub fn keyring_file() -> Option<String> {
    let path = KEYRING_FILE.get()?;
    path.into_string().ok().filter(|path| !path.is_empty())
}

/// See `fieldcrypt.key_cache_size`.
pub fn key_cache_size() -> usize {
    usize::try_from(KEY_CACHE_SIZE.get()).unwrap_or(16)
}

/// See `fieldcrypt.key_lifetime`; in microseconds.
pub fn key_lifetime() -> i64 {
    i64::from(KEY_LIFETIME.get()) * 1_000_000
}

/// See `fieldcrypt.accept_envelopes`.
pub fn accept_envelopes() -> bool {
    ACCEPT_ENVELOPES.get()
}

/// See `fieldcrypt.transparent`.
pub fn transparent() -> bool {
    TRANSPARENT.get()
}
