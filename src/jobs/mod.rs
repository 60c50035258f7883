//! Jobs: work on whole tables, a batch at a time, each batch a transaction. What a job does next is
//! decided in `sql/jobs.sql`, as the owner of the extension; here is who may have it done, and how
//! it gets at the rows of a user's table.
//!
//! Invariant: rows are read and written with the rights of the table's owner, restricted as in
//! VACUUM, and only for callers who inherit these rights. So nobody who plants code in a table is
//! run as somebody else, and no job shows more than the owner may decrypt.
//!
//! - [`functions`]: starting, going on, pausing, cancelling
//! - [`owner`]: what is done as the owner of a table
//! - [`remnants`]: what clears what is left in the files of a table

mod functions;
pub mod owner;
mod remnants;
