//! Token sections of every form, in an envelope that is otherwise well formed: what reading refuses
//! is not sealed, and the other way round.
#![no_main]

use fieldcrypt_core::envelope::{Envelope, FIXED_HEADER_LENGTH, Flags, Header, PlaintextType};
use fieldcrypt_core::error::{FormatError, SealError};
use fieldcrypt_core::field::FieldId;
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::padding::Padding;
use fieldcrypt_core::seal::FieldKey;
use fieldcrypt_core::suite::Suite;
use fieldcrypt_core::token::{equality_token, tokens};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|sections: &[u8]| {
    // whatever they are, before any check
    let found = equality_token(sections);
    let all: Vec<_> = tokens(sections).collect();
    assert!(all.iter().map(|token| token.bytes.len()).sum::<usize>() <= sections.len());
    let Some(key_id) = KeyId::new(1) else { return };
    let header = Header {
        suite: Suite::Aes256Gcm,
        plaintext_type: PlaintextType::Text,
        flags: Flags::default(),
        key_id,
        field_id: FieldId(1),
    };
    let mut bytes = vec![0; FIXED_HEADER_LENGTH + sections.len() + 12 + 16];
    if header.write(sections, &mut bytes).is_none() {
        return;
    }
    let key = SecretKey::from_bytes(&mut [0x5A; 32]);
    let key = FieldKey::derive(&key, key_id, Purpose::Data, "acme", header.suite, header.field_id);
    let nonce = |nonce: &mut [u8]| {
        nonce.fill(0);
        Ok(())
    };
    let mut out = vec![0; bytes.len()];
    let sealed = key.seal(b"", Padding::None, sections, nonce, &mut out);
    match Envelope::parse(&bytes) {
        Ok(envelope) => {
            assert_eq!(sealed, Ok(()));
            assert!(
                Envelope::parse(&out).is_ok_and(|written| key.open(&written, &mut []) == Ok(0))
            );
            assert_eq!(envelope.token_sections(), sections);
            assert_eq!(envelope.equality_token(), found);
            assert!(envelope.tokens().eq(all));
            if let Some(token) = found {
                assert!(sections.windows(16).any(|window| window == token.token));
            }
        }
        Err(error) => {
            assert_eq!((error, sealed), (FormatError::Tokens, Err(SealError::Malformed)));
        }
    }
});
