//! Index scans over a catalog table.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Oid, TransactionId};

use super::tables::Indexed;
use crate::backend;
use crate::call::{self, NewVarlena, varlena_bytes};
use crate::encoding;
use crate::error::{Error, Result};

/// What one column must be equal to.
pub enum Equals<'a> {
    Bigint(i16, i64),
    Int(i16, i32),
    Oid(i16, Oid),
    Text(i16, &'a str),
}

impl Equals<'_> {
    fn scan_key(&self) -> pg_sys::ScanKeyData {
        let (column, procedure, value) = match *self {
            Self::Bigint(column, value) => (column, pg_sys::F_INT8EQ, Datum::from(value)),
            Self::Int(column, value) => (column, pg_sys::F_INT4EQ, Datum::from(value)),
            Self::Oid(column, value) => (column, pg_sys::F_OIDEQ, Datum::from(value)),
            Self::Text(column, value) => {
                let text = encoding::convert_to_server(value);
                (column, pg_sys::F_TEXTEQ, NewVarlena::of(&text))
            }
        };
        let mut key = pg_sys::ScanKeyData::default();
        let strategy = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        // SAFETY: initialises the whole struct; the procedure compares the column's type
        unsafe {
            pg_sys::ScanKeyInit(&mut key, column, strategy, Oid::from(procedure), value);
        }
        key
    }
}

/// One row.
pub struct Row {
    values: Vec<Datum>,
    nulls: Vec<bool>,
    /// The transaction that wrote it.
    pub written_by: TransactionId,
}

impl Row {
    fn value(&self, column: usize) -> Option<Datum> {
        let is_null = self.nulls.get(column - 1)?;
        (!is_null).then(|| self.values[column - 1])
    }

    /// Whether a column is NULL.
    pub fn is_null(&self, column: usize) -> bool {
        self.value(column).is_none()
    }

    fn varlena(&self, column: usize) -> Option<&[u8]> {
        // SAFETY: the caller names a column of a varlena type; the tuple lives as long as the row
        self.value(column).map(|datum| unsafe { varlena_bytes(datum) })
    }

    /// A text column.
    pub fn text(&self, column: usize) -> Result<Option<String>> {
        let text = self.varlena(column).map(encoding::to_utf8).transpose()?;
        Ok(text.map(std::borrow::Cow::into_owned))
    }

    /// A text column that is NOT NULL.
    pub fn required_text(&self, column: usize) -> Result<String> {
        self.text(column)?.ok_or(Error::Catalog("NULL"))
    }

    /// A bytea column that is NOT NULL.
    pub fn bytes(&self, column: usize) -> Result<Vec<u8>> {
        self.varlena(column).map(<[u8]>::to_vec).ok_or(Error::Catalog("NULL"))
    }

    /// A bytea column.
    pub fn optional_bytes(&self, column: usize) -> Option<Vec<u8>> {
        self.varlena(column).map(<[u8]>::to_vec)
    }

    /// A text array column.
    pub fn texts(&self, column: usize) -> Result<Vec<String>> {
        let Some(datum) = self.value(column) else { return Ok(Vec::new()) };
        // SAFETY: the caller names a column of type text[]
        unsafe { call::texts(datum) }
    }

    /// A bigint column that is NOT NULL.
    pub fn bigint(&self, column: usize) -> Result<i64> {
        self.value(column).map(|datum| datum.value() as i64).ok_or(Error::Catalog("NULL"))
    }

    /// An integer column that is NOT NULL.
    pub fn int(&self, column: usize) -> Result<i32> {
        self.value(column).map(|datum| datum.value() as i32).ok_or(Error::Catalog("NULL"))
    }

    /// A boolean column; NULL is false.
    pub fn boolean(&self, column: usize) -> bool {
        self.value(column).is_some_and(|datum| datum.value() & 1 == 1)
    }

    /// An oid column that is NOT NULL.
    pub fn oid(&self, column: usize) -> Result<Oid> {
        self.value(column)
            .map(|datum| Oid::from(datum.value() as u32))
            .ok_or(Error::Catalog("NULL"))
    }
}

/// Reads the rows that match, in the order of the index, until `visit` fails. They are the newest
/// committed rows and this transaction's own, whatever its isolation level.
pub fn rows(
    from: Indexed,
    matching: &[Equals<'_>],
    visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    rows_under(std::ptr::null_mut(), from, matching, visit)
}

/// The same, of the rows that the statement sees which is running.
pub fn rows_seen(
    from: Indexed,
    matching: &[Equals<'_>],
    visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let snapshot = backend::active_snapshot().unwrap_or(std::ptr::null_mut());
    rows_under(snapshot, from, matching, visit)
}

fn rows_under(
    snapshot: pg_sys::Snapshot,
    from: Indexed,
    matching: &[Equals<'_>],
    mut visit: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let mut keys: Vec<_> = matching.iter().map(Equals::scan_key).collect();
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the table and its index exist: their OIDs were looked up in this generation of the
    // catalog, and opening raises an error otherwise. The snapshot is active, or NULL, which is the
    // newest catalog snapshot. Each tuple is used before the next is fetched, and `visit` cannot reach it after.
    // What an error leaves open, the resource owner closes.
    unsafe {
        let table = pg_sys::table_open(from.table, lock);
        let descriptor = (*table).rd_att;
        let columns = usize::try_from((*descriptor).natts).unwrap_or(0);
        let mut row = Row {
            values: vec![Datum::null(); columns],
            nulls: vec![true; columns],
            written_by: TransactionId::INVALID,
        };
        let scan = pg_sys::systable_beginscan(
            table,
            from.index,
            true,
            snapshot,
            keys.len() as i32,
            keys.as_mut_ptr(),
        );
        let mut result = Ok(());
        while result.is_ok() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(
                tuple,
                descriptor,
                row.values.as_mut_ptr(),
                row.nulls.as_mut_ptr(),
            );
            row.written_by = pg_sys::htup::HeapTupleHeaderGetXmin((*tuple).t_data);
            result = visit(&row);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
        result
    }
}

/// Reads the one row that matches, if there is one.
pub fn row<T>(
    from: Indexed,
    matching: &[Equals<'_>],
    read: impl Fn(&Row) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    rows(from, matching, |row| {
        found = Some(read(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// The OID of a role; `None` if it does not exist.
pub fn role(name: &CStr) -> Option<Oid> {
    // SAFETY: the name is NUL-terminated; a missing role gives 0
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != Oid::INVALID).then_some(oid)
}
