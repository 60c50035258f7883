//! The row trigger of `protect_jsonb`: it runs first, and seals the flagged values of a document
//! before anything else sees the row.

use std::ffi::CStr;

use fieldcrypt_document::jsonb::Container;
use fieldcrypt_document::rewrite::merge;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use super::Row;
use super::row::Which;
use crate::call::{Answer, Call, NewVarlena, varlena_bytes};
use crate::datatype::input::accepts_envelopes;
use crate::document::seal::Context;
use crate::document::{blob, made, policy, seal};
use crate::error::{Error, Result};

/// `BEFORE INSERT OR UPDATE … FOR EACH ROW EXECUTE FUNCTION seal_document(name, column,
/// account_column, kind_column, blob_column)`; the last two may be empty.
#[pg_extern(sql = false)]
fn seal_document(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let (row, arguments) = Row::of(fcinfo, "protect_jsonb")?;
    let &[name, column, account, kind, blob] = arguments.as_slice() else {
        let hint = "Use SELECT fieldcrypt.protect_jsonb(...).".to_owned();
        return Err(Error::InvalidArgument { name: "trigger", hint }.into());
    };
    let look_up = || {
        let optional = |name: &CStr| {
            if name.is_empty() { Ok(None) } else { row.column(name).map(Some) }
        };
        Ok::<_, Error>(Columns {
            document: row.column(column)?,
            account: row.column(account)?,
            kind: optional(kind)?,
            blob: optional(blob)?,
        })
    };
    // a trigger's place in a plan is of one table, whose columns stay while the plan runs
    let call = Call::new(fcinfo);
    let columns = match call.state_from_second_call::<Option<Columns>>() {
        Some(Some(columns)) => *columns,
        Some(known) => *known.insert(look_up()?),
        None => look_up()?,
    };
    Ok(Answer::datum(seal_row(row, &name.to_string_lossy(), &columns)?))
}

#[derive(Clone, Copy)]
struct Columns {
    document: i32,
    account: i32,
    kind: Option<i32>,
    blob: Option<i32>,
}

fn seal_row(mut row: Row, name: &str, columns: &Columns) -> Result<Datum> {
    made::next_row();
    let Some(new) = row.datum(Which::New, columns.document) else {
        return blob_alone(row, columns);
    };
    let kind = match columns.kind {
        Some(kind) => row.text(Which::New, kind)?.map(std::borrow::Cow::into_owned),
        None => None,
    };
    let account = row.text(Which::New, columns.account)?.map(std::borrow::Cow::into_owned);
    let Some(account) = account else { return Err(Error::RowWithoutAccount) };
    let policy = policy::of(name, &account, kind.as_deref())?;
    let same_account = row.text(Which::Old, columns.account)?.as_deref() == Some(&*account);
    // SAFETY: the column is of type jsonb, a varlena
    let bytes = |datum: Datum| unsafe { varlena_bytes(datum) };
    let old = row.datum(Which::Old, columns.document).map(bytes);
    let new = Container::new(bytes(new))?;
    let context =
        |old| Context { document: name, policy: &policy, account: &account, old, same_account };
    let Some(blob_column) = columns.blob else {
        let old = old.map(Container::new).transpose()?;
        if let Some(sealed) = seal::document(&context(old), new)? {
            row.set(columns.document, Some(NewVarlena::of(&sealed)));
        }
        return Ok(row.into_datum());
    };

    let content = new_content(&row, blob_column, same_account)?;
    let before = match row.datum(Which::Old, blob_column) {
        Some(old_blob) => {
            let empty = blob::empty()?;
            let old = Container::new(old.unwrap_or(&empty))?;
            Some(merge(old, Container::new(&blob::content(bytes(old_blob))?)?)?)
        }
        None => old.map(|old| Zeroizing::new(old.to_vec())),
    };
    let mut gathered = Vec::new();
    let old = before.as_deref().map(|old| Container::new(old)).transpose()?;
    let rest = seal::gather(&context(old), new, &mut gathered)?;
    if let Some(rest) = rest {
        row.set(columns.document, Some(NewVarlena::of(&rest)));
    }
    if gathered.is_empty() {
        return Ok(row.into_datum());
    }
    let changed = blob::put(&content, gathered)?;
    if changed != content {
        let handle = row.typmod(blob_column);
        let sealed = blob::seal(&changed, handle, &account)?;
        if let Some(sealed) = sealed {
            made::remember(bytes(sealed));
        }
        row.set(blob_column, sealed);
    }
    Ok(row.into_datum())
}

/// What the blob of the new row holds before the document's values are put in.
fn new_content(row: &Row, column: i32, same_account: bool) -> Result<Zeroizing<Vec<u8>>> {
    require_own_blob(row, column)?;
    match row.datum(Which::New, column) {
        None => blob::empty(),
        Some(_) if row.datum(Which::Old, column).is_some() && !same_account => {
            Err(Error::AccountMismatch)
        }
        // SAFETY: the column is of an encrypted type, a varlena
        Some(new) => blob::content(unsafe { varlena_bytes(new) }),
    }
}

/// Fails if the new row's blob is neither the old one, nor one that this session has just made, nor
/// NULL, nor from a role that may put envelopes in.
fn require_own_blob(row: &Row, column: i32) -> Result<()> {
    let Some(new) = row.datum(Which::New, column) else { return Ok(()) };
    // SAFETY: the column is of an encrypted type, a varlena
    let bytes = |datum: Datum| unsafe { varlena_bytes(datum) };
    let new = bytes(new);
    let unchanged = row.datum(Which::Old, column).is_some_and(|old| bytes(old) == new);
    if unchanged || made::contains(new) || accepts_envelopes() {
        return Ok(());
    }
    Err(Error::Gathered)
}

fn blob_alone(row: Row, columns: &Columns) -> Result<Datum> {
    if let Some(column) = columns.blob {
        require_own_blob(&row, column)?;
    }
    Ok(row.into_datum())
}
