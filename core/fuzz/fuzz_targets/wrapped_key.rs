//! A wrapped key unwraps only if its tag verifies, which no fuzzer makes it do.
#![no_main]

use fieldcrypt_core::error::UnwrapError;
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::wrap::{KeyName, WRAPPED_LENGTH, unwrap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(id) = KeyId::new(1) else { return };
    let name = KeyName { account: "acme", purpose: Purpose::Data, version: 1, id };
    let wrapping_key = SecretKey::from_bytes(&mut [0x5A; 32]);
    let well_formed = bytes.len() == WRAPPED_LENGTH && bytes[0] == 1;
    let expected = if well_formed { UnwrapError::Tag } else { UnwrapError::Malformed };
    assert_eq!(unwrap(&wrapping_key, &name, bytes, &[0; 32]).err(), Some(expected));
});
