//! How many values a key has sealed under `aes-256-gcm`, whose random 96-bit nonces allow 2^32 per
//! key (NIST SP 800-38D section 8.3).
//!
//! The count is a sample: one value in 65,536 adds a row that stands for all of them. So sessions
//! of any length count alike, and no two wait for each other. Its error is about 0.6 % at 2^31.

use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::key::KeyId;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use crate::catalog::scan::{self, Equals};
use crate::catalog::tables::Tables;
use crate::catalog::write;
use crate::error::Result;

/// Values that one row of the ledger stands for.
const SAMPLE: i64 = 1 << 16;
/// Most values under one key.
pub const LIMIT: i64 = 1 << 32;
/// From here on each sample warns.
pub const WARN: i64 = 1 << 31;

/// Whether the value whose nonce begins with these random bytes is counted.
pub fn is_sampled(random: [u8; 2]) -> bool {
    random == [0; 2]
}

/// Counts one sample, and warns where the limit is near.
pub fn record(key: KeyId, field: FieldId) -> Result<()> {
    // SAFETY: these return variables
    let may_write = unsafe {
        !pg_sys::XactReadOnly && !pg_sys::RecoveryInProgress() && !pg_sys::IsInParallelMode()
    };
    if may_write {
        write::run(
            "INSERT INTO fieldcrypt.key_use (key_id, field_id, sealed) VALUES ($1, $2, $3)",
            &[key.number().cast_signed().into(), field.0.cast_signed().into(), SAMPLE.into()],
        )?;
    }
    if sealed(key, field)? >= WARN {
        let message = format!("key {} is near its limit of 2^32 values", key.number());
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "fieldcrypt")
            .set_hint(
                "SELECT fieldcrypt.rotate_account_key(...) makes a new one. \
                 alter_field(..., suite => 'xaes-256-gcm') has no such limit.",
            )
            .report(PgLogLevel::WARNING);
    }
    Ok(())
}

/// About how many values a key has sealed.
fn sealed(key: KeyId, field: FieldId) -> Result<i64> {
    let mut sum = 0;
    let matching =
        [Equals::Bigint(1, key.number().cast_signed()), Equals::Bigint(2, field.0.cast_signed())];
    scan::rows(Tables::get()?.key_use, &matching, |row| {
        sum += row.bigint(3)?;
        Ok(())
    })?;
    Ok(sum)
}

/// Whether a key has sealed as many values as it may.
pub fn is_exhausted(key: KeyId, field: FieldId) -> Result<bool> {
    Ok(sealed(key, field)? >= LIMIT)
}
