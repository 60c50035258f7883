//! The row triggers of jobs that adopt values of other software: while such a job runs, what the
//! application still writes in the other software's form is adopted with the row.
//!
//! Invariant: as in [`super::both`], they have the rights of the table's owner; how values are opened
//! they have from the job that they name, and only for the tables that it works on.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use fieldcrypt_document::jsonb::Container;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};

use super::Row;
use super::row::Which;
use crate::adopt::Beside;
use crate::adopt::job::{self, Job, Piece, is_about_value};
use crate::call::{Answer, NewVarlena, varlena_bytes};
use crate::catalog::family::Family;
use crate::catalog::write::{Restriction, as_owner_of};
use crate::document::adopted;
use crate::encoding;
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

fn misuse() -> Error {
    let hint = "CALL fieldcrypt.adopt_column(...) or adopt_existing(...) creates it.".to_owned();
    Error::InvalidArgument { name: "trigger", hint }
}

fn text(argument: &CStr) -> Result<Cow<'_, str>> {
    encoding::to_utf8(argument.to_bytes())
}

/// What belongs to the values of the new row and stands in other columns of it.
fn beside(row: &Row, job: &Job) -> Result<Beside> {
    let name_of =
        |column: &str| CString::new(encoding::convert_to_server(column)).map_err(|_| misuse());
    let mut associated_data = job.template.is_some().then(Vec::new);
    for piece in job.template.iter().flatten() {
        let text = match piece {
            Piece::Literal(text) => Some(text.into()),
            Piece::Column(column) => row.text(Which::New, row.column(&name_of(column)?)?)?,
        };
        associated_data = associated_data.zip(text).map(|(mut data, text)| {
            data.extend_from_slice(text.as_bytes());
            data
        });
    }
    let iv = match &job.iv_column {
        None => None,
        Some(column) => {
            let column = row.column_of(&name_of(column)?, pg_sys::BYTEAOID)?;
            let iv = row.datum(Which::New, column);
            // SAFETY: the column is of type bytea, as was checked
            iv.map(|iv| unsafe { varlena_bytes(iv) }.to_vec())
        }
    };
    Ok(Beside { associated_data, iv })
}

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION adopt_both(column, successor,
/// account_column, target, …)`, followed by the columns that belong to the value.
#[pg_extern(sql = false)]
fn adopt_both(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let (mut row, arguments) = Row::of(fcinfo, "").map_err(|_| misuse())?;
    let [column, successor, account, target, beside @ ..] = arguments.as_slice() else {
        return Err(misuse().into());
    };
    let columns = Columns {
        column: row.column(column)?,
        successor: row.column(successor)?,
        account: row.column(account)?,
        beside: beside.iter().map(|column| row.column(column)).collect::<Result<_>>()?,
    };
    let value = adopted_value(&row, &columns, &text(column)?, &text(target)?)?;
    row.set(columns.successor, value);
    Ok(Answer::datum(row.into_datum()))
}

struct Columns {
    column: i32,
    successor: i32,
    account: i32,
    beside: Vec<i32>,
}

fn adopted_value(
    row: &Row,
    columns: &Columns,
    column: &str,
    target: &str,
) -> Result<Option<Datum>> {
    let stored_type = row.base_type(columns.column);
    if !matches!(
        stored_type,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::BYTEAOID
    ) {
        return Err(Error::ColumnType(column.to_owned()));
    }
    let value = |which| {
        let value = row.datum(which, columns.column)?;
        // SAFETY: values of these types are varlenas
        let bytes = unsafe { varlena_bytes(value) };
        // the padding of char(n) is no part of the value
        Some(if stored_type == pg_sys::BPCHAROID { bytes.trim_ascii_end() } else { bytes })
    };
    let Some(new) = value(Which::New) else { return Ok(None) };
    let account = row.text(Which::New, columns.account)?.ok_or(Error::RowWithoutAccount)?;
    let mut is_as_before = value(Which::Old) == Some(new)
        && row.text(Which::Old, columns.account)?.as_deref() == Some(&*account);
    // under other associated data it is another value
    for &column in &columns.beside {
        is_as_before =
            is_as_before && row.text(Which::Old, column)? == row.text(Which::New, column)?;
    }
    if is_as_before && let Some(before) = row.datum(Which::Old, columns.successor) {
        return Ok(Some(before));
    }
    let plaintext_type = Family::get()?.plaintext_type(row.base_type(columns.successor));
    let plaintext_type = plaintext_type.ok_or_else(misuse)?;
    let adopt = || {
        let job = job::of(target)?;
        job.require_column(row.table(), column)?;
        job.adopt(new, &beside(row, &job)?, &account, plaintext_type)
    };
    match as_owner_of(row.table(), Restriction::None, adopt)? {
        Ok(adopted) => Ok(Some(adopted)),
        // it was there before: the job counts it before it cuts over
        Err(error) if is_as_before && is_about_value(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION adopt_in_document(name, column,
/// account_column, kind_column)`, before the document's own trigger; the last one may be empty.
#[pg_extern(sql = false)]
fn adopt_in_document(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let (mut row, arguments) = Row::of(fcinfo, "").map_err(|_| misuse())?;
    let &[name, column, account, kind] = arguments.as_slice() else {
        return Err(misuse().into());
    };
    let column = row.column_of(column, pg_sys::JSONBOID)?;
    if let Some(adopted) = adopted_document(&row, &text(name)?, column, account, kind)? {
        row.set(column, Some(adopted));
    }
    Ok(Answer::datum(row.into_datum()))
}

fn adopted_document(
    row: &Row,
    name: &str,
    column: i32,
    account: &CStr,
    kind: &CStr,
) -> Result<Option<Datum>> {
    let Some(new) = row.datum(Which::New, column) else { return Ok(None) };
    // SAFETY: the column is of type jsonb, as was checked
    let container = Container::new(unsafe { varlena_bytes(new) })?;
    let account = row.text(Which::New, row.column(account)?)?.ok_or(Error::RowWithoutAccount)?;
    let kind = match kind.is_empty() {
        true => None,
        false => row.text(Which::New, row.column(kind)?)?,
    };
    let adopt = || {
        let job = job::of(name)?;
        job.require_table(row.table())?;
        let beside = &beside(row, &job)?;
        adopted::adopted(
            adopted::Row { document: name, account: &account, kind: kind.as_deref(), beside },
            container,
        )
    };
    let adopted = as_owner_of(row.table(), Restriction::None, adopt)??;
    Ok(adopted.map(|adopted| NewVarlena::of(&adopted)))
}
