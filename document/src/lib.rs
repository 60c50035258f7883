//! Documents, without PostgreSQL: its stored jsonb is read ([`jsonb`]) and rewritten ([`rewrite`])
//! where it lies, and paths ([`path`]) say which values of a document are flagged ([`flags`]).
//!
//! The stored format is that of `src/include/utils/jsonb.h`, which PostgreSQL 15 to 18 have in
//! common, in the byte order of the machine. What is written is what PostgreSQL itself would store
//! for the same content, to the byte. Nothing here panics or takes long on bytes that are no jsonb:
//! the work is linear in their length.

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, clippy::missing_errors_doc)]

pub mod flags;
pub mod jsonb;
pub mod path;
pub mod rewrite;

mod merge;
mod node;
mod output;
