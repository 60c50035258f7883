use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn cases(file: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    file["cases"].as_array().unwrap().clone()
}

/// The values that other software has encrypted, and those that must not open.
fn fixtures() -> Vec<Value> {
    let files = [
        include_str!("../../tests/interop/node.json"),
        include_str!("../../tests/interop/py.json"),
        include_str!("../../tests/interop/pgcrypto.json"),
        include_str!("../../tests/interop/gnupg.json"),
    ];
    files.iter().flat_map(|file| cases(file)).collect()
}

/// The format by which a fixture is read; `None` of a keyed hash.
fn format_of(name: &str) -> Option<Format> {
    let name = name.strip_suffix(":iv12").or(name.strip_suffix(":iv16")).unwrap_or(name);
    Some(match name {
        "node_gcm:iv:tag:ct:hex" => Format::GcmIvTagCiphertextHex,
        "node_gcm:iv:tag:ct:base64" => Format::GcmIvTagCiphertextBase64,
        "node_gcm:iv:ct:tag:hex" => Format::GcmIvCiphertextTagHex,
        "node_gcm:enc:v1:base64url" => Format::GcmEncV1,
        "node_gcm:json:hex" => Format::GcmJsonHex,
        "gcm_b64:nonce||ct||tag" | "lerian:v1:b64(nonce||ct||tag)" => Format::GcmBase64,
        "lerian:v4:tink:v1" => Format::Tink,
        "node_cbc:iv:ct:hex" => Format::CbcIvCiphertextHex,
        "php_openssl:b64(iv||ct)" => Format::CbcBase64,
        "php_openssl:b64(b64ct::iv)" => Format::CbcBase64Colons,
        "laravel:aes-256-cbc:encryptString" | "laravel:aes-256-gcm:encryptString" => {
            Format::Laravel
        }
        "laravel:aes-256-cbc:encrypt(serialized)" => Format::LaravelSerialized,
        "rails:ar_encryption:sha256" | "rails:ar_encryption:envelope:sha256" => Format::Rails,
        "fernet:0x80" => Format::Fernet,
        "pgcrypto:encrypt:aes-cbc-zero-iv" => Format::PgcryptoEncrypt,
        "pgcrypto:encrypt_iv:aes-cbc" => Format::PgcryptoEncryptIv,
        "pgcrypto:pgp_sym:default" | "pgcrypto:pgp_sym:aes256" | "pgcrypto:pgp_sym:armored" => {
            Format::PgpSymmetric
        }
        name if name.starts_with("gnupg:symmetric:") => Format::PgpSymmetric,
        _ => return None,
    })
}

fn hex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text).unwrap()
}

/// The key of a fixture, as the keyring would make it.
fn key_of(case: &Value, format: Format) -> ForeignKey {
    if let Some(key) = case["effective_key_hex"].as_str() {
        return ForeignKey::derive(&hex(key), &Derivation::None).unwrap();
    }
    if let Some(key) = case["key"]["primary_key"].as_str() {
        let salt = case["key"]["salt"].as_str().unwrap().to_owned();
        let iterations = case["key"]["iterations"].as_u64().unwrap() as u32;
        let derivation = Derivation::Pbkdf2Sha256 { salt, iterations };
        return ForeignKey::derive(key.as_bytes(), &derivation).unwrap();
    }
    let key = case["key_hex"].as_str().or(case["key"].as_str()).unwrap();
    let bytes = match format {
        Format::PgpSymmetric => key.as_bytes().to_vec(),
        Format::Fernet => Encoding::Base64Url.decode(key.as_bytes()).unwrap(),
        Format::Laravel | Format::LaravelSerialized => {
            Encoding::Base64.decode(&key.as_bytes()["base64:".len()..]).unwrap()
        }
        _ => hex(key),
    };
    ForeignKey::derive(&bytes, &Derivation::None).unwrap()
}

fn open(case: &Value, format: Format, key: &ForeignKey, value: &[u8]) -> Result<Vec<u8>> {
    let iv = (format == Format::PgcryptoEncryptIv).then(|| hex("101112131415161718191a1b1c1d1e1f"));
    let foreign = Foreign {
        value,
        associated_data: case["aad"].as_str().map(str::as_bytes),
        iv: iv.as_deref(),
    };
    format.open(key, &foreign).map(|opened| opened.to_vec())
}

fn value_of(case: &Value, format: Format) -> Vec<u8> {
    let value = case["value"].as_str().unwrap();
    match format {
        Format::PgcryptoEncrypt | Format::PgcryptoEncryptIv | Format::PgpSymmetric => hex(value),
        _ => value.as_bytes().to_vec(),
    }
}

