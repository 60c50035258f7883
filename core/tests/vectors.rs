//! The published test vectors and the corpus of malformed envelopes, in `data`. A second
//! implementation checks the same files: `verify_vectors.py`.

// a test that fails may panic
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/generate.rs"]
mod generate;
#[path = "common/json.rs"]
mod json;
#[path = "common/reference.rs"]
mod reference;

use std::collections::HashSet;

use fieldcrypt_core::envelope::{Envelope, Flags, PlaintextType, from_text, to_text};
use fieldcrypt_core::error::{FormatError, OpenError, SealError};
use fieldcrypt_core::field::{FieldId, account_tag, check_field_name};
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::{Padding, pad};
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::seal::{FieldKey, Form};
use fieldcrypt_core::suite::{Cipher, Suite};
use fieldcrypt_core::token::{IndexToken, Kind, Scope, TokenKey, equality_section, member_section};
use fieldcrypt_core::wrap::{KeyName, check_value, root_check_value, unwrap};
use serde_json::Value;

use json::{array, bytes, text};

fn secret(object: &Value, key: &str) -> SecretKey {
    SecretKey::from_bytes(&mut bytes(object, key).try_into().unwrap())
}

fn number(object: &Value, key: &str) -> u64 {
    u64::from_be_bytes(bytes(object, key).try_into().unwrap())
}

fn small(object: &Value, key: &str) -> u32 {
    object[key].as_u64().unwrap().try_into().unwrap()
}

fn key_id(object: &Value, key: &str) -> KeyId {
    KeyId::new(number(object, key)).unwrap()
}

fn suite(object: &Value) -> Suite {
    Suite::from_number(small(object, "suite").try_into().unwrap()).unwrap()
}

fn plaintext_type(object: &Value) -> PlaintextType {
    let number = small(object, "plaintext_type");
    PlaintextType::ALL.into_iter().find(|&known| known as u32 == number).unwrap()
}

/// The plaintext: a text, or bytes.
fn plaintext(object: &Value) -> Vec<u8> {
    match plaintext_type(object) {
        PlaintextType::Text | PlaintextType::Json => text(object, "plaintext").as_bytes().to_vec(),
        _ => bytes(object, "plaintext"),
    }
}

fn kind(object: &Value) -> Kind {
    match small(object, "kind") {
        1 => Kind::Exact,
        2 => Kind::Unique,
        other => panic!("kind {other}"),
    }
}

fn scope(object: &Value) -> Scope {
    match small(object, "scope") {
        0 => Scope::Account,
        1 => Scope::Database,
        other => panic!("scope {other}"),
    }
}

fn normalizer(object: &Value) -> Normalizer {
    Normalizer::from_number(small(object, "normalizer").try_into().unwrap()).unwrap()
}

fn purpose(object: &Value) -> Purpose {
    Purpose::from_name(text(object, "purpose")).unwrap()
}

fn key_name(object: &Value) -> KeyName<'_> {
    KeyName {
        account: text(object, "account"),
        purpose: purpose(object),
        version: small(object, "version"),
        id: key_id(object, "key_id"),
    }
}

/// The first `N` bytes, which are all there are, with zeros behind.
fn in_64(key: &[u8]) -> [u8; 64] {
    let mut buffer = [0; 64];
    buffer[..key.len()].copy_from_slice(key);
    buffer
}

#[test]
fn the_files_are_what_the_generator_makes() {
    assert_eq!(json::load("vectors.json"), generate::vectors());
    assert_eq!(json::load("malformed.json"), generate::malformed());
}

#[test]
fn envelopes() {
    let file = json::load("vectors.json");
    let vectors = array(&file, "envelopes");
    let mut names = HashSet::new();
    let mut nonces = HashSet::new();
    for vector in vectors {
        let name = text(vector, "name");
        assert!(names.insert(name), "{name}");
        assert!(nonces.insert(bytes(vector, "nonce")), "{name}");
        envelope(vector, name);
    }
    println!("envelopes of vectors.json: {}", vectors.len());
    assert_eq!(vectors.len(), 361);
}

