//! The settings. A setting selects; it never grants (`access` does).

use std::ffi::{CStr, CString};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

use crate::audit::Mode;
use crate::encoding;
use crate::error::{Error, Result};

static ACCOUNT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEYRING_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEY_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static KEY_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(300);
static ACCEPT_ENVELOPES: GucSetting<bool> = GucSetting::<bool>::new(false);
static AUDIT: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::On);
static AUDIT_BUFFER: GucSetting<i32> = GucSetting::<i32>::new(1024);
static AUDIT_DATABASES: GucSetting<i32> = GucSetting::<i32>::new(8);
static SHARED_KEYS: GucSetting<i32> = GucSetting::<i32>::new(4096);
static ACTOR: [GucSetting<Option<CString>>; 4] =
    [const { GucSetting::<Option<CString>>::new(None) }; 4];
static REDACT_LOG: GucSetting<bool> = GucSetting::<bool>::new(true);
static TRANSPARENT: GucSetting<bool> = GucSetting::<bool>::new(false);

/// A part of who an application says that it acts for.
#[derive(Clone, Copy)]
pub enum Actor {
    Id,
    Name,
    Address,
    Action,
}

impl Actor {
    /// Every part, as they follow each other in `set_actor()`.
    pub const ALL: [Self; 4] = [Self::Id, Self::Name, Self::Address, Self::Action];

    /// Its name among the arguments of `set_actor()`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Address => "address",
            Self::Action => "action",
        }
    }

    const fn setting(self) -> &'static CStr {
        match self {
            Self::Id => c"fieldcrypt.actor_id",
            Self::Name => c"fieldcrypt.actor_name",
            Self::Address => c"fieldcrypt.actor_address",
            Self::Action => c"fieldcrypt.actor_action",
        }
    }
}

/// Longest part of an actor, in bytes.
pub const LONGEST_ACTOR: usize = 200;

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
    GucRegistry::define_enum_guc(
        c"fieldcrypt.audit",
        c"Whether it is recorded who reads what.",
        c"With \"strict\" a read waits until it is on disk that it is about to happen.",
        &AUDIT,
        GucContext::Sighup,
        GucFlags::default(),
    );
    for part in Actor::ALL {
        GucRegistry::define_string_guc(
            part.setting(),
            c"Whom the application says that it acts for, as the audit records it.",
            c"Set for one transaction by set_actor().",
            &ACTOR[part as usize],
            GucContext::Userset,
            GucFlags::default(),
        );
    }
    // SAFETY: a variable of the only thread
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        GucRegistry::define_int_guc(
            c"fieldcrypt.audit_buffer",
            c"Shared memory for events of one database that are not on disk yet.",
            c"",
            &AUDIT_BUFFER,
            64,
            1 << 20,
            GucContext::Postmaster,
            GucFlags::UNIT_KB,
        );
        GucRegistry::define_int_guc(
            c"fieldcrypt.shared_keys",
            c"How many accounts' keys that programs have unwrapped are kept for all sessions.",
            c"Encrypted, in shared memory: 100 bytes each. It concerns root keys of the provider command.",
            &SHARED_KEYS,
            64,
            1 << 20,
            GucContext::Postmaster,
            GucFlags::default(),
        );
        GucRegistry::define_int_guc(
            c"fieldcrypt.audit_databases",
            c"In how many databases events are written to a table.",
            c"In others they go to the server's log.",
            &AUDIT_DATABASES,
            1,
            1000,
            GucContext::Postmaster,
            GucFlags::default(),
        );
    }
    GucRegistry::define_bool_guc(
        c"fieldcrypt.redact_log",
        c"Write statements to the server's log without the values in them.",
        c"In databases with this extension, and in others until a session knows that it is not there.",
        &REDACT_LOG,
        GucContext::Suset,
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

/// See `fieldcrypt.audit`.
pub fn audit() -> Mode {
    AUDIT.get()
}

/// See `fieldcrypt.audit_buffer`; in bytes.
pub fn audit_buffer() -> usize {
    usize::try_from(AUDIT_BUFFER.get()).unwrap_or(64) << 10
}

/// See `fieldcrypt.shared_keys`.
pub fn shared_keys() -> usize {
    usize::try_from(SHARED_KEYS.get()).unwrap_or(64)
}

/// See `fieldcrypt.audit_databases`.
pub fn audit_databases() -> usize {
    usize::try_from(AUDIT_DATABASES.get()).unwrap_or(1)
}

impl Actor {
    /// The text of the setting, in the database's encoding.
    pub fn setting_text(self) -> Option<CString> {
        // SAFETY: the text is copied before anything is assigned
        unsafe { borrowed(&ACTOR[self as usize]) }.map(CStr::to_owned)
    }

    /// Whether that is the text of the setting.
    pub fn is(self, text: &Option<CString>) -> bool {
        // SAFETY: the text is compared before anything is assigned
        let setting = unsafe { borrowed(&ACTOR[self as usize]) };
        setting == text.as_deref()
    }
}

/// What the application has said of that part, as much as there may be: with SET it could say
/// more. `None` if nothing.
pub fn actor(part: Actor) -> Option<String> {
    // SAFETY: the text is copied before anything is assigned
    let text = unsafe { borrowed(&ACTOR[part as usize]) }?;
    let text = encoding::to_utf8(text.to_bytes()).ok()?;
    let text = &text[..text.floor_char_boundary(LONGEST_ACTOR)];
    (!text.is_empty()).then(|| text.to_owned())
}

/// Sets a part until the transaction ends.
pub fn set_actor(part: Actor, text: &str) -> Result<()> {
    let text = CString::new(encoding::convert_to_server(text)).map_err(|_| Error::InvalidText)?;
    // SAFETY: both are NUL-terminated; every user may set it
    unsafe {
        pg_sys::set_config_option(
            part.setting().as_ptr(),
            text.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
    Ok(())
}

/// See `fieldcrypt.redact_log`.
pub fn redact_log() -> bool {
    REDACT_LOG.get()
}
