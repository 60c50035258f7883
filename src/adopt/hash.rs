//! Whether an adopted value is the one of which other software has kept a keyed hash.

use fieldcrypt_core::adopt::Hash;
use pgrx::pg_extern;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::access::Privilege;
use crate::access::roles::{ADMIN, require_role};
use crate::call::{Answer, Call};
use crate::error::Error;
use crate::keyring::foreign::with_key;
use crate::value;

/// `adopt_check_hash(hash text, format, key, value encrypted_text, prefix text) → boolean`
#[pg_extern(sql = false)]
fn adopt_check_hash(fcinfo: pg_sys::FunctionCallInfo) -> std::result::Result<Answer, ErrorReport> {
    let call = Call::new(fcinfo);
    require_role(ADMIN, "adopt_check_hash")?;
    let form = Hash::from_name(&call.required_text(1, "the format")?).ok_or_else(|| {
        let names = Hash::ALL.map(Hash::name).join(", ");
        Error::InvalidArgument { name: "format", hint: format!("It is one of: {names}.") }
    })?;
    let name = call.required_text(2, "the key")?;
    let prefix = call.required_text(4, "the prefix")?;
    if call.is_null(0) || call.is_null(3) {
        return Ok(Answer::NULL);
    }
    let envelope = value::stored(call.bytes(3))?;
    let key = value::key_of(&envelope)?;
    // it tells whether two values are equal
    key.require(Privilege::Search)?;
    let name = super::name_of_key(&name, &key.account);
    let opened = value::open(&key, &envelope)?;
    let value = opened.plaintext()?.bytes();
    let hash = call.bytes(0);
    let is = with_key(&name, &key.account, |key| form.is_of(hash, key, prefix.as_bytes(), value))?;
    Ok(is.into())
}
