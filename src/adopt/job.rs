//! What the jobs `adopt_column()` and `adopt_existing()` do to a row.
//!
//! Invariant: how values are opened stands in the catalog, where a member of `fieldcrypt_admin` has
//! put it, and holds for the owners of the job's tables and for nobody else. Whoever writes the
//! arguments of a trigger names a job, never a key.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_core::error::AdoptError;
use fieldcrypt_document::flags::Flags;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use serde::{Deserialize, Serialize};

use super::paths::flags;
use super::{ACCOUNT, Adoption, Beside, DONE, Terms};
use crate::access::roles::{ADMIN, require_role};
use crate::backend;
use crate::call::{Answer, Call};
use crate::catalog::family::Family;
use crate::catalog::field::By;
use crate::catalog::write;
use crate::datatype::native::Canonical;
use crate::encoding;
use crate::error::{Error, Result};
use crate::keyring::foreign;
use crate::keyring::sealer::Sealer;
use crate::value;

type Answered = std::result::Result<Answer, ErrorReport>;

/// How a job opens values, as the catalog has it.
#[derive(Deserialize, Serialize)]
struct Entry {
    format: String,
    key: String,
    previous_keys: Vec<String>,
    associated_data: Option<String>,
    associated_data_template: Option<String>,
    iv_column: Option<String>,
    plaintext: PlainValues,
    plain_type: Option<String>,
    paths: Option<Vec<String>>,
}

/// The same, and what it works on.
#[derive(Deserialize)]
struct AtWork {
    terms: Entry,
    template: Option<Vec<Piece>>,
    column_name: Option<String>,
    field: Option<String>,
    tables: Vec<u32>,
    owners: Vec<u32>,
}

/// A piece of the associated data of a row: a text, or what stands in a column.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    Literal(String),
    Column(String),
}

/// What is done with a value that is not of the format.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum PlainValues {
    Refuse,
    Encrypt,
}

/// A job that adopts.
pub struct Job {
    terms: Rc<Terms>,
    /// What the associated data of a row are made of, if each has its own.
    pub template: Option<Vec<Piece>>,
    /// The column of the iv, if it is not part of the value.
    pub iv_column: Option<String>,
    plain_values: PlainValues,
    /// Where in documents.
    pub paths: Flags<()>,
    /// The column, and the field of its values.
    column: Option<(String, String)>,
    tables: Vec<u32>,
    owners: Vec<u32>,
}

/// The job that was asked for last, in this statement of this transaction.
struct Known {
    target: String,
    moment: (i64, i64),
    job: Rc<Job>,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// The job at work on a target, for the owners of its tables.
pub fn of(target: &str) -> Result<Rc<Job>> {
    let moment = (backend::statement_start(), backend::transaction_start());
    let known = KNOWN.with_borrow(|known| {
        let known = known.as_ref().filter(|known| known.moment == moment && known.target == target);
        known.map(|known| Rc::clone(&known.job))
    });
    let job = match known {
        Some(job) => job,
        None => {
            let job = Rc::new(Job::load(target)?);
            let (target, kept) = (target.to_owned(), Rc::clone(&job));
            KNOWN.set(Some(Known { target, moment, job: kept }));
            job
        }
    };
    if job.owners.contains(&backend::user().to_u32()) { Ok(job) } else { Err(Error::NotOwner) }
}

impl Entry {
    fn terms(&self) -> Result<Terms> {
        let (key, previous_keys) = (self.key.clone(), self.previous_keys.clone());
        Terms::new(&self.format, key, previous_keys, self.associated_data.as_deref())
    }