/// The key of every fixture of a passphrase is the same: it is made once.
fn with_fixtures(mut check: impl FnMut(&Value, Format, &ForeignKey)) {
    let mut last: Option<(String, ForeignKey)> = None;
    for case in fixtures() {
        let Some(format) = format_of(case["format"].as_str().unwrap()) else { continue };
        let name = format!("{format:?} {} {}", case["key"], case["effective_key_hex"]);
        if last.as_ref().is_none_or(|(of, _)| *of != name || case["key_hex"].is_string()) {
            last = Some((name, key_of(&case, format)));
        }
        check(&case, format, &last.as_ref().unwrap().1);
    }
}

#[test]
fn fixtures_behave_as_they_say() {
    let mut counts = [0; 2];
    with_fixtures(|case, format, key| {
        let opened = open(case, format, key, &value_of(case, format));
        match case["expect"].as_str().unwrap() {
            "ok" => {
                let plaintext = case["plaintext"].as_str().unwrap();
                assert_eq!(opened.unwrap(), plaintext.as_bytes(), "{case}");
                counts[0] += 1;
            }
            "not_encrypted" => assert_eq!(opened, Err(AdoptError::NotEncrypted), "{case}"),
            "error" => {
                assert!(opened.is_err(), "{case}");
                counts[1] += 1;
            }
            "error_or_garbage" => assert_ne!(opened.ok().as_deref(), Some(&b"123-45-6789"[..])),
            other => panic!("{other}"),
        }
    });
    assert_eq!(counts, [145, 13]);
}

#[test]
fn a_wrong_key_is_one_error_and_what_is_altered_opens_as_nothing_else() {
    let wrong = ForeignKey::derive(&[0x5A; 32], &Derivation::Sha256).unwrap();
    let (mut wrong_keys, mut altered) = (0, 0);
    with_fixtures(|case, format, key| {
        if case["expect"] != "ok" {
            return;
        }
        let value = value_of(case, format);
        if format.is_authenticated() {
            assert_eq!(open(case, format, &wrong, &value), Err(AdoptError::Failed), "{case}");
            wrong_keys += 1;
        }
        if format.is_authenticated() && value.len() < 400 {
            let plaintext = case["plaintext"].as_str().unwrap();
            for at in 0..value.len() {
                let mut value = value.clone();
                // another character of every alphabet
                value[at] = if value[at] == b'4' { b'5' } else { b'4' };
                let opened = open(case, format, key, &value);
                // what is not authenticated in its form has to give the value all the same
                assert!(opened.is_err() || opened.as_deref() == Ok(plaintext.as_bytes()), "{case}");
                altered += 1;
            }
        }
    });
    assert_eq!((wrong_keys, altered), (106, 10840));
}

#[test]
fn threat_a7_a_wrong_padding_is_the_same_error_as_a_wrong_key() {
    let key = ForeignKey::derive(&[7; 32], &Derivation::Sha256).unwrap();
    let mut outcomes = Vec::new();
    for last in 0..=u8::MAX {
        let mut value = [0x42; 48];
        value[31] = last;
        let text = base16ct::lower::encode_string(&value[16..]);
        let text = format!("{}:{text}", base16ct::lower::encode_string(&value[..16]));
        let foreign = Foreign { value: text.as_bytes(), ..Foreign::default() };
        outcomes.push(Format::CbcIvCiphertextHex.open(&key, &foreign).map(|_| ()));
    }
    // one of 256 has a sound padding
    assert!(outcomes.contains(&Err(AdoptError::Failed)));
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(AdoptError::Failed))));
}

#[test]
fn keys_of_another_length_are_told() {
    for format in Format::ALL {
        let key = ForeignKey::derive(&[3; 33], &Derivation::None).unwrap();
        let any_length = [
            Format::CbcBase64,
            Format::CbcBase64Colons,
            Format::CbcHmacBase64,
            Format::PgcryptoEncrypt,
            Format::PgcryptoEncryptIv,
            Format::PgpSymmetric,
        ];
        if any_length.contains(&format) {
            continue;
        }
        with_fixtures_of(format, |case, value| {
            assert_eq!(open(case, format, &key, value), Err(AdoptError::KeyLength), "{case}");
        });
    }
}

fn with_fixtures_of(format: Format, mut check: impl FnMut(&Value, &[u8])) {
    for case in fixtures() {
        let is_of = format_of(case["format"].as_str().unwrap()) == Some(format);
        if is_of && case["expect"] == "ok" {
            check(&case, &value_of(&case, format));
        }
    }
}

