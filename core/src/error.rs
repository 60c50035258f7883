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

/// A value of other software that cannot be adopted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// It does not look like a value of the format: it may be plaintext.
    #[error("value is not of this format")]
    NotEncrypted,
    /// It begins like a value of the format, and goes on otherwise.
    #[error("malformed value of this format")]
    Malformed,
    /// A wrong key, an altered value, or other associated data: which is not told.
    #[error("decryption failed")]
    Failed,
    /// What was encrypted is no text.
    #[error("what was encrypted is no text in UTF-8")]
    NotText,
    /// What was encrypted and serialized is no string.
    #[error("what was serialized is no string")]
    NotString,
    /// A variant of the format that is not read.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It is longer than 64 MiB when it is decompressed.
    #[error("value too long to decompress")]
    TooLong,
    /// The format takes keys of another length.
    #[error("the key has a length that the format does not take")]
    KeyLength,
    /// An iv was given to a format whose values hold it, or is missing.
    #[error("the format takes no iv, or needs one")]
    Iv,
    /// Associated data were given to a format that has none, or are missing.
    #[error("the format takes no associated data, or needs them")]
    AssociatedData,
}

/// A secret of other software of which no key can be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It is empty, or has more than 1,024 bytes.
    #[error("has the wrong length")]
    Length,
    /// 1 to 10,000,000 iterations are done.
    #[error("asks for too much work, or for none")]
    Work,
}
