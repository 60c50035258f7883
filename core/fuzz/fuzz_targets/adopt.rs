//! No value of other software, whatever it is, does harm; an authenticated one opens by no chance.
#![no_main]

use fieldcrypt_core::adopt::{Derivation, Foreign, ForeignKey, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, [u8; 32], &[u8])| {
    let (number, key, value) = input;
    let Some(format) = Format::ALL.get(usize::from(number)).copied() else { return };
    let Ok(key) = ForeignKey::derive(&key, &Derivation::Sha256) else { return };
    let foreign = Foreign {
        value,
        associated_data: (format == Format::Tink).then_some(b"data"),
        iv: (format == Format::PgcryptoEncryptIv).then_some(&[0; 16]),
    };
    let opened = format.open(&key, &foreign);
    assert!(opened.is_err() || !format.is_authenticated());
    let _ = format.open_text(&key, &foreign);
});