#[test]
fn associated_data_and_iv_are_asked_for() {
    let key = ForeignKey::derive(&[3; 32], &Derivation::None).unwrap();
    let plain = Foreign { value: b"x", ..Foreign::default() };
    let with_data = Foreign { associated_data: Some(b"x"), ..plain };
    let with_iv = Foreign { iv: Some(b"x"), ..plain };
    assert_eq!(Format::Tink.open(&key, &plain).err(), Some(AdoptError::AssociatedData));
    assert_eq!(Format::Fernet.open(&key, &with_data).err(), Some(AdoptError::AssociatedData));
    assert_eq!(Format::Fernet.open(&key, &with_iv).err(), Some(AdoptError::Iv));
    assert_eq!(Format::PgcryptoEncryptIv.open(&key, &plain).err(), Some(AdoptError::Iv));
    assert_eq!(Format::GcmBase64.open(&key, &with_data).err(), Some(AdoptError::NotEncrypted));
}

#[test]
fn what_is_not_text_is_a_wrong_key_where_nothing_else_tells() {
    let key = ForeignKey::derive(&[9; 32], &Derivation::None).unwrap();
    let open = |plaintext: &[u8]| {
        use aes::cipher::{BlockModeEncrypt, KeyIvInit};
        use cbc::cipher::block_padding::Pkcs7;
        let mut buffer = [0; 64];
        buffer[..plaintext.len()].copy_from_slice(plaintext);
        let sealed = cbc::Encryptor::<aes::Aes256>::new_from_slices(&[9; 32], &[0; 16]).unwrap();
        let sealed = sealed.encrypt_padded::<Pkcs7>(&mut buffer, plaintext.len()).unwrap();
        let foreign = Foreign { value: sealed, ..Foreign::default() };
        Format::PgcryptoEncrypt.open_text(&key, &foreign).map(|text| text.to_string())
    };
    assert_eq!(open("Zoë\tÑandú\r\n".as_bytes()).unwrap(), "Zoë\tÑandú\r\n");
    assert_eq!(open(b"\x01"), Err(AdoptError::Failed));
    assert_eq!(open(b"\xff\xfe"), Err(AdoptError::Failed));
}

#[test]
fn tink_opens_what_names_its_key_and_what_does_not() {
    use aes_gcm::aead::{AeadInOut, KeyInit};
    let key = ForeignKey::derive(&[9; 32], &Derivation::None).unwrap();
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&[9; 32]).unwrap();
    // a nonce that begins as the prefix does, and one that does not
    for nonce in [[1; 12], [0xA5; 12]] {
        let mut sealed = *b"123-45-6789";
        let buffer = sealed.as_mut_slice().into();
        let tag = cipher.encrypt_inout_detached(&nonce.into(), b"record:7", buffer).unwrap();
        let raw: Vec<u8> = [&nonce[..], &sealed, &tag].concat();
        let named: Vec<u8> = [&[1, 0, 0, 0, 7][..], &raw].concat();
        for bytes in [raw, named] {
            let value = ["tink:v1:", &base64_url(&bytes)].concat();
            let open = |data: &[u8]| {
                let associated_data = Some(data);
                let foreign = Foreign { value: value.as_bytes(), associated_data, iv: None };
                Format::Tink.open(&key, &foreign).map(|opened| opened.to_vec())
            };
            assert_eq!(open(b"record:7").as_deref(), Ok(&b"123-45-6789"[..]));
            assert_eq!(open(b"record:8"), Err(AdoptError::Failed));
        }
    }
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE.encode(bytes)
}

#[test]
fn a_bomb_is_not_decompressed() {
    let mut bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; inflate::LONGEST + 1], 6);
    assert!(bomb.len() < 200_000);
    let inflated = inflate::inflate(&bomb, inflate::Wrapper::None);
    assert_eq!(inflated.err(), Some(AdoptError::TooLong));
    bomb.truncate(1000);
    assert_eq!(inflate::inflate(&bomb, inflate::Wrapper::None).err(), Some(AdoptError::Malformed));
}

