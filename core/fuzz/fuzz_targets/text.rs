//! One envelope has one text form.
#![no_main]

use fieldcrypt_core::envelope::{Envelope, from_text, is_reserved_text, to_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let reserved = is_reserved_text(text);
    if let Ok(bytes) = from_text(text) {
        assert!(reserved);
        assert_eq!(to_text(&bytes).as_bytes(), text);
        let _ = Envelope::parse(&bytes);
    }
});
