//! Questions to the extension's own SQL functions, as the current user.
//!
//! Invariant: they only read, and take no transaction id, so that standbys and parallel workers can
//! ask too.

use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::spi::{self, Spi};

use crate::error::{Error, Result};

/// The first column of the first row of a query with one parameter; `None` if that is NULL, or if
/// there is no row. `query` names every object with its schema.
pub fn ask<T: FromDatum + IntoDatum>(
    query: &str,
    parameter: DatumWithOid<'_>,
) -> Result<Option<T>> {
    let answer =
        Spi::connect(|client| client.select(query, Some(1), &[parameter])?.first().get_one());
    match answer {
        Ok(answer) => Ok(answer),
        Err(spi::Error::InvalidPosition) => Ok(None),
        Err(_) => Err(Error::Catalog("query failed")),
    }
}
