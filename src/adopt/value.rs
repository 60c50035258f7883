//! One value.

use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::{Adoption, DONE, Places};
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call};
use crate::catalog::field::By;
use crate::datatype::declared;
use crate::keyring::sealer::Sealer;
use crate::value::{self, with_account};

type Answered = std::result::Result<Answer, ErrorReport>;

const PLACES: Places =
    Places { format: 1, key: 2, previous_keys: 5, associated_data: 6, iv: Some(7) };

/// `adopt(value, format, key, field, account, previous_keys, associated_data, iv) → encrypted_text`,
/// and of the same arguments `adopt_bytea → encrypted_bytea`, `adopt_bigint → encrypted_bigint` and
/// so on; the value is text or bytea.
#[pg_extern(sql = false)]
fn adopt(fcinfo: pg_sys::FunctionCallInfo) -> Answered {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt")?;
    let field = call.required_text(3, "the field")?;
    if call.is_null(0) {
        return Ok(Answer::NULL);
    }
    let plaintext_type = declared::plaintext_type(&call)?;
    let sealed = with_account(&call, 4, |account| {
        let adoption = Adoption::of(&call, &PLACES, account)?;
        // the right comes first: whether a value opens is not for everyone
        Sealer::to_encrypt(By::Name(&field), account)?;
        let read = adoption.read(call.bytes(0), &field, plaintext_type);
        let (canonical, key) = adoption.noted(&field, read)?;
        let sealed = value::seal(canonical.plaintext()?, By::Name(&field), account)?;
        adoption.note(DONE, &field, key)?;
        Ok(sealed)
    })?;
    Ok(Answer::datum(sealed))
}
