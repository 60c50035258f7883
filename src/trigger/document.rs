//! The row trigger of `protect_jsonb`: it runs first, and seals the flagged values of a document
//! before anything else sees the row.

use std::borrow::Cow;

use fieldcrypt_core::envelope::{PlaintextType, is_reserved_text};
use fieldcrypt_document::jsonb::{Container, strings};
use fieldcrypt_document::rewrite::merge;
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum};
use zeroize::Zeroizing;

use super::Row;
use super::row::Which;
use crate::call::{Answer, Call, NewVarlena, varlena_bytes};
use crate::catalog::family::Family;
use crate::datatype::input::accepts_envelopes;
use crate::document::blob::{Becomes, in_blob, require_account};
use crate::document::seal::Context;
use crate::document::{blob, check, json, made, moved, policy, seal};
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
            false => Some(row.column_of(blob, Family::get()?.oid_of(PlaintextType::Json))?),
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
    let arrived = moved::take(name).filter(|_| !row.is_update()).unwrap_or_default();
    if let Some(blob) = columns.blob {
        require_own_blob(&row, blob, &arrived).map_err(|error| in_blob(name, error))?;
    }
    match bytes(&row, Which::New, columns.document) {
        Some(_) => seal_values(&mut row, name, columns, &arrived)?,
        None => hold_blob(&row, name, columns)?,
    }
    if row.is_update() && row.is_in_partition() {
        moved::remember(name, may_move(&row, columns)?);
    }
    Ok(row.into_datum())
}

/// The row with its envelopes, for the partition to which it may move.
fn may_move(row: &Row, columns: &Columns) -> Result<moved::Row> {
    let mut envelopes = Vec::new();
    if let Some(document) = bytes(row, Which::New, columns.document) {
        strings(Container::new(document)?, |text| {
            if is_reserved_text(text) {
                envelopes.push(text.to_vec());
            }
            Ok::<_, Error>(())
        })?;
    }
    let blob = columns.blob.and_then(|blob| bytes(row, Which::New, blob));
    envelopes.extend(blob.map(<[u8]>::to_vec));
    let (table, place) = row.place();
    Ok(moved::Row { table, place, envelopes })
}

fn seal_values(row: &mut Row, name: &str, columns: &Columns, arrived: &[Vec<u8>]) -> Result<()> {
    let Some(new) = bytes(row, Which::New, columns.document) else { return Ok(()) };
    let kind = match columns.kind {
        Some(kind) => row.text(Which::New, kind)?.map(Cow::into_owned),
        None => None,
    };
    let account = row.text(Which::New, columns.account)?.map(Cow::into_owned);
    let Some(account) = account else { return Err(Error::RowWithoutAccount) };
    let policy = policy::of(name, &account, kind.as_deref())?;
    let same_account = row.text(Which::Old, columns.account)?.as_deref() == Some(&*account);
    let old = bytes(row, Which::Old, columns.document);
    let new = Container::new(new)?;
    let context = |old| Context {
        document: name,
        policy: &policy,
        account: &account,
        old,
        same_account,
        arrived,
        is_stored: false,
    };
    let Some(blob_column) = columns.blob else {
        let old = old.map(Container::new).transpose()?;
        match seal::document(&context(old), new)? {
            Some(sealed) => {
                check::approve(&policy, &sealed);
                row.set(columns.document, Some(json::rewritten(sealed)));
            }
            None => check::approve(&policy, new.as_bytes()),
        }
        return Ok(());
    };

    let new_blob = bytes(row, Which::New, blob_column);
    let old_blob = bytes(row, Which::Old, blob_column);
    if let Some(blob) = new_blob {
        require_account(blob, &account).map_err(|error| in_blob(name, error))?;
    }
    let before = match old_blob.map(blob::content) {
        Some(Ok(content)) => {
            let empty = blob::empty()?;
            let old = Container::new(old.unwrap_or(&empty))?;
            Some(merge(old, Container::new(&content)?)?)
        }
        // where changes of other nodes are applied, their keys need not be
        Some(Err(error)) if !accepts_envelopes() => return Err(in_blob(name, error)),
        _ => old.map(|old| Zeroizing::new(old.to_vec())),
    };
    let old = before.as_deref().map(|old| Container::new(old)).transpose()?;
    let emptied = row.is_update() && made::is_emptied(new.as_bytes());
    let mut gathered = Vec::new();
    let rest = seal::gather(&context(old), new, &mut gathered)?;
    if emptied && rest.is_none() && old_blob.is_some() && old_blob == new_blob {
        // EXCLUDED.data, without EXCLUDED.blob: its values would be lost
        return Err(in_blob(name, Error::Gathered));
    }
    let blob = blob::gather(name, new_blob, gathered, row.typmod(blob_column), &account)?;
    if let Some(rest) = rest {
        if !row.is_update() {
            made::remember_emptied(&rest);
        }
        row.set(columns.document, Some(NewVarlena::of(&rest)));
    }
    if let Becomes::Other(sealed) = blob {
        row.set(blob_column, sealed);
        if let Some(sealed) = bytes(row, Which::New, blob_column) {
            made::remember(sealed);
        }
    }
    Ok(())
}

/// Fails if the blob of a row without a document is of another account than the row.
fn hold_blob(row: &Row, name: &str, columns: &Columns) -> Result<()> {
    let Some(blob) = columns.blob.and_then(|blob| bytes(row, Which::New, blob)) else {
        return Ok(());
    };
    match row.text(Which::New, columns.account)? {
        Some(account) => require_account(blob, &account).map_err(|error| in_blob(name, error)),
        None => Err(Error::RowWithoutAccount),
    }
}

/// Fails if the new row's blob is neither the old one, nor one that this session has just made or
/// moved, nor NULL, nor from a role that may put envelopes in.
fn require_own_blob(row: &Row, column: i32, arrived: &[Vec<u8>]) -> Result<()> {
    let Some(new) = bytes(row, Which::New, column) else { return Ok(()) };
    let unchanged = bytes(row, Which::Old, column) == Some(new);
    let arrived = arrived.iter().any(|arrived| arrived == new);
    if unchanged || arrived || made::contains(new) || accepts_envelopes() {
        return Ok(());
    }
    Err(Error::Gathered)
}
