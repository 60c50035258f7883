//! The encrypted types: input and output, type modifier, coercion, comparison, search.
//!
//! Invariant: what leaves a type is ciphertext, and what is compared are tokens. Plaintext is
//! never a datum of an encrypted type: the input function seals it at once.

mod analyze;
mod cast;
mod compare;
pub mod declared;
mod estimate;
pub mod functions;
pub mod input;
pub mod native;
pub mod probe;
pub mod support;
mod typmod;