fn envelope(vector: &Value, name: &str) {
    let account = text(vector, "account");
    let field = vector["field"].as_str();
    let field_id = field.map_or(FieldId::NONE, FieldId::of);
    assert_eq!(field.map_or(Ok(()), check_field_name), Ok(()), "{name}");
    assert_eq!(field_id.0, number(vector, "field_id"), "{name}");
    let (suite, purpose) = (suite(vector), purpose(vector));
    let padding = Padding::from_name(text(vector, "padding")).unwrap();
    let plaintext = &plaintext(vector)[..];
    let plaintext_type = plaintext_type(vector);
    let token_only = vector["token_only"].as_bool().unwrap();
    if token_only {
        assert_eq!(plaintext, b"", "{name}");
    } else {
        let value = Plaintext::new(plaintext_type, plaintext).unwrap();
        assert_eq!(value.as_text(), text(vector, "value"), "{name}");
    }
    let padded_length = padding.padded_length(plaintext.len());
    assert_eq!(padded_length, small(vector, "padded_length") as usize, "{name}");
    let nonce = bytes(vector, "nonce");
    let sections = bytes(vector, "token_sections");
    tokens(vector, name, field_id, &sections);

    // sealing gives the same bytes
    let key_id = key_id(vector, "key_id");
    let key = secret(vector, "key");
    let field_key = FieldKey::derive(&key, key_id, purpose, account, suite, field_id);
    let length = field_key.sealed_length(plaintext.len(), padding, sections.len()).unwrap();
    let mut sealed = vec![0; length];
    let fill = |buffer: &mut [u8]| {
        buffer.copy_from_slice(&nonce);
        Ok(())
    };
    let form = Form { plaintext_type, padding, token_only };
    field_key.seal(plaintext, form, &sections, fill, &mut sealed).unwrap();
    assert_eq!(sealed, bytes(vector, "envelope"), "{name}");
    assert_eq!(to_text(&sealed), text(vector, "text"), "{name}");
    assert_eq!(from_text(text(vector, "text").as_bytes()), Ok(sealed.clone()), "{name}");

    // its parts are where they should be
    let envelope = Envelope::parse(&sealed).unwrap();
    assert_eq!(envelope.header_bytes(), bytes(vector, "header"), "{name}");
    assert_eq!(envelope.token_sections(), sections, "{name}");
    assert_eq!(envelope.nonce(), nonce, "{name}");
    assert_eq!(envelope.ciphertext(), bytes(vector, "ciphertext"), "{name}");
    assert_eq!(envelope.tag(), bytes(vector, "tag"), "{name}");
    let header = envelope.header();
    assert_eq!((header.suite, header.key_id, header.field_id), (suite, key_id, field_id), "{name}");
    assert_eq!(header.plaintext_type, plaintext_type, "{name}");
    assert_eq!(envelope.is_token_only(), token_only, "{name}");
    assert_eq!(header.flags.contains(Flags::PADDED), padding != Padding::None, "{name}");
    assert_eq!(envelope.in_transit(), purpose == Purpose::Transit, "{name}");

    // the intermediate values lead to the same ciphertext, without FieldKey
    let derived = reference::field_key(
        &bytes(vector, "key"),
        purpose.name(),
        suite.number(),
        suite.key_length() as u16,
        field_id.0,
        account,
    );
    assert_eq!(derived, in_64(&bytes(vector, "field_key")), "{name}");
    let associated_data = reference::associated_data(envelope.header_bytes());
    assert_eq!(associated_data, bytes(vector, "associated_data"), "{name}");
    let mut body = plaintext.to_vec();
    body.resize(padded_length, 0);
    pad(&mut body, plaintext.len());
    body.resize(suite.ciphertext_length(padded_length), 0);
    let mut tag = vec![0; suite.tag_length()];
    Cipher::new(suite, &derived)
        .encrypt(&nonce, &associated_data, &mut body, padded_length, &mut tag)
        .unwrap();
    assert_eq!(
        (body.as_slice(), tag.as_slice()),
        (envelope.ciphertext(), envelope.tag()),
        "{name}"
    );

    // and it opens
    let mut opened = vec![0; envelope.ciphertext().len()];
    let length = field_key.open(&envelope, &mut opened).unwrap();
    assert_eq!(&opened[..length], plaintext, "{name}");
}

