//! The columns in which there may be sealed values, and the way through their rows.
//!
//! Rows are read below SQL: row security, the rights of the caller and of the table's owner, and
//! what the owner has put into indexes have no part in it.

use std::collections::HashSet;

use pgrx::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::{self, Spi, SpiTupleTable};

use super::Writers;
use super::keys::Found;
use crate::call::{output, varlena_bytes};
use crate::catalog::tables::Tables;
use crate::catalog::write::{Restriction, as_owner_of};
use crate::error::{Error, Result};

const PLACES: &str = "SELECT p.relation::pg_catalog.oid, p.number, p.column_name, p.subject, p.holds, p.problem \
     FROM fieldcrypt.places_of_values() AS p";

/// A column, or what else cannot be looked at.
#[derive(Clone)]
pub struct Place {
    pub relation: Option<Oid>,
    number: usize,
    pub column: Option<String>,
    /// What it is, in words.
    pub subject: String,
    holds: Holds,
    /// Why it cannot be looked at.
    pub problem: Option<String>,
}

impl Place {
    /// Whether it is a column of values that are compared as they are, not one of documents.
    pub fn holds_columns(&self) -> bool {
        self.relation.is_some() && self.holds != Holds::Document
    }
}

/// How the values of a column hold sealed ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// They are of an encrypted type.
    Value,
    /// They are jsonb.
    Document,
    /// They are arrays, rows or ranges.
    Inside,
}

/// All places as of now, or, where writers go on, as of the statement.
pub fn all(writers: Writers) -> Result<Vec<Place>> {
    let table = Tables::get()?.account.table;
    let read = as_owner_of(table, Restriction::None, || match writers {
        Writers::GoOn => Spi::connect(|client| Ok(read_all(client.select(PLACES, None, &[])?))),
        Writers::Wait => {
            Spi::connect_mut(|client| Ok(read_all(client.update(PLACES, None, &[])?)))
        }
    })?;
    read.map_err(|_: spi::Error| Error::Catalog("query failed"))?
}

fn read_all(rows: SpiTupleTable<'_>) -> Result<Vec<Place>> {
    let failed = |_| Error::Catalog("query failed");
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        let holds: Option<String> = row.get(5).map_err(failed)?;
        places.push(Place {
            relation: row.get(1).map_err(failed)?,
            number: row.get::<i16>(2).map_err(failed)?.map_or(0, i16::cast_unsigned).into(),
            column: row.get(3).map_err(failed)?,
            subject: row.get(4).map_err(failed)?.unwrap_or_default(),
            holds: match holds.as_deref() {
                Some("value") => Holds::Value,
                Some("document") => Holds::Document,
                _ => Holds::Inside,
            },
            problem: row.get(6).map_err(failed)?,
        });
    }
    Ok(places)
}

/// All places, to which nobody writes until the transaction ends. It waits for all transactions of
/// this database that are running now, some of which may use keys that others took away since.
pub fn held() -> Result<Vec<Place>> {
    wait_for_transactions();
    let mut held = HashSet::new();
    loop {
        // a table may have got a column before it was locked
        let places = all(Writers::Wait)?;
        let mut is_complete = true;
        for place in places.iter().filter(|place| place.problem.is_none()) {
            let Some(table) = place.relation else { continue };
            if held.insert(table) {
                is_complete = false;
                // SAFETY: waits for a lock, which is released when the transaction ends
                unsafe { pg_sys::LockRelationOid(table, pg_sys::ShareLock as pg_sys::LOCKMODE) };
            }
        }
        if is_complete {
            return Ok(places);
        }
    }
}

fn wait_for_transactions() {
    // not for workers that only clean tables
    let excluded = (pg_sys::PROC_IS_AUTOVACUUM | pg_sys::PROC_IN_VACUUM) as i32;
    let mut count = 0;
    // SAFETY: returns a palloc'd array of `count` ids, without that of this transaction. Waiting can
    // be cancelled, and notices deadlocks
    unsafe {
        let ids = pg_sys::GetCurrentVirtualXIDs(
            pg_sys::InvalidTransactionId,
            false,
            false,
            excluded,
            &mut count,
        );
        for i in 0..usize::try_from(count).unwrap_or(0) {
            pg_sys::VirtualXactLock(*ids.add(i), true);
        }
    }
}

/// Looks at every value in those places.
pub fn look(places: Vec<Place>) -> Result<Vec<(Place, Found)>> {
    let mut found: Vec<_> = places.into_iter().map(|place| (place, Found::default())).collect();
    // a table is read once, however many columns of it there are
    for columns in found.chunk_by_mut(|(one, _), (other, _)| one.relation == other.relation) {
        if let [(Place { relation: Some(relation), problem: None, .. }, _), ..] = columns {
            read(*relation, columns)?;
        }
    }
    Ok(found)
}

/// Looks at all rows of a table as they are committed now, and as this transaction has written them.
fn read(relation: Oid, columns: &mut [(Place, Found)]) -> Result<()> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut memory = PgMemoryContexts::new("fieldcrypt values");
    // SAFETY: the table is open while it is read. Each row is used before the next is fetched, and
    // so is the memory that its values are fetched to. What an error leaves open, the resource owner
    // closes
    unsafe {
        let table = pg_sys::try_relation_open(relation, lock);
        if table.is_null() {
            // dropped meanwhile
            return Ok(());
        }
        let descriptor = (*table).rd_att;
        let width = usize::try_from((*descriptor).natts).unwrap_or(0);
        let (mut values, mut nulls) = (vec![Datum::null(); width], vec![true; width]);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(
            table,
            Oid::INVALID,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        let mut result = Ok(());
        while result.is_ok() {
            pgrx::check_for_interrupts!();
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            result = memory.switch_to(|_| {
                columns.iter_mut().try_for_each(|(place, found)| {
                    let index = place.number.wrapping_sub(1);
                    match nulls.get(index) {
                        Some(false) => {
                            let kind = type_of(descriptor, place.number);
                            place.holds.look_at(values[index], kind, found)
                        }
                        Some(true) => Ok(()),
                        None => Err(Error::Catalog("column")),
                    }
                })
            });
            memory.reset();
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::relation_close(table, lock);
        result
    }
}

/// # Safety
/// The descriptor is valid and has a column of that number.
unsafe fn type_of(descriptor: pg_sys::TupleDesc, number: usize) -> Oid {
    let number = i32::try_from(number).unwrap_or(0);
    // SAFETY: the caller's
    unsafe { pg_sys::SPI_gettypeid(descriptor, number) }
}

impl Holds {
    /// # Safety
    /// `value` is one of type `kind`, whose values hold sealed ones in that way.
    unsafe fn look_at(self, value: Datum, kind: Oid, found: &mut Found) -> Result<()> {
        // SAFETY: the caller's; jsonb is a varlena
        unsafe {
            match self {
                Self::Value => found.add_value(value),
                Self::Document => found.add_text(varlena_bytes(value)),
                Self::Inside => found.add_text(output(kind, value)?.as_bytes()),
            }
        }
        Ok(())
    }
}
