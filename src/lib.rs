//! fieldcrypt: PostgreSQL columns encrypted at rest under per-account keys, written, read and
//! searched by ordinary SQL.
//!
//! The cryptography is in the crate `fieldcrypt-core`, the SQL objects are in `sql/`, and what
//! connects them is here, one room each:
//!
//! - [`datatype`]: the encrypted types: input, output, coercion, comparison, search
//! - [`value`]: sealing, opening and showing one value, with the right checked
//! - [`keyring`]: root keys, unwrapping, and the cache of keys that are set up
//! - [`audit`]: who read what, and who changed what
//! - [`access`]: privileges and roles
//! - [`catalog`]: the extension's tables, and when what was read from them stops being true
//! - [`adopt`]: values of other software become values of a field
//! - [`admin`]: accounts, fields and grants, as administrators change them, and `doctor()`
//! - [`document`]: flagged values inside JSONB
//! - [`policy`]: whether a stored value is as its field would have it now
//! - [`reencrypt`]: what older data keys or policies have sealed, sealed anew
//! - [`jobs`]: work on whole tables, a batch at a time
//! - [`trigger`]: the row triggers: values belong to their row's account, documents are sealed
//! - [`usage`]: which keys the stored values are under
//! - [`transparent`]: encrypted columns in results, shown as their plain values
//! - [`hooks`]: where PostgreSQL calls us while it analyses, plans and runs statements
//! - [`processor`]: what the library needs of it
//! - [`shared_memory`]: what the users of shared memory have in common
//! - [`walker`]: a look through a query

mod access;
mod admin;
mod adopt;
mod audit;
mod backend;
mod call;
mod catalog;
mod compat;
mod datatype;
mod document;
mod encoding;
mod error;
mod guc;
mod hooks;
mod jobs;
mod keyring;
mod policy;
mod processor;
mod reencrypt;
mod shared_memory;
mod transparent;
mod trigger;
mod usage;
mod value;
mod walker;

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/mod.rs"]
mod tests;
#[cfg(test)]
pub use tests::pg_test;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/roles.sql", name = "roles", bootstrap);
pgrx::extension_sql_file!("../sql/tables.sql", name = "tables", requires = ["roles"]);
pgrx::extension_sql_file!("../sql/type.sql", name = "type", requires = ["tables"]);
pgrx::extension_sql_file!("../sql/operators.sql", name = "operators", requires = ["type"]);
pgrx::extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["operators"]);
pgrx::extension_sql_file!("../sql/admin.sql", name = "admin", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/protect.sql", name = "protect", requires = ["admin"]);
pgrx::extension_sql_file!("../sql/documents.sql", name = "documents", requires = ["protect"]);
pgrx::extension_sql_file!("../sql/table_view.sql", name = "table_view", requires = ["documents"]);
pgrx::extension_sql_file!("../sql/adopt.sql", name = "adopt", requires = ["table_view"]);
pgrx::extension_sql_file!("../sql/views.sql", name = "views", requires = ["adopt"]);
pgrx::extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["views"]);
pgrx::extension_sql_file!("../sql/doctor.sql", name = "doctor", requires = ["audit"]);
pgrx::extension_sql_file!("../sql/jobs.sql", name = "jobs", requires = ["doctor"]);
pgrx::extension_sql_file!("../sql/adopt_jobs.sql", name = "adopt_jobs", requires = ["jobs"]);
pgrx::extension_sql_file!("../sql/usage.sql", name = "usage", requires = ["adopt_jobs"]);
pgrx::extension_sql_file!("../sql/policy.sql", name = "policy", requires = ["usage"]);
pgrx::extension_sql_file!("../sql/rotation.sql", name = "rotation", requires = ["policy"]);
pgrx::extension_sql_file!("../sql/rights.sql", name = "rights", requires = ["rotation"], finalize);

/// Called by PostgreSQL when it loads the library: in the postmaster with
/// `shared_preload_libraries`, otherwise in the session that first needs it.
#[allow(non_snake_case)]
// SAFETY: PostgreSQL looks for this name in each library
#[unsafe(no_mangle)]
extern "C-unwind" fn _PG_init() {
    processor::require();
    init();
}

#[pgrx::pg_guard]
#[inline(never)]
extern "C-unwind" fn init() {
    // a panic's backtrace would go to the client in the error's detail
    // SAFETY: PostgreSQL's processes have one thread
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    guc::init();
    catalog::invalidation::init();
    audit::init();
    hooks::init();
    // SAFETY: a variable of the only thread
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        keyring::load_in_postmaster();
        keyring::init_shared_memory();
        audit::init_shared_memory();
    }
}
