//! The row trigger of `protect_jsonb`: it runs first, and seals the flagged values of a document
//! before anything else sees the row.

use std::borrow::Cow;

use fieldcrypt_document::jsonb::Container;
use fieldcrypt_document::rewrite::merge;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use super::Row;
use super::row::Which;
use crate::call::{Answer, Call, NewVarlena, varlena_bytes};
use crate::catalog::objects::Objects;
use crate::datatype::input::accepts_envelopes;
use crate::document::seal::Context;
use crate::document::{blob, check, made, policy, seal};
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
        let blob = match blob.is_empty() {
            true => None,
            false => Some(row.column_of(blob, Objects::get()?.encrypted_jsonb)?),
        };
        Ok::<_, Error>(Columns {
            document: row.column_of(column, pg_sys::JSONBOID)?,
            account: row.column(account)?,
            kind: if kind.is_empty() { None } else { Some(row.column(kind)?) },
            blob,
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

/// The numbers of the columns. Those of the document and the blob are of varlena types.
#[derive(Clone, Copy)]
struct Columns {
    document: i32,
    account: i32,
    kind: Option<i32>,
    blob: Option<i32>,
}

/// The bytes of a document or blob.
fn bytes(row: &Row, which: Which, column: i32) -> Option<&[u8]> {
    // SAFETY: jsonb and the encrypted types are varlenas, and live as long as the row
    row.datum(which, column).map(|datum| unsafe { varlena_bytes(datum) })
}

fn seal_row(mut row: Row, name: &str, columns: &Columns) -> Result<Datum> {
    made::next_row();
    let Some(new) = bytes(&row, Which::New, columns.document) else {
        return blob_alone(row, columns);
    };
    let kind = match columns.kind {
        Some(kind) => row.text(Which::New, kind)?.map(Cow::into_owned),
        None => None,
    };
    let account = row.text(Which::New, columns.account)?.map(Cow::into_owned);
    let Some(account) = account else { return Err(Error::RowWithoutAccount) };
    let policy = policy::of(name, &account, kind.as_deref())?;
    let same_account = row.text(Which::Old, columns.account)?.as_deref() == Some(&*account);
    let may_move = row.is_update() && row.is_in_partition();
    let old = bytes(&row, Which::Old, columns.document);
    let new = Container::new(new)?;
    let context = |old| Context {
        document: name,
        policy: &policy,
        account: &account,
        old,
        same_account,
        may_move,
    };
    let Some(blob_column) = columns.blob else {
        let old = old.map(Container::new).transpose()?;
        match seal::document(&context(old), new)? {
            Some(mut sealed) => {
                check::approve(&policy, &sealed);
                row.set(columns.document, Some(NewVarlena::of(&sealed)));
                // nothing to wipe, which takes longer than everything else here
                sealed.clear();
            }
            None => check::approve(&policy, new.as_bytes()),
        }
        return Ok(row.into_datum());
    };

    let in_blob = |error| Error::At {
        place: format!("blob column of document \"{name}\""),
        error: Box::new(error),
    };
    let content = new_content(&row, blob_column, same_account).map_err(in_blob)?;
    let before = match bytes(&row, Which::Old, blob_column) {
        Some(old_blob) => {
            let empty = blob::empty()?;
            let old = Container::new(old.unwrap_or(&empty))?;
            Some(merge(old, Container::new(&blob::content(old_blob)?)?)?)
        }
        None => old.map(|old| Zeroizing::new(old.to_vec())),
    };
    let mut gathered = Vec::new();
    let old = before.as_deref().map(|old| Container::new(old)).transpose()?;
    let emptied = row.is_update() && made::is_emptied(new.as_bytes());
    let rest = seal::gather(&context(old), new, &mut gathered)?;
    if emptied && rest.is_none() && is_unchanged(&row, blob_column) {
        // EXCLUDED.data, without EXCLUDED.blob: its values would be lost
        return Err(in_blob(Error::Gathered));
    }
    if let Some(rest) = rest {
        if !row.is_update() {
            made::remember_emptied(&rest);
        }
        row.set(columns.document, Some(NewVarlena::of(&rest)));
    }
    if gathered.is_empty() {
        return Ok(row.into_datum());
    }
    let changed = blob::put(&content, gathered)?;
    if changed != content {
        let handle = row.typmod(blob_column);
        let sealed = blob::seal(&changed, handle, &account)?;
        row.set(blob_column, sealed);
        if let Some(sealed) = bytes(&row, Which::New, blob_column) {
            made::remember(sealed);
        }
    }
    Ok(row.into_datum())
}

/// What the blob of the new row holds before the document's values are put in.
fn new_content(row: &Row, column: i32, same_account: bool) -> Result<Zeroizing<Vec<u8>>> {
    require_own_blob(row, column)?;
    let (old, new) = (bytes(row, Which::Old, column), bytes(row, Which::New, column));
    match new {
        None => blob::empty(),
        Some(_) if old.is_some() && !same_account => Err(Error::AccountMismatch),
        Some(new) => blob::content(new),
    }
}

/// Fails if the new row's blob is neither the old one, nor one that this session has just made, nor
/// NULL, nor from a role that may put envelopes in.
fn require_own_blob(row: &Row, column: i32) -> Result<()> {
    let Some(new) = bytes(row, Which::New, column) else { return Ok(()) };
    if !is_unchanged(row, column) && !made::contains(new) && !accepts_envelopes() {
        return Err(Error::Gathered);
    }
    if row.is_update() && row.is_in_partition() {
        made::remember(new);
    }
    Ok(())
}

/// Whether the blob is the old row's.
fn is_unchanged(row: &Row, column: i32) -> bool {
    let old = bytes(row, Which::Old, column);
    old.is_some() && old == bytes(row, Which::New, column)
}

fn blob_alone(row: Row, columns: &Columns) -> Result<Datum> {
    if let Some(column) = columns.blob {
        require_own_blob(&row, column)?;
    }
    Ok(row.into_datum())
}
