//! What the parser takes for an envelope is whole: its parts are its bytes.
#![no_main]

use fieldcrypt_core::envelope::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    // a token that `=` looks at is one of all tokens
    let equality = envelope.equality_token();
    assert!(equality.is_none_or(|first| {
        envelope.tokens().any(|token| token.key_id == first.key_id && token.bytes == first.token)
    }));
    let mut header = vec![0; envelope.header_bytes().len()];
    assert!(envelope.header().write(envelope.token_sections(), &mut header).is_some());
    let parts = [&header, envelope.nonce(), envelope.ciphertext(), envelope.tag()];
    assert_eq!(parts.concat(), bytes);
});
