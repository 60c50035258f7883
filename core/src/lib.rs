//! The cryptography of fieldcrypt, without PostgreSQL.
//!
//! What can be wrong cryptographically is here, where plain `cargo test` reaches it. The stored
//! form is specified in `docs/envelope.md`; the modules follow its sections. Nothing here reads a
//! clock, a file or a database, and the only randomness is the operating system's ([`random`]).

#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, clippy::missing_errors_doc)]

pub mod adopt;
pub mod audit;
pub mod envelope;
pub mod error;
pub mod field;
pub mod framing;
pub mod key;
pub mod mask;
pub mod normalize;
pub mod padding;
pub mod plaintext;
pub mod random;
pub mod redact;
pub mod seal;
pub mod suite;
pub mod token;
pub mod wrap;