    /// Fails unless values of the format have what is given with them, and nothing else.
    fn check(&self, terms: &Terms) -> Result<()> {
        let (constant, template) = (&self.associated_data, &self.associated_data_template);
        if constant.is_some() && template.is_some() {
            let hint =
                "Associated data are the same for all rows, or made of a template.".to_owned();
            return Err(Error::InvalidArgument { name: "associated_data", hint });
        }
        let has_associated_data = constant.is_some() || template.is_some();
        terms.format.check(has_associated_data, self.iv_column.is_some()).map_err(|error| {
            Error::Adopt { error, format: terms.format.name(), key: self.key.clone() }
        })
    }
}

impl Job {
    fn load(target: &str) -> Result<Self> {
        let known = write::texts("SELECT fieldcrypt.adoption_of_job($1)", &[target.into()])?;
        let Some(job) = known.first() else { return Err(Error::JobMissing(target.to_owned())) };
        let AtWork { terms, template, column_name, field, tables, owners } =
            serde_json::from_str(job).map_err(|_| Error::Catalog("adoption"))?;
        Ok(Self {
            terms: Rc::new(terms.terms()?),
            template,
            iv_column: terms.iv_column,
            plain_values: terms.plaintext,
            paths: flags(&terms.paths.unwrap_or_default())?,
            column: column_name.zip(field),
            tables,
            owners,
        })
    }

    /// Fails unless it is at work on that table.
    pub fn require_table(&self, table: Oid) -> Result<()> {
        if self.tables.contains(&table.to_u32()) { Ok(()) } else { Err(Error::NotOwner) }
    }

    /// Fails unless it is at work on that column of the table.
    pub fn require_column(&self, table: Oid, column: &str) -> Result<()> {
        self.require_table(table)?;
        let is_it = self.column.as_ref().is_some_and(|(name, _)| name == column);
        if is_it { Ok(()) } else { Err(Error::ColumnMissing(column.to_owned())) }
    }

    /// How values of an account are opened, of a row in which that stands beside them.
    pub fn adoption<'a>(&self, account: &'a str, beside: &'a Beside) -> Result<Adoption<'a>> {
        if self.template.is_some() && beside.associated_data.is_none() {
            return Err(Error::RowWithout("associated data"));
        }
        if self.iv_column.is_some() && beside.iv.is_none() {
            return Err(Error::RowWithout("iv"));
        }
        Ok(Adoption::by(Rc::clone(&self.terms), beside, account))
    }

    /// Whether what is not of the format is plain, and is to be sealed as it is.
    pub fn takes_plain(&self) -> bool {
        self.plain_values == PlainValues::Encrypt
    }

