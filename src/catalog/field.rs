//! Fields and their policies.

use std::fmt;

use fieldcrypt_core::envelope::PlaintextType;
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::mask::Mask;
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::{Kind, Scope};

use pgrx::pg_sys::TransactionId;

use super::query;
use super::scan::{self, Equals, Row};
use super::tables::{Indexed, Tables};
use crate::backend;
use crate::error::{Error, Result};

/// What a role without any right sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// `********`.
    Mask,
    /// The envelope.
    Ciphertext,
}

/// A field with its policy.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub id: FieldId,
    pub suite: Suite,
    /// Which equality token values carry: exact, to be found by, or unique, for constraints only.
    pub equality: Option<Kind>,
    /// Whether values carry, beside their account's token, one that is comparable across accounts.
    pub scope: Scope,
    /// Whether only tokens are kept, and not the value.
    pub token_only: bool,
    /// Whether stored values may be turned back into plain ones.
    pub reversible: bool,
    /// Whether values may carry tokens although there are few different ones.
    pub small_domain: bool,
    /// Whether all stored values have the tokens of this policy. New ones have them in any case.
    pub backfilled: bool,
    /// The transaction that changed the policy last, if it was changed.
    pub changed_by: Option<TransactionId>,
    pub normalizer: Normalizer,
    pub mask: Option<Mask>,
    pub hidden: Hidden,
    pub padding: Padding,
}

