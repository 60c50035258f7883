//! An envelope opens only if its tag verifies, which no fuzzer makes it do, and a failure leaves
//! nothing behind.
#![no_main]

use fieldcrypt_core::envelope::Envelope;
use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::key::{Purpose, SecretKey};
use fieldcrypt_core::seal::FieldKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    let header = envelope.header();
    let purpose = if envelope.in_transit() { Purpose::Transit } else { Purpose::Data };
    let key = SecretKey::from_bytes(&mut [0x5A; 32]);
    let key = FieldKey::derive(&key, header.key_id, purpose, "acme", header.suite, header.field_id);
    let mut out = vec![0xA5; envelope.ciphertext().len()];
    assert_eq!(key.open(&envelope, &mut out), Err(OpenError));
    assert!(out.iter().all(|&byte| byte == 0));
});