/// The token of `value`, as the vector says that it is made.
fn token(token: &Value, name: &str, field_id: FieldId, value: &str) -> IndexToken {
    let account = text(token, "account");
    let normalizer = normalizer(token);
    assert_eq!(u32::from(normalizer.version()), small(token, "normalizer_version"), "{name}");
    let normalised = normalised(normalizer, value);
    assert_eq!(normalised.as_deref(), Some(text(token, "normalised")), "{name}");
    let id = key_id(token, "index_key_id");
    assert_eq!(id.account_tag(), u64::from(account_tag(account)), "{name}");
    let token_key =
        reference::field_key(&bytes(token, "index_key"), "index", 1, 32, field_id.0, account);
    assert_eq!(token_key, in_64(&bytes(token, "token_key")), "{name}");
    let key = TokenKey::derive(&secret(token, "index_key"), id, field_id, account);
    let made = key.equality(kind(token), scope(token), normalised.unwrap().as_bytes());
    assert_eq!(made.token.as_slice(), bytes(token, "token"), "{name}");
    made
}

fn normalised(normalizer: Normalizer, text: &str) -> Option<String> {
    normalizer.apply(text, |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn tokens(vector: &Value, name: &str, field_id: FieldId, sections: &[u8]) {
    let mut rest = sections;
    let mut take = |section: &[u8]| {
        let (own, behind) = rest.split_at(section.len());
        assert_eq!(own, section, "{name}");
        rest = behind;
    };
    let envelope = bytes(vector, "envelope");
    let envelope = Envelope::parse(&envelope).unwrap();
    let reserved_groups = bytes(vector, "reserved_groups");
    let mut expected = vec![];
    let tokens = array(vector, "tokens");
    for (place, item) in tokens.iter().enumerate() {
        let made = token(item, name, field_id, text(vector, "value"));
        if place == 0 {
            assert_eq!(envelope.equality_token(), Some(made), "{name}");
        }
        let (kind, scope) = (kind(item), scope(item));
        let mut section = equality_section(&made, kind, normalizer(item), scope).to_vec();
        if place + 1 == tokens.len() {
            // the last section has the groups of reserved kinds in it
            section.extend(&reserved_groups);
            section[1] = (section.len() - 2) as u8;
        }
        take(&section);
        expected.push((made.key_id, normalizer(item), kind, scope, made.token.to_vec()));
    }
    for members in array(vector, "members") {
        let members = members.as_array().unwrap();
        let mut starts = vec![];
        for member in members {
            let field_id = FieldId::of(text(member, "field"));
            let made = token(member, name, field_id, text(member, "value"));
            assert_eq!(kind(member), Kind::Exact, "{name}");
            assert_eq!(made.token[..8], bytes(member, "member_token"), "{name}");
            assert_eq!(key_id(&members[0], "index_key_id"), made.key_id, "{name}");
            assert_eq!(normalizer(member), normalizer(&members[0]), "{name}");
            starts.push(*made.token.first_chunk().unwrap());
            let start = made.token[..8].to_vec();
            expected.push((made.key_id, normalizer(member), Kind::Member, scope(member), start));
        }
        let (first, key_id) = (&members[0], key_id(&members[0], "index_key_id"));
        take(&member_section(key_id, normalizer(first), scope(first), &starts).unwrap());
    }
    let later_sections = bytes(vector, "later_sections");
    assert_eq!(rest, later_sections, "{name}");
    if reserved_groups.is_empty() && later_sections.is_empty() {
        let found: Vec<_> = envelope.tokens().collect();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, (key_id, normalizer, kind, scope, token)) in found.iter().zip(expected) {
            assert_eq!((found.key_id, found.bytes), (key_id, &token[..]), "{name}");
            assert_eq!(found.normalizer, normalizer.number(), "{name}");
            assert!(found.is(kind, scope), "{name}: {found:?}");
        }
        let equality = !tokens.is_empty();
        assert_eq!(envelope.equality_token().is_some(), equality, "{name}");
    }
}

#[test]
fn ids_and_normalised_forms() {
    let file = json::load("vectors.json");
    let (fields, accounts) = (array(&file, "field_ids"), array(&file, "account_tags"));
    for field in fields {
        let id = FieldId::of(text(field, "name"));
        assert_eq!(
            (id.0, id.handle()),
            (number(field, "id"), small(field, "type_modifier") as i32)
        );
    }
    for account in accounts {
        assert_eq!(account_tag(text(account, "account")), small(account, "tag"));
    }
    let forms = array(&file, "normalised");
    for case in forms {
        let normalizer = Normalizer::from_number(small(case, "normalizer") as u8).unwrap();
        let made = normalised(normalizer, text(case, "text"));
        assert_eq!(made.as_deref(), case["normalised"].as_str(), "{case}");
    }
    println!(
        "of vectors.json: {} field ids, {} account tags, {} normalised forms",
        fields.len(),
        accounts.len(),
        forms.len()
    );
    assert_eq!((fields.len(), accounts.len(), forms.len()), (4, 4, 43));
}

#[test]
fn wrapped_keys() {
    let file = json::load("vectors.json");
    let (keys, roots) = (array(&file, "wrapped_keys"), array(&file, "root_keys"));
    for vector in keys {
        let name = key_name(vector);
        let check = check_value(&secret(vector, "key"), &name);
        assert_eq!(check.as_slice(), bytes(vector, "check_value"), "{vector}");
        let wrapped = bytes(vector, "wrapped");
        let key = unwrap(&secret(vector, "wrapping_key"), &name, &wrapped, &check).unwrap();
        // a check value commits to its key: the key that came out is the one of the vector
        assert_eq!(check_value(&key, &name), check, "{vector}");

        let associated_data = reference::lp(&[
            b"fieldcrypt/1/key-wrap",
            &wrapped[..1],
            name.account.as_bytes(),
            name.purpose.name().as_bytes(),
            &name.version.to_be_bytes(),
            &name.id.number().to_be_bytes(),
        ]);
        assert_eq!(associated_data, bytes(vector, "associated_data"), "{vector}");
        let (mut body, mut tag) = (bytes(vector, "key"), [0; 16]);
        Cipher::new(Suite::Aes256Gcm, &in_64(&bytes(vector, "wrapping_key")))
            .encrypt(&bytes(vector, "nonce"), &associated_data, &mut body, 32, &mut tag)
            .unwrap();
        assert_eq!(wrapped, [&[1], &*bytes(vector, "nonce"), &body, &tag].concat(), "{vector}");
    }
    for root in roots {
        let check = root_check_value(&secret(root, "key"));
        assert_eq!(check.as_slice(), bytes(root, "check_value"), "{root}");
    }
    println!("of vectors.json: {} wrapped keys, {} root keys", keys.len(), roots.len());
    assert_eq!((keys.len(), roots.len()), (9, 2));
}

/// Why bytes are no envelope.
fn refusal(bytes: &[u8]) -> Option<FormatError> {
    Envelope::parse(bytes).err()
}

#[test]
fn malformed_envelopes() {
    let file = json::load("malformed.json");
    let cases = array(&file, "malformed");
    let mut names = HashSet::new();
    let mut contents = HashSet::new();
    let (mut binary, mut texts) = (0, 0);
    for case in cases {
        let name = text(case, "name");
        assert!(names.insert(name), "{name} stands twice");
        let error = if case["hex"].is_string() {
            binary += 1;
            let bytes = bytes(case, "hex");
            assert!(
                contents.insert(("hex", text(case, "hex"))),
                "{name}: the same bytes stand twice"
            );
            // in the text form it is refused for the same reason
            assert_eq!(from_text(to_text(&bytes).as_bytes()), Ok(bytes.clone()), "{name}");
            refusal(&bytes)
        } else {
            texts += 1;
            let text = text(case, "text");
            assert!(contents.insert(("text", text)), "{name}: the same text stands twice");
            from_text(text.as_bytes()).map_or_else(Some, |bytes| refusal(&bytes))
        };
        let error = error.unwrap_or_else(|| panic!("{name} is taken for an envelope"));
        assert_eq!(format!("{error:?}"), text(case, "error"), "{name}");
    }
    println!("malformed envelopes: {} ({binary} binary, {texts} text)", cases.len());
    assert_eq!((binary, texts), (281, 95));
}

/// The key with which a case of `malformed.json` is to be opened.
fn opening_key(case: &Value) -> FieldKey {
    FieldKey::derive(
        &secret(case, "key"),
        key_id(case, "key_id"),
        purpose(case),
        text(case, "account"),
        suite(case),
        FieldId::of(text(case, "field")),
    )
}

#[test]
fn envelopes_that_are_not_authentic() {
    let file = json::load("malformed.json");
    let cases = array(&file, "not_authentic");
    let mut contents = HashSet::new();
    for case in cases {
        let name = text(case, "name");
        let bytes = bytes(case, "hex");
        let envelope = Envelope::parse(&bytes).unwrap();
        let mut out = vec![0xA5; envelope.ciphertext().len()];
        assert_eq!(opening_key(case).open(&envelope, &mut out), Err(OpenError), "{name}");
        assert!(out.iter().all(|&byte| byte == 0), "{name} leaves something behind");
        assert_eq!(text(case, "error"), "OpenError", "{name}");
        assert!(contents.insert(bytes.clone()), "{name}: the same bytes stand twice");
    }
    println!("envelopes that are not authentic: {}", cases.len());
    assert_eq!(cases.len(), 173);
}

/// Sealing does not write what reading refuses.
#[test]
fn malformed_token_sections_are_not_sealed() {
    let file = json::load("malformed.json");
    let mut sections: Vec<_> = array(&file, "malformed")
        .iter()
        .filter(|case| text(case, "error") == "Tokens")
        .map(|case| {
            let envelope = bytes(case, "hex");
            let length = usize::from(u16::from_be_bytes([envelope[21], envelope[22]]));
            envelope[23..23 + length].to_vec()
        })
        .collect();
    sections.sort();
    sections.dedup();
    for sections in &sections {
        for suite in Suite::ALL {
            let mut key = [0x5A; 32];
            let field_key = FieldKey::derive(
                &SecretKey::from_bytes(&mut key),
                KeyId::new(77).unwrap(),
                Purpose::Data,
                "acme",
                suite,
                FieldId::of("lead.ssn"),
            );
            let length = field_key.sealed_length(5, Padding::None, sections.len()).unwrap();
            let mut out = vec![0xA5; length];
            let nonce = |_: &mut [u8]| panic!("a nonce is spent on it");
            let result = field_key.seal(b"value", Padding::None, sections, nonce, &mut out);
            assert_eq!(result, Err(SealError::Malformed), "{sections:?}");
            assert_eq!(out, vec![0xA5; length]);
        }
    }
    println!("malformed token sections that are not sealed: {}", sections.len());
    assert_eq!(sections.len(), 166);
}

/// Authentic, and opened to bytes; as a value of their type they are refused.
#[test]
fn envelopes_of_what_is_not_canonical() {
    let file = json::load("malformed.json");
    let mut by_type = [0; 10];
    let mut contents = HashSet::new();
    for case in array(&file, "not_text").iter().chain(array(&file, "not_canonical")) {
        let name = text(case, "name");
        let bytes = bytes(case, "hex");
        assert!(contents.insert(bytes.clone()), "{name}: the same bytes stand twice");
        let envelope = Envelope::parse(&bytes).unwrap();
        let plaintext_type = envelope.header().plaintext_type;
        by_type[plaintext_type as usize] += 1;
        let mut out = vec![0xA5; envelope.ciphertext().len()];
        let length = opening_key(case).open(&envelope, &mut out).unwrap();
        assert!(Plaintext::new(plaintext_type, &out[..length]).is_none(), "{name}");
        assert_eq!(text(case, "error"), "OpenError", "{name}");
    }
    println!("envelopes of what is not canonical: {}", by_type.iter().sum::<u32>());
    assert_eq!(by_type, [0, 18, 0, 12, 12, 69, 12, 12, 30, 12]);
}

#[test]
fn malformed_wrapped_keys() {
    let file = json::load("malformed.json");
    let cases = array(&file, "wrapped_keys");
    for case in cases {
        let wrapping_key = secret(case, "wrapping_key");
        let (wrapped, check) = (bytes(case, "wrapped"), bytes(case, "check_value"));
        let error = unwrap(&wrapping_key, &key_name(case), &wrapped, &check).unwrap_err();
        assert_eq!(format!("{error:?}"), text(case, "error"), "{}", case["name"]);
    }
    println!("malformed wrapped keys: {}", cases.len());
    assert_eq!(cases.len(), 25);
}
