//! Errors of the core. None carries a value, a key or any byte of either.

use thiserror::Error;

/// An envelope whose form is wrong; found without a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The text does not begin with `fc1:`.
    #[error("not an envelope of format 1")]
    NotAnEnvelope,
    /// The text after `fc1:` is not unpadded base64url with zero trailing bits.
    #[error("malformed envelope: invalid base64url")]
    Base64,
    /// The first byte is not `0xFC`.
    #[error("malformed envelope: wrong magic byte")]
    Magic,
    /// The second byte names a format that this version does not know.
    #[error("envelope of an unknown format")]
    Format,
    /// The suite is unknown.
    #[error("envelope of an unknown suite")]
    Suite,
    /// The plaintext type is unknown.
    #[error("envelope of an unknown plaintext type")]
    PlaintextType,
    /// A flag is unknown, or reserved for a later version.
    #[error("envelope with an unknown flag")]
    Flags,
    /// The data key id is 0 or has its top bit set.
    #[error("malformed envelope: invalid key id")]
    KeyId,
    /// The field id is 0 in a value that is not in transit, or one in transit has tokens.
    #[error("malformed envelope: invalid field id")]
    FieldId,
    /// A token section breaks the rules of section 6.
    #[error("malformed envelope: invalid token section")]
    Tokens,
    /// It is shorter or longer than it says, or than the limits allow.
    #[error("malformed envelope: invalid length")]
    Length,
}

/// A value that cannot be sealed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The value is too long for an envelope of 512 MiB.
    #[error("value too long to encrypt")]
    TooLong,
    /// The envelope would be one that no reader takes: token sections that are not well formed or
    /// of a value in transit, no field, or a key of another purpose.
    #[error("malformed token sections")]
    Malformed,
    /// The operating system gave no random bytes.
    #[error("the operating system's random number generator failed")]
    Random,
}

/// The one error of a value that does not open: which check failed is not told, so that nobody
/// learns by asking (padding and key oracles).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("decryption failed")]
pub struct OpenError;

/// A wrapped key that does not unwrap to the key it should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The form of the wrapped key is wrong.
    #[error("malformed wrapped key")]
    Malformed,
    /// The tag does not verify: another wrapping key, or another account, purpose, version or id.
    #[error("wrapped key does not authenticate")]
    Tag,
    /// The key has another check value than the one recorded.
    #[error("key check value does not match")]
    CheckValue,
}

/// A name that breaks its rule.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// A field name: `[a-z][a-z0-9_]*(\.[a-z0-9_]+)*`, at most 63 bytes.
    #[error("invalid field name")]
    Field,
    /// An account id: 1 to 200 bytes, no control characters, not beginning with `*`.
    #[error("invalid account id")]
    Account,
}

/// A mask that is written wrongly.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaskError {
    /// There is no mask of that name.
    #[error("there is no such mask")]
    Name,
    /// The mask takes other parameters, or what follows its name is no list of them.
    #[error("it takes other parameters")]
    Parameters,
    /// A mask shows 1 to 64 characters; at one end of `partial` also none.
    #[error("it shows 1 to 64 characters")]
    Number,
    /// The text of `partial` has at most 32 characters, all of which can be seen, and holds `***`.
    #[error("its text has 3 to 32 characters, among them ***")]
    Text,
}
