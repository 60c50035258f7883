//! Jobs: work on whole tables, a batch at a time, each batch a transaction. What a job does next is
//! decided in `sql/jobs.sql`, as the owner of the extension; here is who may have it done, and how
//! it gets at the rows of a user's table.
//!
//! Invariant: rows are read and written with the rights of the table's owner, restricted as in
//! VACUUM, and only for callers who inherit these rights, or manage the one account whose rows it is about.
//! So nobody who plants code in a table is run as somebody else, and no job shows more than the
//! owner may decrypt, nor more than such a manager may.
//!
//! - [`functions`]: starting, going on, pausing, cancelling
//! - [`caller`]: for whom that is done, if he only manages the account
//! - [`owner`]: what is done as the owner of a table
//! - [`remnants`]: what clears what is left in the files of a table

pub mod caller;
mod functions;
pub mod owner;
mod remnants;
