//! `doctor()`: what it finds is found by SQL (`sql/doctor.sql`). Here is whose rights that has.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Spi, pg_extern, pg_sys};

use crate::access::roles::{ADMIN, AUDITOR, KEY_ADMIN, has_role};
use crate::call::{Answer, Call, Rows};
use crate::catalog::tables::Tables;
use crate::catalog::write::{Restriction, as_owner_of};
use crate::error::{Error, Result};

type Answered = std::result::Result<Answer, ErrorReport>;

const FINDINGS: &str =
    "SELECT f.severity, f.subject, f.finding, f.remedy FROM fieldcrypt.findings($1) AS f";

/// `doctor(sample integer) → SETOF finding`: as the owner of the extension, since settings, role
/// members and keys are not for everyone to see.
#[pg_extern(sql = false)]
fn doctor(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    if ![AUDITOR, ADMIN, KEY_ADMIN].into_iter().any(has_role) {
        return Err(Error::Role("fieldcrypt_auditor").into());
    }
    let sample = (!call.is_null(0)).then(|| call.int(0));
    if sample.is_some_and(|rows| rows < 0) {
        let hint = "It is a number of rows for each table, or NULL for all.".to_owned();
        return Err(Error::InvalidArgument { name: "sample", hint }.into());
    }
    let rows = Rows::of(fcinfo);
    let table = Tables::get()?.account.table;
    let found = as_owner_of(table, Restriction::None, || {
        Spi::connect(|client| {
            client.select(FINDINGS, None, &[sample.into()]).map(|_table| rows.push_queried())
        })
    })?;
    found.map_err(|_| Error::Catalog("statement failed"))?;
    Ok(Answer::NULL)
}

/// `count_as_owner(relation regclass, query text) → bigint[]`: the one value of a query about the
/// rows of a table, with the rights of the table's owner: what he has put into its indexes must
/// not run with more.
#[pg_extern(sql = false)]
fn count_as_owner(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    // SAFETY: looks at the current user
    if !unsafe { pg_sys::superuser() } {
        return Err(Error::Superuser.into());
    }
    let relation = pg_sys::Oid::from(call.datum(0).value() as u32);
    let counts = as_owner_of(relation, Restriction::Operation, || counts(&call, 1))??;
    Ok(Answer::datum(counts))
}

/// Runs the query that is an argument.
fn counts(call: &Call, index: usize) -> Result<pg_sys::Datum> {
    Spi::connect(|_| {
        let mut is_null = false;
        // SAFETY: the argument is a text, copied with a NUL behind it. What SPI has read lives until
        // SPI is left; the value is copied to the memory context of the caller
        unsafe {
            let query = pg_sys::text_to_cstring(call.datum(index).cast_mut_ptr());
            let result = pg_sys::SPI_execute(query, true, 1);
            let table = pg_sys::SPI_tuptable.as_ref().filter(|table| table.numvals == 1);
            let table = table.filter(|_| result == pg_sys::SPI_OK_SELECT as i32);
            let table = table.ok_or(Error::Catalog("no counts"))?;
            let value = pg_sys::SPI_getbinval(*table.vals, table.tupdesc, 1, &mut is_null);
            Ok(pg_sys::SPI_datumTransfer(value, false, -1))
        }
    })
}