#[test]
fn derivations_are_those_of_their_standards() {
    let derive = |secret: &[u8], derivation| {
        let key = ForeignKey::derive(secret, &derivation).unwrap();
        base16ct::lower::encode_string(key.as_bytes())
    };
    // RFC 6070 has outputs of 20 bytes: the first 20 of these
    let one = Derivation::Pbkdf2Sha1 { salt: "salt".into(), iterations: 4096 };
    assert!(derive(b"password", one).starts_with("4b007901b765489abead49d926f721d065a429c1"),);
    // RFC 7914 section 11
    let two = Derivation::Pbkdf2Sha256 { salt: "salt".into(), iterations: 1 };
    assert!(derive(b"passwd", two).starts_with("55ac046e56e3089fec1691c22544b605"));
    // RFC 7914 section 12
    let three = Derivation::Scrypt { salt: "SodiumChloride".into() };
    assert!(derive(b"pleaseletmein", three).starts_with("7023bdcb3afd7348461c06cd81fd38eb"));
    // FIPS 180-4
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(derive(b"abc", Derivation::Sha256), digest);
    assert_eq!(
        derive(b"abc", Derivation::Sha256Hex),
        base16ct::lower::encode_string(digest.as_bytes())
    );
    // RFC 5869 test case 3 has neither salt nor info
    let five = Derivation::HkdfSha256 { salt: String::new(), info: String::new() };
    assert!(derive(&[0x0b; 22], five).starts_with("8da4e775a563c18f715f802a063c5a31"));
    let too_much = Derivation::Pbkdf2Sha256 { salt: String::new(), iterations: 10_000_001 };
    assert!(ForeignKey::derive(b"x", &too_much).is_err());
    assert!(ForeignKey::derive(b"", &Derivation::None).is_err());
    assert!(ForeignKey::derive(&[1; 1025], &Derivation::None).is_err());
}

#[test]
fn hashes_are_those_of_their_values() {
    let mut count = 0;
    for case in fixtures() {
        let text = |name: &str| case[name].as_str().unwrap_or_default().as_bytes();
        let (form, key) = match case["format"].as_str().unwrap() {
            "hmac_sha256_hex" => (Hash::HmacSha256Hex, hex(case["key_hex"].as_str().unwrap())),
            "lerian:v1:hash" | "pgcrypto:hmac-sha256" => {
                (Hash::HmacSha256Hex, text("key").to_vec())
            }
            "lerian:v4:search_token" => {
                (Hash::HmacSha256Base64Url, hex(case["key"].as_str().unwrap()))
            }
            _ => continue,
        };
        let key = ForeignKey::derive(&key, &Derivation::None).unwrap();
        let (hash, value) = (text("value"), text("plaintext"));
        let prefix: &[u8] = match form {
            Hash::HmacSha256Base64Url => b"tenant:default:org:0190:field:document:",
            _ => b"",
        };
        assert!(form.is_of(hash, &key, prefix, value), "{case}");
        assert!(!form.is_of(hash, &key, b"x", value));
        assert!(!form.is_of(&hash[1..], &key, prefix, value));
        count += 1;
    }
    assert_eq!(count, 26);
}

#[test]
fn names_are_different_and_found() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    for hash in Hash::ALL {
        assert_eq!(Hash::from_name(hash.name()), Some(hash));
    }
}

/// Text that comes closer to a format than random bytes do.
fn resembling() -> impl Strategy<Value = Vec<u8>> {
    let starts = prop::sample::select(vec![
        &b""[..],
        b"enc:v1:",
        b"vault:v1:",
        b"tink:v1:",
        b"gAAAAA",
        b"{\"p\":\"",
        b"{\"iv\":\"",
        b"-----BEGIN PGP MESSAGE-----\n\n",
        b"\xc3\x0d\x04\x07\x03\x02",
        b"\xd2\x80\x01",
        b"eyJpdiI6",
    ]);
    (starts, vec(any::<u8>(), 0..200), "[0-9a-fA-F:+/=\"{},\n-]{0,200}").prop_map(
        |(start, bytes, text)| [start, &bytes[..bytes.len() / 2], text.as_bytes()].concat(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn threat_a12_no_input_panics(
        value in prop_oneof![vec(any::<u8>(), 0..300), resembling()],
        key in vec(any::<u8>(), 1..40),
        iv in vec(any::<u8>(), 0..20),
    ) {
        let key = ForeignKey::derive(&key, &Derivation::None).unwrap();
        for format in Format::ALL {
            let foreign = Foreign {
                value: &value,
                associated_data: (format == Format::Tink).then_some(&iv),
                iv: (format == Format::PgcryptoEncryptIv).then_some(&iv),
            };
            let opened = format.open(&key, &foreign);
            prop_assert!(opened.is_err() || !format.is_authenticated());
            let _ = format.open_text(&key, &foreign);
        }
    }

    #[test]
    fn no_change_of_a_fixture_panics(index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
            byte in any::<u8>(), cut in any::<bool>()) {
        let cases = fixtures();
        let case = &cases[index.index(cases.len())];
        if let Some(format) = format_of(case["format"].as_str().unwrap()) && format != Format::Rails {
            let mut value = value_of(case, format);
            if !value.is_empty() {
                let at = at.index(value.len());
                value[at] = byte;
                if cut {
                    value.truncate(at);
                }
            }
            let _ = open(case, format, &key_of(case, format), &value);
        }
    }
}
