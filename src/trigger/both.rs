//! The row trigger of a job that moves a column's values to another one, encrypted or decrypted:
//! while it runs, whoever writes the column writes both.
//!
//! Invariant: it has the rights of the table's owner, as a SECURITY DEFINER function of his would: no
//! trigger shows an owner more than he may decrypt himself.

use fieldcrypt_core::envelope::PlaintextType;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::Row;
use super::row::Which;
use crate::call::{Answer, varlena_bytes};
use crate::catalog::family::{Family, native};
use crate::catalog::field::By;
use crate::catalog::write::{Restriction, as_owner_of};
use crate::datatype::{functions, native};
use crate::document::open::Reading;
use crate::error::{Error, Result};
use crate::value;

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION write_both(column, successor,
/// account_column, field)`; the field is empty where the successor is the plain one.
#[pg_extern(sql = false)]
fn write_both(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let misuse = || Error::InvalidArgument {
        name: "trigger",
        hint: "CALL fieldcrypt.encrypt_column(...) creates it.".to_owned(),
    };
    let (mut row, arguments) = Row::of(fcinfo, "").map_err(|_| misuse())?;
    let &[column, successor, account, field] = arguments.as_slice() else {
        return Err(misuse().into());
    };
    let columns = Columns {
        column: row.column(column)?,
        successor: row.column(successor)?,
        account: row.column(account)?,
    };
    let value = match field.to_str().map_err(|_| misuse())? {
        "" => decrypted(&row, &columns, successor.to_str().unwrap_or_default())?,
        field => encrypted(&row, &columns, field)?,
    };
    row.set(columns.successor, value);
    Ok(Answer::datum(row.into_datum()))
}

struct Columns {
    column: i32,
    successor: i32,
    account: i32,
}

fn encrypted(row: &Row, columns: &Columns, field: &str) -> Result<Option<Datum>> {
    let Some(new) = row.datum(Which::New, columns.column) else { return Ok(None) };
    let column_type = row.base_type(columns.column);
    // SAFETY: the values are of the column's type
    let new = unsafe { native::from_column(column_type, new)? };
    let account = row.text(Which::New, columns.account)?.ok_or(Error::RowWithoutAccount)?;
    if let (Some(old), Some(successor)) =
        (row.datum(Which::Old, columns.column), row.datum(Which::Old, columns.successor))
        && row.text(Which::Old, columns.account)?.as_deref() == Some(&*account)
    {
        // SAFETY: as above
        let old = unsafe { native::from_column(column_type, old)? };
        if old.plaintext()? == new.plaintext()? {
            return Ok(Some(successor));
        }
    }
    let seal = || value::seal(new.plaintext()?, By::Name(field), &account);
    as_owner_of(row.table(), Restriction::None, seal)?.map(Some)
}

fn decrypted(row: &Row, columns: &Columns, successor: &str) -> Result<Option<Datum>> {
    let Some(new) = row.datum(Which::New, columns.column) else { return Ok(None) };
    let plaintext_type = Family::get()?.plaintext_type(row.base_type(columns.column));
    let is_pair = |kind: &PlaintextType| native(*kind) == row.base_type(columns.successor);
    let plaintext_type = plaintext_type.filter(is_pair);
    let plaintext_type = plaintext_type.ok_or_else(|| Error::ColumnType(successor.to_owned()))?;
    // SAFETY: values of an encrypted type are varlenas
    let bytes = |value: Datum| unsafe { varlena_bytes(value) };
    if let (Some(old), Some(successor)) =
        (row.datum(Which::Old, columns.column), row.datum(Which::Old, columns.successor))
        && bytes(old) == bytes(new)
    {
        return Ok(Some(successor));
    }
    let read = || functions::read(bytes(new), plaintext_type, Reading::Decrypt);
    as_owner_of(row.table(), Restriction::None, read)?
}