    /// What is in a value of the column, or a plain one where these are taken, and the key that
    /// opened it.
    fn read<'a>(
        &self,
        adoption: &'a Adoption<'_>,
        value: &[u8],
        plaintext_type: PlaintextType,
    ) -> Result<(Canonical<'static>, Option<&'a str>)> {
        let (_, field) = self.column.as_ref().ok_or(Error::Catalog("adoption"))?;
        match adoption.read(value, field, plaintext_type) {
            Ok((canonical, key)) => Ok((canonical, Some(key))),
            Err(error)
                if error.is_not_encrypted() && self.takes_plain() && !is_reserved_text(value) =>
            {
                let plain = match plaintext_type {
                    PlaintextType::Bytea => Canonical::of(plaintext_type, value),
                    _ => adoption.typed(&encoding::to_utf8(value)?, field, plaintext_type)?,
                };
                Ok((plain, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Seals what is in a value of the column, for whoever may encrypt.
    pub fn adopt(
        &self,
        value: &[u8],
        beside: &Beside,
        account: &str,
        plaintext_type: PlaintextType,
    ) -> Result<Datum> {
        let (_, field) = self.column.as_ref().ok_or(Error::Catalog("adoption"))?;
        // the right comes first: whether a value opens is not for everyone
        Sealer::to_encrypt(By::Name(field), account)?;
        let adoption = self.adoption(account, beside)?;
        let read = self.read(&adoption, value, plaintext_type);
        let (canonical, key) = adoption.noted(field, read)?;
        let sealed = value::seal(canonical.plaintext()?, By::Name(field), account)?;
        if let Some(key) = key {
            adoption.note(DONE, field, key)?;
        }
        Ok(sealed)
    }

    /// Whether a value of the column is in an encrypted one, which may be NULL. What does not open
    /// is in none.
    pub fn holds(
        &self,
        value: &[u8],
        beside: &Beside,
        encrypted: Option<&[u8]>,
        account: &str,
        plaintext_type: PlaintextType,
    ) -> Result<bool> {
        let read = self.adoption(account, beside).and_then(|adoption| {
            self.read(&adoption, value, plaintext_type).map(|(canonical, _)| canonical)
        });
        match (read, encrypted) {
            (Ok(canonical), Some(encrypted)) => {
                // what cannot be opened is not the same; writing it anew says why
                Ok(value::holds(encrypted, canonical.plaintext()?, account).unwrap_or(false))
            }
            (Ok(_), None) => Ok(false),
            (Err(error), _) if is_about_value(&error) => Ok(encrypted.is_none()),
            (Err(error), _) => Err(error),
        }
    }
}

/// Whether an error is about the value, and not about the call, a key or a right.
pub fn is_about_value(error: &Error) -> bool {
    match error {
        Error::Adopt { error, .. } => {
            !matches!(error, AdoptError::Iv | AdoptError::AssociatedData | AdoptError::KeyLength)
        }
        Error::AdoptInput { .. } | Error::InvalidText | Error::RowWithout(_) => true,
        _ => false,
    }
}

/// `set_adoption(target, format, key, previous_keys, associated_data, associated_data_template,
/// iv_column, plaintext, plain_type, paths)`: notes how the job that is about to start opens values.
#[pg_extern(sql = false)]
fn set_adoption(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "set_adoption")?;
    let target = call.required_text(0, "the target")?;
    let plaintext = match &*call.required_text(7, "what becomes of plain text")? {
        "refuse" => PlainValues::Refuse,
        "encrypt" => PlainValues::Encrypt,
        _ => {
            let hint = "It is one of: refuse, encrypt.".to_owned();
            return Err(Error::InvalidArgument { name: "plaintext", hint }.into());
        }
    };
    let entry = Entry {
        format: call.required_text(1, "the format")?.into_owned(),
        key: call.required_text(2, "the key")?.into_owned(),
        previous_keys: call.texts(3)?.unwrap_or_default(),
        associated_data: call.optional_text(4)?.map(Cow::into_owned),
        associated_data_template: call.optional_text(5)?.map(Cow::into_owned),
        iv_column: call.optional_text(6)?.map(Cow::into_owned),
        plaintext,
        plain_type: call.optional_text(8)?.map(Cow::into_owned),
        paths: call.texts(9)?,
    };
    let terms = entry.terms()?;
    entry.check(&terms)?;
    for key in terms.keys.iter().filter(|key| !key.contains(ACCOUNT)) {
        foreign::require(key)?;
    }
    flags(entry.paths.as_deref().unwrap_or_default())?;
    let entry = serde_json::to_string(&entry).map_err(|_| Error::Catalog("adoption"))?;
    write::texts(
        "SELECT fieldcrypt.keep_adoption($1, $2)::text",
        &[target.as_ref().into(), entry.as_str().into()],
    )?;
    Ok(Answer::NULL)
}

/// `adopt_stored(target text, value, account text, successor, associated_data text, iv bytea) → ` the
/// successor's type: what is to be written there; NULL where the value does not open.
#[pg_extern(sql = false)]
fn adopt_stored(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    let job = of(&call.required_text(0, "the target")?)?;
    if call.is_null(1) {
        return Ok(Answer::NULL);
    }
    let account = call.optional_text(2)?.ok_or(Error::RowWithoutAccount)?;
    let plaintext_type = Family::get()?.plaintext_type(call.argument_type(3));
    let plaintext_type = plaintext_type.ok_or(Error::Catalog("encrypted type"))?;
    let iv = (!call.is_null(5)).then(|| call.bytes(5));
    let beside = Beside::of(call.optional_text(4)?, iv);
    match job.adopt(call.bytes(1), &beside, &account, plaintext_type) {
        Ok(sealed) => Ok(Answer::datum(sealed)),
        Err(error) if is_about_value(&error) => Ok(Answer::NULL),
        Err(error) => Err(error.into()),
    }
}
