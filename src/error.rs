//! Every error that a user can see, with its SQLSTATE and a hint.
//!
//! Invariant: no message carries a value, a key, or a byte of either. Names of fields, accounts,
//! roles, files and key ids are no secrets.

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::error::{
    AdoptError, FormatError, MaskError, NameError, OpenError, SealError, UnwrapError,
};
use fieldcrypt_core::key::KeyId;
use fieldcrypt_core::mask::Mask;
use fieldcrypt_document::jsonb::Malformed;
use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use thiserror::Error;

use crate::access::Privilege;
use crate::encoding;

/// What went wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{error} (format {format}, key \"{key}\")")]
    Adopt { error: AdoptError, format: &'static str, key: String },
    #[error(
        "what was encrypted is no value of type {} (field \"{field}\", account \"{account}\")",
        .plaintext_type.name()
    )]
    AdoptInput { plaintext_type: PlaintextType, code: Code, field: String, account: String },
    #[error("{error} ({place})")]
    At { place: String, error: Box<Error> },
    #[error("account \"{0}\" is {1}")]
    AccountClosed(String, &'static str),
    #[error("account \"{0}\" is destroyed")]
    AccountDestroyed(String),
    #[error("account \"{0}\" already exists")]
    AccountExists(String),
    #[error("value belongs to another account")]
    AccountMismatch,
    #[error("account \"{0}\" is locked: {1}")]
    AccountLocked(String, String),
    #[error("account \"{0}\" does not exist")]
    AccountMissing(String),
    #[error("no account is set for this session")]
    AccountUnset,
    #[error("the audit cannot be written here, or its key cannot be had")]
    AuditUnavailable,
    #[error("no process is free to write the audit")]
    AuditWorker,
    #[error("the audit waits for a lock of this transaction")]
    AuditBlocked,
    #[error("events {0} and following of the audit cannot be read")]
    AuditBatch(i64),
    #[error("the audit cannot be verified in this transaction")]
    AuditSnapshot,
    #[error("column \"{0}\" does not exist")]
    ColumnMissing(String),
    #[error("column \"{0}\" has another type than when it was protected")]
    ColumnType(String),
    #[error("{0}")]
    Document(#[from] Malformed),
    #[error("document \"{0}\" does not exist")]
    DocumentMissing(String),
    #[error("field \"{field}\" cannot be searched")]
    CannotSearch { field: String, reason: &'static str },
    #[error("invalid value for \"{name}\"")]
    InvalidArgument { name: &'static str, hint: String },
    #[error("a flagged value inside an array cannot be gathered")]
    InArray,
    #[error("value is gathered in another column")]
    Gathered,
    #[error("the snapshot of this transaction is older than the last change of field \"{0}\"")]
    OlderSnapshot(String),
    #[error("the search of field \"{field}\" cannot be changed: {obstacle}")]
    SearchStays { field: String, obstacle: String, remedy: String },
    #[error("field \"{0}\" is not reversible")]
    Irreversible(String),
    #[error("invalid input for type encrypted_{}", .0.name())]
    InvalidInput(PlaintextType, Code),
    #[error("invalid text")]
    InvalidText,
    #[error("the database encoding SQL_ASCII is not supported")]
    Encoding,
    #[error("encrypted values are not accepted as input from this role")]
    EnvelopeRefused,
    #[error("keys cannot be destroyed in this transaction")]
    DestroySnapshot,
    #[error("field \"{0}\" already exists")]
    FieldExists(String),
    #[error("fields \"{0}\" and \"{1}\" cannot both be used in typed columns")]
    FieldHandle(String, String),
    #[error("field \"{0}\" is in use")]
    FieldInUse(String, String),
    #[error("value belongs to field {0}, not to field {1}")]
    FieldMismatch(String, String),
    #[error("field {0} does not exist")]
    FieldMissing(String),
    #[error("value has no field")]
    FieldUnset,
    #[error("comparison of values of different fields ({0} and {1})")]
    FieldsDiffer(String, String),
    #[error("{0}")]
    Format(#[from] FormatError),
    #[error("comparison of values of different index keys of one account")]
    IndexKeysDiffer,
    #[error("could not serialize access: the index key of account \"{0}\" was rotated")]
    IndexKeyRotated(String),
    #[error("tokens cannot all be made anew ({0})")]
    TokensLeft(String),
    #[error("value is under an older index key")]
    IndexKeyOlder,
    #[error("key {id} is destroyed", id = .0.number())]
    KeyDestroyed(KeyId),
    #[error("key {id} already exists", id = .0.number())]
    KeyExists(KeyId),
    #[error("key {id} has sealed as many values as it may", id = .0.number())]
    KeyExhausted(KeyId),
    #[error("key {id} does not exist", id = .0.number())]
    KeyMissing(KeyId),
    #[error("key {id} is {state}", id = .0.number(), state = .1)]
    KeyState(KeyId, &'static str),
    #[error("{0} may still be in use ({1})")]
    StillUsed(String, String),
    #[error("{0} is not disabled")]
    NotDisabled(String),
    #[error("{0}")]
    Keyring(String, &'static str),
    #[error("invalid value for \"mask\": {0}")]
    Mask(#[from] MaskError),
    #[error("value of field \"{0}\" is a mask, or looks like one")]
    Masked(String),
    #[error("document holds several values of field \"{0}\"")]
    SeveralValues(String),
    #[error("invalid path {path}: {reason}")]
    Path { path: String, reason: String },
    #[error("value is not flagged in document \"{0}\"")]
    NotFlagged(String),
    #[error("flagged value is not encrypted")]
    NotSealed,
    #[error("row has no account")]
    RowWithoutAccount,
    #[error("row has no {0}")]
    RowWithout(&'static str),
    #[error("invalid {0} name")]
    Name(&'static str, #[source] NameError),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("ORDER BY an encrypted column is not supported")]
    OrderBy,
    #[error("permission denied to {name} field \"{1}\" of account \"{2}\"", name = .0.name())]
    Privilege(Privilege, String, String),
    #[error("permission denied to grant to a role that you are in")]
    GrantToSelf,
    #[error("permission denied: membership in role \"{0}\" is required")]
    Role(&'static str),
    #[error("permission denied: only a superuser may call this")]
    Superuser,
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("value is of type encrypted_{}, not of type encrypted_{}", .0.name(), .1.name())]
    TypeMismatch(PlaintextType, PlaintextType),
    #[error("value is in transit: it is not stored data")]
    Transit,
    #[error("{2} ({0} key of account \"{1}\")")]
    Unwrap(&'static str, String, #[source] UnwrapError),
    #[error("root key \"{0}\" is a customer's")]
    RootOfCustomer(String),
    #[error("the root key cannot be rotated in this transaction")]
    RotationSnapshot,
    #[error("root key \"{0}\" is not the one that this database was set up with")]
    WrongRoot(String),
    #[error("job \"{0}\" does not exist")]
    JobMissing(String),
    #[error("job \"{0}\" has no table")]
    JobWithoutTable(String),
    #[error("permission denied: the rights of the table's owner are required")]
    NotOwner,
    #[error("permission denied: the right to VACUUM the table is required")]
    MayNotVacuum,
    #[error("relation is not an ordinary table")]
    NotATable,
    #[error("{0} must not be NULL")]
    Null(&'static str),
    #[error("no active {0} key of account \"{1}\"")]
    NoActiveKey(&'static str, String),
    #[error("no account has been created in this database")]
    NoTransitKey,
    #[error("the value has nothing that could be unique by field \"{0}\"")]
    NotUnique(String),
    #[error("values of field \"{0}\" are not kept, only their tokens")]
    TokenOnly(String),
    #[error("tokens of field \"{0}\" cannot be made anew: it keeps no values")]
    TokensCannotBeMade(String),
    #[error("root key \"{0}\" is not in the keyring")]
    UnknownRoot(String),
    #[error("fieldcrypt is not installed in this database")]
    NotInstalled,
    #[error("a transparent statement cannot fill a table, or be executed by a function")]
    TransparentIntoTable,
    #[error("unexpected catalog content: {0}")]
    Catalog(&'static str),
}

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error without the places that say where it happened.
    #[must_use]
    pub fn innermost(self) -> Self {
        match self {
            Self::At { error, .. } => error.innermost(),
            error => error,
        }
    }

    /// Whether a value of other software is not of the format that it was taken for.
    pub const fn is_not_encrypted(&self) -> bool {
        matches!(self, Self::Adopt { error: AdoptError::NotEncrypted, .. })
    }

    /// Whether an account or a key is closed: what is sealed under it is hidden, not an error.
    pub const fn is_of_closed(&self) -> bool {
        matches!(self, Self::AccountClosed(..) | Self::AccountLocked(..) | Self::KeyState(..))
            || self.is_of_destroyed()
    }

    /// Whether the key of a value is gone for good.
    pub const fn is_of_destroyed(&self) -> bool {
        matches!(self, Self::AccountDestroyed(_) | Self::KeyDestroyed(_))
    }

    /// The SQLSTATE.
    pub fn code(&self) -> Code {
        match self {
            Self::AccountClosed(..)
            | Self::AuditUnavailable
            | Self::FieldInUse(..)
            | Self::KeyState(..)
            | Self::NoActiveKey(..)
            | Self::NoTransitKey
            | Self::NotDisabled(_)
            | Self::IndexKeyOlder
            | Self::TokensCannotBeMade(_)
            | Self::TokenOnly(_) => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::AccountExists(_)
            | Self::FieldExists(_)
            | Self::FieldHandle(..)
            | Self::KeyExists(_) => Code::ERRCODE_DUPLICATE_OBJECT,
            Self::Adopt { error, .. } => match error {
                AdoptError::Failed => Code::ERRCODE_DATA_CORRUPTED,
                AdoptError::NotText => Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
                AdoptError::NotString => Code::ERRCODE_DATATYPE_MISMATCH,
                AdoptError::Unsupported(_) => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                AdoptError::TooLong => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                AdoptError::KeyLength => Code::ERRCODE_CONFIG_FILE_ERROR,
                AdoptError::Iv | AdoptError::AssociatedData => {
                    Code::ERRCODE_INVALID_PARAMETER_VALUE
                }
                _ => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            },
            Self::At { error, .. } => error.code(),
            Self::AccountLocked(..) => Code::ERRCODE_OPERATOR_INTERVENTION,
            Self::AuditWorker => Code::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Self::AuditBlocked => Code::ERRCODE_T_R_DEADLOCK_DETECTED,
            Self::IndexKeyRotated(_) => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::StillUsed(..) | Self::TokensLeft(_) => Code::ERRCODE_OBJECT_IN_USE,
            Self::AuditSnapshot | Self::DestroySnapshot | Self::RotationSnapshot => {
                Code::ERRCODE_ACTIVE_SQL_TRANSACTION
            }
            Self::Document(Malformed::TooDeep) => Code::ERRCODE_STATEMENT_TOO_COMPLEX,
            Self::Document(Malformed::TooLong) => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::Document(_) | Self::AuditBatch(_) => Code::ERRCODE_DATA_CORRUPTED,
            Self::ColumnMissing(_) => Code::ERRCODE_UNDEFINED_COLUMN,
            Self::ColumnType(_) => Code::ERRCODE_DATATYPE_MISMATCH,
            Self::OlderSnapshot(_) => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::Irreversible(_) | Self::SearchStays { .. } => {
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::Path { .. } => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::SeveralValues(_) => Code::ERRCODE_CARDINALITY_VIOLATION,
            Self::InArray => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::Gathered
            | Self::Masked(_)
            | Self::NotFlagged(_)
            | Self::NotSealed
            | Self::RowWithout(_)
            | Self::RowWithoutAccount => Code::ERRCODE_CHECK_VIOLATION,
            Self::AccountDestroyed(_)
            | Self::AccountMissing(_)
            | Self::DocumentMissing(_)
            | Self::FieldMissing(_)
            | Self::JobMissing(_)
            | Self::JobWithoutTable(_)
            | Self::KeyDestroyed(_)
            | Self::KeyMissing(_) => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::AccountUnset | Self::Transit => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::AccountMismatch | Self::FieldMismatch(..) => Code::ERRCODE_CHECK_VIOLATION,
            Self::Null(_) => Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,

            Self::UnknownRoot(_) => Code::ERRCODE_CONFIG_FILE_ERROR,
            Self::AdoptInput { code, .. } | Self::InvalidInput(_, code) => *code,
            Self::TypeMismatch(..) => Code::ERRCODE_DATATYPE_MISMATCH,
            Self::InvalidText => Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            Self::InvalidArgument { .. } | Self::Mask(_) => Code::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::Name(..) => Code::ERRCODE_INVALID_NAME,
            Self::CannotSearch { .. }
            | Self::FieldUnset
            | Self::FieldsDiffer(..)
            | Self::IndexKeysDiffer
            | Self::NotUnique(_)
            | Self::OrderBy
            | Self::TransparentIntoTable
            | Self::Encoding => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::EnvelopeRefused
            | Self::GrantToSelf
            | Self::MayNotVacuum
            | Self::NotOwner
            | Self::Privilege(..)
            | Self::Role(_)
            | Self::Superuser => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::Format(_) => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            Self::Keyring(..) | Self::RootOfCustomer(_) | Self::WrongRoot(_) => {
                Code::ERRCODE_CONFIG_FILE_ERROR
            }
            Self::Open(_) | Self::Unwrap(..) => Code::ERRCODE_DATA_CORRUPTED,
            Self::KeyExhausted(_) | Self::Seal(SealError::TooLong) => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            Self::Seal(_) | Self::Catalog(_) => Code::ERRCODE_INTERNAL_ERROR,
            Self::NotInstalled => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::NotATable => Code::ERRCODE_WRONG_OBJECT_TYPE,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Adopt { error, .. } => match error {
                AdoptError::Failed => {
                    "The key is wrong, or the value or its associated data were changed. \
                     SELECT * FROM fieldcrypt.adopt_check_column(...) counts the values that open."
                }
                AdoptError::NotEncrypted => {
                    "It may be plain, or of another format: docs/adopt.md lists them."
                }
                AdoptError::Malformed => {
                    "A part has another length or encoding: it was cut off, or the format is another."
                }
                AdoptError::NotText => "adopt_bytea() takes values that are no text.",
                AdoptError::NotString => "Only strings are read of PHP's serialized values.",
                AdoptError::KeyLength => {
                    "Check encoding and derive of the key in the keyring file."
                }
                AdoptError::Iv => "Only pgcrypto-encrypt-iv takes iv, and it needs it.",
                AdoptError::AssociatedData => {
                    "tink needs associated_data, formats of AES-GCM may have them, others have none."
                }
                _ => return None,
            },
            Self::At { error, .. } => return error.hint(),
            Self::ColumnMissing(_) | Self::ColumnType(_) => {
                "The table has changed since: take the protection back and set it up again."
            }
            Self::AuditUnavailable => {
                "With fieldcrypt.audit = strict nothing is read unless it can be recorded: not on a \
                 standby, nor without shared_preload_libraries."
            }
            Self::AuditWorker => {
                "The query's own parallel workers take all there are: raise max_worker_processes."
            }
            Self::AuditBlocked => {
                "What is read has to be on disk first. Commit what holds a lock on fieldcrypt's own \
                 tables, such as LOCK TABLE or drop_audit(), before you go on."
            }
            Self::RotationSnapshot => {
                "Use READ COMMITTED, in which accounts are seen that were just created."
            }
            Self::AccountDestroyed(_) => {
                "Nobody can read its values any more, and no other account can have its name."
            }
            Self::DestroySnapshot => {
                "Use READ COMMITTED, in which values are seen that were just written."
            }
            Self::KeyDestroyed(_) => "Nobody can read any more what it has sealed.",
            Self::NotDisabled(_) => {
                "Disable it first, with fieldcrypt.disable_account_key(...) or \
                 fieldcrypt.disable_account(...), in a transaction before, and see what misses it."
            }
            Self::StillUsed(..) => {
                "SELECT * FROM fieldcrypt.key_usage(...) shows all. With lose_values => true nobody can \
                 read these values any more."
            }
            Self::AuditBatch(_) => {
                "fieldcrypt.verify_audit() tells what was changed; a condition on sealed_at leaves the batch out."
            }
            Self::AuditSnapshot => "Use READ COMMITTED, in which newer events are seen.",
            Self::DocumentMissing(_) => "SELECT fieldcrypt.protect_jsonb(...) names a document.",
            Self::Irreversible(_) => {
                "It was created with reversible => false: what is encrypted stays encrypted."
            }
            Self::Gathered => {
                "Write the values into the document, from where they are moved. With EXCLUDED set both columns."
            }
            Self::Masked(_) => {
                "Write back what was read at the same place, or a new value, or leave it out."
            }
            Self::NotFlagged(_) => {
                "It would come out in plain: flag its path with fieldcrypt.protect_path(...) first."
            }
            Self::NotSealed => {
                "A trigger that runs after fieldcrypt's has changed it, or the trigger is disabled."
            }
            Self::JobMissing(_) => "SELECT target FROM fieldcrypt.progress names them.",
            Self::JobWithoutTable(_) => {
                "The table was dropped or renamed, or is no longer protected."
            }
            Self::NotOwner => {
                "A job runs as the table's owner: be a member of that role, whose rights you inherit. \
                 That holds for superusers too."
            }
            Self::RowWithout(_) => "A column that it stands in, or is made of, is NULL.",
            Self::RowWithoutAccount => "The account column must name the account.",
            Self::SeveralValues(_) => "A unique index takes one value of a field from a document.",
            Self::TokenOnly(_) => {
                "The field was created with store => 'token': values can be looked up, not shown."
            }
            Self::AccountClosed(..) => {
                "A key administrator can enable it: \
                 SELECT fieldcrypt.enable_account(...)."
            }
            Self::AccountLocked(..) => {
                "Its root key is the customer's, who gives it back or has withdrawn it. \
                 SELECT * FROM fieldcrypt.status shows the state of root keys."
            }
            Self::AccountMismatch => "Encrypt the value under the row's account.",
            Self::NoTransitKey | Self::AccountMissing(_) => {
                "A key administrator creates accounts: \
                 SELECT fieldcrypt.create_account(...)."
            }
            Self::AccountUnset => "SET fieldcrypt.account = '...', or SET LOCAL behind a pooler.",
            Self::CannotSearch { reason, .. } => reason,
            Self::InvalidArgument { hint, .. } => return Some(hint.clone()),
            Self::OlderSnapshot(_) => "Repeat the transaction.",
            Self::SearchStays { remedy, .. } => return Some(remedy.clone()),
            Self::Mask(_) => {
                return Some(format!("It is one of: none, {}.", Mask::FORMS.join(", ")));
            }
            Self::Encoding => "Use a database with encoding UTF8.",
            Self::EnvelopeRefused => {
                "Write the plain value. Restores and replication run as a \
                 member of the role fieldcrypt_restore."
            }
            Self::FieldHandle(..) => "Choose another name.",
            Self::FieldInUse(_, user) => return Some(format!("It is used by {user}.")),
            Self::FieldMismatch(..) => {
                "Decrypt it and write it to the other field: each field \
                 has keys of its own."
            }
            Self::FieldMissing(_) => {
                "A field administrator creates fields: \
                 SELECT fieldcrypt.create_field(...)."
            }
            Self::FieldUnset => "Name the field: cast to fieldcrypt.encrypted_text('...').",
            Self::FieldsDiffer(..) => "Tokens of different fields never match.",
            Self::IndexKeysDiffer => {
                "Re-encrypt the older values under the account's current \
                 index key."
            }
            Self::TokensLeft(_) => {
                "SELECT * FROM fieldcrypt.plan_rotate_index_key(...) says what is in the way."
            }
            Self::TokensCannotBeMade(_) => {
                "The field was created with store => 'token'. The index key of an account with such \
                 values cannot be rotated."
            }
            Self::IndexKeyRotated(_) => "Repeat the transaction.",
            Self::IndexKeyOlder => {
                "SELECT fieldcrypt.reencrypt(...) makes it one under the account's current index key."
            }
            Self::KeyState(..) => {
                "A key administrator can enable it: SELECT fieldcrypt.enable_account_key(...)."
            }
            Self::KeyExhausted(_) => {
                "SELECT fieldcrypt.rotate_account_key(...) makes a new one. \
                 alter_field(..., suite => 'xaes-256-gcm') has no such limit."
            }
            Self::KeyMissing(_) => {
                "The value comes from another database, or its key rows were \
                 not restored."
            }
            Self::Keyring(_, hint) => hint,
            Self::NotUnique(_) => {
                "Nothing of it is left by the field's normalizer, and values of the field are unique or kept as tokens only."
            }
            Self::UnknownRoot(_) => {
                "Name it in the keyring file, as \"previous\" if another is current, and reload."
            }
            Self::Name(_, NameError::Field) => {
                "A field is named like lead.ssn: lower-case \
                 letters, digits, underscores and dots, at most 63 bytes."
            }
            Self::Name(..) => {
                "An account has 1 to 200 bytes, no control characters, no space at \
                 its ends, and does not begin with an asterisk."
            }
            Self::OrderBy => "ORDER BY fieldcrypt.decrypt(...) sorts by the plain value.",
            Self::Privilege(..) => "See SELECT * FROM fieldcrypt.can(...) for the reason.",
            Self::GrantToSelf => "Another member of fieldcrypt_grantor has to grant it.",
            Self::Transit => "Store it in a column of an encrypted type first.",
            Self::TransparentIntoTable => {
                "Plain values would leave the client's own results. Prepare it with fieldcrypt.transparent off."
            }
            Self::Unwrap(..) => "The wrapped key was changed, or another key wrapped it.",
            Self::RootOfCustomer(_) => {
                "Accounts are under it by set_account_root(): make another one current."
            }
            Self::WrongRoot(_) => "Put the original root key back into the keyring.",
            Self::NotInstalled => "CREATE EXTENSION fieldcrypt;",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<Error> for ErrorReport {
    #[track_caller]
    fn from(error: Error) -> Self {
        let report = Self::new(error.code(), presentable(error.to_string()), "fieldcrypt");
        match error.hint() {
            Some(hint) => report.set_hint(presentable(hint)),
            None => report,
        }
    }
}

/// A message as the database's encoding can hold it: names may have other characters.
fn presentable(message: String) -> String {
    if message.is_ascii() || encoding::is_utf8() {
        message
    } else {
        message.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }
}

/// Whether an SQLSTATE, as PostgreSQL encodes it, is of class 22, "data exception".
pub fn is_data_exception(code: i32) -> bool {
    // the class is in the lowest 12 bits: ERRCODE_TO_CATEGORY in PostgreSQL's elog.h
    let class = |code: i32| code & 0xfff;
    class(code) == class(Code::ERRCODE_DATA_EXCEPTION as i32)
}

/// Raises the error, if it is one.
pub trait OrRaise<T> {
    /// The value; an error is raised as a PostgreSQL error.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T> {
    #[track_caller]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(error),
        }
    }
}

#[cold]
#[track_caller]
fn raise(error: Error) -> ! {
    ErrorReport::from(error).report(pgrx::PgLogLevel::ERROR);
    unreachable!("a report of level ERROR does not return")
}