/// How to find a field.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    Handle(i32),
    Id(FieldId),
    Name(&'a str),
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle(handle) => write!(f, "({handle})"),
            Self::Id(id) => write!(f, "{:016x}", id.0),
            Self::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

impl Field {
    /// The field, if it exists.
    pub fn find(by: By<'_>) -> Result<Option<Self>> {
        let tables = Tables::get()?;
        let (from, matching): (Indexed, _) = match by {
            By::Handle(handle) => (tables.field_by_handle, Equals::Int(3, handle)),
            By::Id(id) => (tables.field_by_id, Equals::Bigint(2, id.0.cast_signed())),
            By::Name(name) => (tables.field, Equals::Text(1, name)),
        };
        scan::row(from, &[matching], Self::read)
    }

    /// The field.
    pub fn require(by: By<'_>) -> Result<Self> {
        Self::find(by)?.ok_or_else(|| Error::FieldMissing(by.to_string()))
    }

    /// Whether it is the field that is looked for.
    pub fn is(&self, by: By<'_>) -> bool {
        match by {
            By::Handle(handle) => self.id.handle() == handle,
            By::Id(id) => self.id == id,
            By::Name(name) => self.name == name,
        }
    }

    /// The name of its search kind, if it has one.
    pub fn search_kind(&self) -> Option<&'static str> {
        self.equality.map(|kind| if kind == Kind::Exact { "exact" } else { "unique" })
    }

    /// Fails unless values of that type and of the field carry equality tokens to be found by.
    pub fn require_searchable(&self, plaintext_type: PlaintextType) -> Result<()> {
        let reason = match self.equality {
            Some(_) if !self.backfilled => {
                "Its search was changed, and stored values are still to follow: \
                 fieldcrypt.plan_alter_field(...) names the jobs, reencrypt_field(...) runs them."
            }
            Some(_) if plaintext_type == PlaintextType::Json => {
                "JSON is not searched as a whole: tokens(...) and matches(...) look inside."
            }
            Some(Kind::Exact) => {
                self.require_comparable(plaintext_type)?;
                // rows as they were before a back-fill have other tokens
                return match self.changed_by.is_none_or(backend::is_visible) {
                    true => Ok(()),
                    false => Err(Error::OlderSnapshot(self.name.clone())),
                };
            }
            Some(_) => "The field was created with search => '{unique}': for constraints only.",
            None => "The field was created without search => '{exact}'.",
        };
        Err(Error::CannotSearch { field: self.name.clone(), reason })
    }

    /// Fails where values of that type carry no equality tokens.
    pub fn require_comparable(&self, plaintext_type: PlaintextType) -> Result<()> {
        let reason = match plaintext_type {
            PlaintextType::Text
            | PlaintextType::Json
            | PlaintextType::Bigint
            | PlaintextType::Date
            | PlaintextType::Uuid => return Ok(()),
            PlaintextType::Boolean if self.small_domain => return Ok(()),
            PlaintextType::Boolean => {
                "A boolean has two values: tokens would show which rows are alike, and who knows one of them knows all. \
                 create_field(..., small_domain => true) permits it."
            }
            PlaintextType::Bytea | PlaintextType::Numeric | PlaintextType::Timestamptz => {
                "Only text, bigint, date and uuid values can be searched; others are stored under a field without search."
            }
        };
        Err(Error::CannotSearch { field: self.name.clone(), reason })
    }

    /// How values of that type are normalised before they become tokens: what is not text has one
    /// form already.
    pub fn normalizer_of(&self, plaintext_type: PlaintextType) -> Normalizer {
        match plaintext_type {
            PlaintextType::Text | PlaintextType::Json => self.normalizer,
            _ => Normalizer::None,
        }
    }

    /// Whether a column of the field is unique.
    pub fn has_unique_column(&self) -> Result<bool> {
        let handle = self.id.handle().into();
        let unique = query::ask("SELECT fieldcrypt.has_unique_column($1)", handle)?;
        unique.ok_or(Error::Catalog("unique columns"))
    }

    /// The names of all fields.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        scan::rows(Tables::get()?.field, &[], |row| {
            names.push(row.required_text(1)?);
            Ok(())
        })?;
        Ok(names)
    }

    fn read(row: &Row) -> Result<Self> {
        let mask = row.text(8)?;
        Ok(Self {
            name: row.required_text(1)?,
            id: FieldId(row.bigint(2)?.cast_unsigned()),
            suite: Suite::from_name(&row.required_text(5)?).ok_or(Error::Catalog("suite"))?,
            equality: match row.texts(6)?.first().map(String::as_str) {
                None => None,
                Some("exact") => Some(Kind::Exact),
                Some("unique") => Some(Kind::Unique),
                Some(_) => return Err(Error::Catalog("search kind")),
            },
            normalizer: Normalizer::from_name(&row.required_text(7)?)
                .ok_or(Error::Catalog("normalizer"))?,
            mask: mask
                .map(|mask| Mask::parse(&mask).map_err(|_| Error::Catalog("mask")))
                .transpose()?,
            hidden: match row.required_text(9)?.as_str() {
                "mask" => Hidden::Mask,
                "ciphertext" => Hidden::Ciphertext,
                _ => return Err(Error::Catalog("hidden form")),
            },
            padding: Padding::from_name(&row.required_text(10)?)
                .ok_or(Error::Catalog("padding"))?,
            scope: match row.required_text(11)?.as_str() {
                "account" => Scope::Account,
                "database" => Scope::Database,
                _ => return Err(Error::Catalog("scope")),
            },
            token_only: row.required_text(12)? == "token",
            reversible: row.boolean(13),
            small_domain: row.boolean(14),
            backfilled: row.boolean(15),
            changed_by: (!row.is_null(18)).then_some(row.written_by),
        })
    }
}

/// What to call a field in a message: its name, or its id if the catalog does not know it.
pub fn describe(id: FieldId) -> String {
    match Field::find(By::Id(id)) {
        Ok(Some(field)) => format!("\"{}\"", field.name),
        _ => By::Id(id).to_string(),
    }
}

/// The name or number of a type modifier for a message.
pub fn describe_handle(handle: i32) -> String {
    match Field::find(By::Handle(handle)) {
        Ok(Some(field)) => format!("\"{}\"", field.name),
        _ => By::Handle(handle).to_string(),
    }
}
