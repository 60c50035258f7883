//! The rows of flagged paths.

use super::scan::{self, Equals};
use super::tables::Tables;
use crate::error::{Error, Result};

/// The account of a flag that holds for every account.
pub const EVERY_ACCOUNT: &str = "*";

/// A flagged path of a document.
#[derive(Clone, Debug)]
pub struct FlaggedPath {
    /// An account, or [`EVERY_ACCOUNT`].
    pub account: String,
    /// The kind of documents; empty for every kind.
    pub kind: String,
    pub path: String,
    pub field: String,
    /// Whether JSON null is sealed too.
    pub seals_null: bool,
    /// No longer flagged; what was sealed there stays readable.
    pub retired: bool,
}

impl FlaggedPath {
    /// The paths of a document that are flagged for an account by itself, or for every account by
    /// [`EVERY_ACCOUNT`].
    pub fn of(document: &str, account: &str) -> Result<Vec<Self>> {
        Self::matching(&[Equals::Text(1, document), Equals::Text(2, account)])
    }

    /// Every flagged path of a document.
    pub fn all_of(document: &str) -> Result<Vec<Self>> {
        Self::matching(&[Equals::Text(1, document)])
    }

    fn matching(matching: &[Equals<'_>]) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        scan::rows(Tables::get()?.path, matching, |row| {
            let (nulls, state) = (row.required_text(6)?, row.required_text(7)?);
            paths.push(Self {
                account: row.required_text(2)?,
                kind: row.required_text(3)?,
                path: row.required_text(4)?,
                field: row.required_text(5)?,
                seals_null: match nulls.as_str() {
                    "keep" => false,
                    "encrypt" => true,
                    _ => return Err(Error::Catalog("nulls")),
                },
                retired: match state.as_str() {
                    "active" => false,
                    "retired" => true,
                    _ => return Err(Error::Catalog("state of a path")),
                },
            });
            Ok(())
        })?;
        Ok(paths)
    }
}
