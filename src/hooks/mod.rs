//! What is hooked into the backend. A session in which the library is not loaded yet does without:
//! comparison then raises where a hook would have helped.

mod analyze;
mod database;
mod executor;
mod log;
mod planner;
mod row_key;
mod utility;

/// Installs the hooks.
pub fn init() {
    analyze::init();
    executor::init();
    log::init();
    planner::init();
    utility::init();
}
