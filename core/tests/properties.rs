//! What must hold for every value, key and envelope, and the threats that the core alone answers
//! (`threat_…`). Counted loops are exhaustive; the others draw their cases at random.

// a test that fails may panic
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/reference.rs"]
mod reference;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use fieldcrypt_core::envelope::{
    Envelope, FIXED_HEADER_LENGTH, Flags, Header, MAXIMUM_HEADER_LENGTH, MAXIMUM_LENGTH,
    PlaintextType, from_text, is_reserved_text, to_text,
};
use fieldcrypt_core::error::{FormatError, OpenError, SealError, UnwrapError};
use fieldcrypt_core::field::{FieldId, account_tag};
use fieldcrypt_core::framing::{self, HmacSha256, Label, frame};
use fieldcrypt_core::key::{KeyId, Purpose, SecretKey};
use fieldcrypt_core::mask::{HIDDEN, LONGEST_TEXT, MOST_SHOWN, Mask, looks_masked};
use fieldcrypt_core::normalize::Normalizer;
use fieldcrypt_core::padding::{Padding, pad, unpadded_length};
use fieldcrypt_core::plaintext::Plaintext;
use fieldcrypt_core::random::{self, NoncePool};
use fieldcrypt_core::seal::{FieldKey, Form};
use fieldcrypt_core::suite::{Cipher, Suite};
use fieldcrypt_core::token::{
    IndexToken, Kind, MEMBER_TOKEN_LENGTH, Scope, StoredToken, TokenKey, equality_section,
    equality_token, is_of_policy, member_section, tokens,
};
use fieldcrypt_core::wrap::{KeyName, check_value, root_check_value, unwrap, verify, wrap};
use hmac::{Hmac, Mac};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use sha2::{Digest, Sha256};
use unicode_segmentation::UnicodeSegmentation;

/// Runs `test` on that many random values.
fn for_all<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

const ACCOUNT: &str = "acme";
const KEY: [u8; 32] = [0x5A; 32];

fn secret(mut bytes: [u8; 32]) -> SecretKey {
    SecretKey::from_bytes(&mut bytes)
}

fn id(number: u64) -> KeyId {
    KeyId::new(number).unwrap()
}

/// The key of the field `lead.ssn` under [`KEY`].
fn field_key(suite: Suite) -> FieldKey {
    derive(KEY, 77, ACCOUNT, suite, FieldId::of("lead.ssn"))
}

fn derive(key: [u8; 32], key_id: u64, account: &str, suite: Suite, field_id: FieldId) -> FieldKey {
    FieldKey::derive(&secret(key), id(key_id), Purpose::Data, account, suite, field_id)
}

fn seal(key: &FieldKey, plaintext: &[u8], form: impl Into<Form>, sections: &[u8]) -> Vec<u8> {
    let form = form.into();
    let length = key.sealed_length(plaintext.len(), form.padding, sections.len()).unwrap();
    let mut envelope = vec![0xA5; length];
    key.seal(plaintext, form, sections, random::fill, &mut envelope).unwrap();
    envelope
}

const PLAINTEXT_TYPES: [PlaintextType; 9] = PlaintextType::ALL;

/// Only the tokens are kept.
fn token_only(plaintext_type: PlaintextType) -> Form {
    Form { plaintext_type, padding: Padding::None, token_only: true }
}

/// The plaintext; `None` if it is no envelope or does not open.
fn open(key: &FieldKey, envelope: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::parse(envelope).ok()?;
    let mut out = vec![0; envelope.ciphertext().len()];
    let length = key.open(&envelope, &mut out).ok()?;
    out.truncate(length);
    Some(out)
}

/// That many sections with one token each.
fn sections(count: u64) -> Vec<u8> {
    let section = |number| {
        let key_id = id(u64::from(account_tag(ACCOUNT)) << 32 | number);
        let key = TokenKey::derive(&secret([7; 32]), key_id, FieldId::of("lead.ssn"), ACCOUNT);
        let token = key.equality(Kind::Exact, Scope::Account, b"123456789");
        equality_section(&token, Kind::Exact, Normalizer::Digits, Scope::Account)
    };
    (1..=count).flat_map(section).collect()
}

/// A token of every kind that is made, each in a section of its own; of one kind twice, for the
/// account and the database.
fn mixed_sections() -> [Vec<u8>; 4] {
    let key_id = |account, number| id(u64::from(account_tag(account)) << 32 | number);
    let equality = |account, kind, scope| {
        let key_id = key_id(account, 1);
        let key = TokenKey::derive(&secret([7; 32]), key_id, FieldId::of("lead.ssn"), account);
        let token = key.equality(kind, scope, b"123456789");
        equality_section(&token, kind, Normalizer::Digits, scope).to_vec()
    };
    let members = [[1; MEMBER_TOKEN_LENGTH], [2; 8], [3; 8]];
    [
        equality(ACCOUNT, Kind::Unique, Scope::Account),
        equality("*database*", Kind::Unique, Scope::Database),
        equality(ACCOUNT, Kind::Exact, Scope::Account),
        member_section(key_id(ACCOUNT, 2), Normalizer::None, Scope::Account, &members).unwrap(),
    ]
}

fn suites() -> impl Strategy<Value = Suite> {
    select(Suite::ALL.to_vec())
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Sections, a policy's search, normalizer and scope, and whether they are of it.
type OfPolicy<'a> = (&'a [u8], Option<Kind>, Normalizer, Scope, bool);

#[test]
fn sections_of_a_policy() {
    let [unique, unique_in_database, exact, members] = mixed_sections();
    let both = [unique.clone(), unique_in_database.clone()].concat();
    let (digits, none) = (Normalizer::Digits, Normalizer::None);
    let (account, database) = (Scope::Account, Scope::Database);
    let (is_exact, is_unique) = (Some(Kind::Exact), Some(Kind::Unique));
    let cases: &[OfPolicy<'_>] = &[
        (&[], None, digits, account, true),
        (&exact, None, digits, account, false),
        (&[], is_exact, digits, account, false),
        (&exact, is_exact, digits, account, true),
        (&exact, is_exact, none, account, false),
        (&exact, is_unique, digits, account, false),
        (&unique, is_unique, digits, account, true),
        (&unique, is_unique, digits, database, false),
        (&both, is_unique, digits, database, true),
        (&both, is_unique, digits, account, false),
        (&unique_in_database, is_unique, digits, database, false),
        (&members, is_exact, none, account, false),
        (&[exact.clone(), unique.clone()].concat(), is_exact, digits, account, false),
        // of two index keys
        (&sections(2), is_exact, digits, account, true),
    ];
    for (i, (sections, kind, normalizer, scope, expected)) in cases.iter().enumerate() {
        assert_eq!(is_of_policy(sections, *kind, *normalizer, *scope), *expected, "case {i}");
    }
    let mut later = exact.clone();
    later[11] += 1;
    assert!(!is_of_policy(&later, is_exact, digits, account), "another version");
}

#[test]
fn padded_lengths() {
    for padding in Padding::ALL {
        for length in 0..3000 {
            assert!(padding.is_padded_length(padding.padded_length(length)), "{padding:?}");
        }
        let lengths = (0..3000).filter(|length| padding.is_padded_length(*length)).count();
        let made: BTreeSet<_> = (0..3000).map(|length| padding.padded_length(length)).collect();
        assert_eq!(lengths, made.range(..3000).count(), "{padding:?}");
    }
}

// what is sealed opens

#[test]
fn what_is_sealed_opens() {
    let count = Cell::new(0);
    let values = (
        vec(any::<u8>(), 0..3072),
        any::<[u8; 32]>(),
        1..u64::MAX >> 1,
        "\\PC{1,40}",
        "[a-z][a-z0-9_]{0,20}",
    );
    for_all(2_000, values, |(plaintext, key, key_id, account, field)| {
        let field_id = FieldId::of(&field);
        for suite in Suite::ALL {
            let key = derive(key, key_id, &account, suite, field_id);
            for padding in Padding::ALL {
                for sections in [sections(0), sections(1)] {
                    round_trip(&key, &plaintext, padding, &sections, id(key_id));
                    count.set(count.get() + 1);
                }
            }
        }
    });
    println!("round trips: {}", count.get());
    assert_eq!(count.get(), 72_000);
}

fn round_trip(key: &FieldKey, plaintext: &[u8], padding: Padding, sections: &[u8], key_id: KeyId) {
    let sealed = seal(key, plaintext, padding, sections);
    let envelope = Envelope::parse(&sealed).unwrap();
    let header = *envelope.header();
    assert_eq!((header.suite, header.key_id), (key.suite(), key_id));
    assert_eq!(header.field_id, key.field_id());
    assert_eq!(header.plaintext_type, PlaintextType::Text);
    assert_eq!(header.flags.contains(Flags::PADDED), padding != Padding::None);
    assert!(!envelope.in_transit());
    assert_eq!(envelope.token_sections(), sections);
    assert_eq!(envelope.equality_token().is_some(), !sections.is_empty());
    let parts = [envelope.header_bytes(), envelope.nonce(), envelope.ciphertext(), envelope.tag()];
    assert_eq!(parts.concat(), sealed);
    let padded = padding.padded_length(plaintext.len());
    assert_eq!(envelope.ciphertext().len(), key.suite().ciphertext_length(padded));
    assert_eq!(open(key, &sealed).as_deref(), Some(plaintext));
    let text = to_text(&sealed);
    assert!(is_reserved_text(text.as_bytes()));
    assert_eq!(from_text(text.as_bytes()), Ok(sealed));
}

#[test]
fn values_of_every_type_open() {
    let mut opened = 0;
    for suite in Suite::ALL {
        let key = field_key(suite);
        for plaintext_type in PLAINTEXT_TYPES {
            for padding in Padding::ALL {
                for sections in mixed_sections() {
                    for length in 0..=80 {
                        let plaintext = &[b'1'; 80][..length];
                        let form = Form { plaintext_type, padding, token_only: false };
                        let sealed = seal(&key, plaintext, form, &sections);
                        let envelope = Envelope::parse(&sealed).unwrap();
                        assert_eq!(envelope.header().plaintext_type, plaintext_type);
                        assert!(!envelope.is_token_only());
                        assert_eq!(open(&key, &sealed).as_deref(), Some(plaintext));
                        // the type goes into the tag
                        let mut other = sealed;
                        other[3] = other[3] % 9 + 1;
                        assert!(Envelope::parse(&other).is_ok());
                        assert_eq!(open(&key, &other), None);
                        opened += 1;
                    }
                }
            }
        }
    }
    println!("values of every type: {opened}");
    assert_eq!(opened, 3 * 9 * 6 * 4 * 81);
    // a padding alone is the form of a text
    let form = Form::from(Padding::To64);
    assert_eq!((form.plaintext_type, form.padding), (PlaintextType::Text, Padding::To64));
    assert!(!form.token_only);
}

// the types of plaintexts

/// Bytes of a length that some type has, or nearly; and texts.
fn any_plaintext() -> impl Strategy<Value = Vec<u8>> {
    let lengths = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 40_usize];
    prop_oneof![
        2 => select(lengths.to_vec()).prop_flat_map(|length| vec(any::<u8>(), length)),
        1 => vec(0..3_u8, 1),
        1 => "\\PC{0,16}".prop_map(String::into_bytes),
        1 => "-?[0-9]{1,20}(\\.[0-9]{1,9})?".prop_map(String::into_bytes),
        1 => "[-+ ]{0,2}0{0,2}[0-9]{0,2}(\\.[0-9]{0,2}){0,2}(e1| )?".prop_map(String::into_bytes),
        1 => "-?(NaN|Infinity|infinity|nan)".prop_map(String::into_bytes),
    ]
}

/// Whether PostgreSQL prints a numeric like that.
fn is_numeric(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let mut parts = text.strip_prefix('-').unwrap_or(text).split('.');
    let whole = parts.next().unwrap_or_default();
    let number = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && parts.next().is_none_or(digits)
        && parts.next().is_none();
    number || ["NaN", "Infinity", "-Infinity"].contains(&text)
}

/// Bytes that are a value of the type.
fn canonical(plaintext_type: PlaintextType) -> impl Strategy<Value = Vec<u8>> {
    any_plaintext().prop_map(move |mut bytes| {
        if let Some(length) = plaintext_type.length() {
            bytes.resize(length, 0);
        }
        match plaintext_type {
            PlaintextType::Boolean => bytes[0] &= 1,
            PlaintextType::Numeric if !is_numeric(&bytes) => bytes = b"0.50".to_vec(),
            PlaintextType::Text | PlaintextType::Json => {
                bytes = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
            }
            _ => {}
        }
        bytes
    })
}

fn text_of(plaintext_type: PlaintextType, bytes: &[u8]) -> String {
    let plaintext = Plaintext::new(plaintext_type, bytes).unwrap();
    let text = plaintext.as_text().into_owned();
    assert!(plaintext.with_text(|handed| handed == text));
    text
}

#[test]
fn only_canonical_bytes_are_a_value() {
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let count = |plaintext_type: PlaintextType, bytes: &[u8]| {
        let sound = match plaintext_type as u8 {
            1 | 3 => String::from_utf8(bytes.to_vec()).is_ok(),
            2 => true,
            5 => is_numeric(bytes),
            8 => matches!(bytes, [0 | 1]),
            4 | 7 => bytes.len() == 8,
            6 => bytes.len() == 4,
            _ => bytes.len() == 16,
        };
        let value = Plaintext::new(plaintext_type, bytes);
        assert_eq!(value.is_some(), sound, "{plaintext_type:?} {bytes:?}");
        let counter = if sound { &taken } else { &refused };
        counter.set(counter.get() + 1);
        if let Some(value) = value {
            assert_eq!((value.plaintext_type(), value.bytes()), (plaintext_type, bytes));
        }
    };
    for plaintext_type in PLAINTEXT_TYPES {
        for length in 0..=64 {
            count(plaintext_type, &vec![0; length]);
            count(plaintext_type, &vec![0xFF; length]);
        }
        for byte in 0..=255 {
            count(plaintext_type, &[byte]);
        }
    }
    for_all(50_000, any_plaintext(), |bytes| {
        for plaintext_type in PLAINTEXT_TYPES {
            count(plaintext_type, &bytes);
        }
    });
    println!("values of a type: {}, refused: {}", taken.get(), refused.get());
    assert_eq!(taken.get() + refused.get(), 9 * (2 * 65 + 256 + 50_000));
    for (text, plaintext_type) in [("é", PlaintextType::Text), ("[\"é\"]", PlaintextType::Json)] {
        let value = Plaintext::new(plaintext_type, text.as_bytes()).unwrap();
        let made = if text == "é" { Plaintext::text(text) } else { Plaintext::json(text) };
        assert!(value == made);
    }
}

/// The day after another, by the rules that children learn.
fn next_day((year, month, day): (i64, u32, u32)) -> (i64, u32, u32) {
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    match (month, day) {
        (12, 31) => (year + 1, 1, 1),
        (_, day) if day == length => (year, month + 1, 1),
        _ => (year, month, day + 1),
    }
}

/// Year 0 is 1 BC.
fn date_text((year, month, day): (i64, u32, u32)) -> String {
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{:04}-{month:02}-{day:02} BC", 1 - year)
    }
}

fn text_of_date(days: i32) -> String {
    text_of(PlaintextType::Date, &days.to_be_bytes())
}

#[test]
fn dates_are_those_of_the_calendar() {
    // from the first day that PostgreSQL knows
    let mut date = (-4713, 11, 24);
    let mut of_cycle = vec![];
    for days in -2_451_545..1_200_000 {
        assert_eq!(text_of_date(days), date_text(date), "{days}");
        if (0..146_097).contains(&days) {
            of_cycle.push(date);
        }
        date = next_day(date);
    }
    // 400 years are 146,097 days
    for_all(50_000, any::<i32>(), |days| {
        let (cycles, rest) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let (year, month, day) = of_cycle[rest as usize];
        let expected = match days {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            _ => date_text((year + 400 * i64::from(cycles), month, day)),
        };
        assert_eq!(text_of_date(days), expected, "{days}");
    });
}

#[test]
fn times_are_a_date_and_a_clock() {
    const DAY: i64 = 86_400_000_000;
    let text = |microseconds: i64| text_of(PlaintextType::Timestamptz, &microseconds.to_be_bytes());
    assert_eq!((text(i64::MAX), text(i64::MIN)), ("infinity".into(), "-infinity".into()));
    let clock = (0..24_i64, 0..60_i64, 0..60_i64, 0..1_000_000_i64);
    // what fits into 64 bits
    for_all(100_000, (-106_751_991..106_751_991_i32, clock), |(day, (h, m, s, fraction))| {
        let of_day = ((h * 60 + m) * 60 + s) * 1_000_000 + fraction;
        let date = text_of_date(day);
        let (date, era) = date.split_once(' ').map_or((&date[..], ""), |parts| (parts.0, " BC"));
        let expected = format!("{date} {h:02}:{m:02}:{s:02}.{fraction:06}+00{era}");
        assert_eq!(text(i64::from(day) * DAY + of_day), expected);
    });
}

#[test]
fn texts_of_the_other_types() {
    let values = (any::<i64>(), any::<u128>(), vec(any::<u8>(), 0..40), "(?s).{0,24}");
    for_all(50_000, values, |(number, uuid, bytes, text)| {
        let decimal = text_of(PlaintextType::Bigint, &number.to_be_bytes());
        assert_eq!(decimal.parse(), Ok(number));
        let shortest = !decimal.trim_start_matches('-').starts_with('0') || decimal == "0";
        assert!(shortest && !decimal.starts_with('+'), "{decimal}");
        let hexadecimal = format!("{uuid:032x}");
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &hexadecimal[group]);
        let uuid = text_of(PlaintextType::Uuid, &uuid.to_be_bytes());
        assert_eq!(uuid, groups.join("-"));
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text_of(PlaintextType::Bytea, &bytes), format!("\\x{digits}"));
        assert_eq!(text_of(PlaintextType::Text, text.as_bytes()), text);
        assert_eq!(text_of(PlaintextType::Json, text.as_bytes()), text);
        let numeric = format!("{number}.{:03}", bytes.len());
        assert_eq!(text_of(PlaintextType::Numeric, numeric.as_bytes()), numeric);
    });
    assert_eq!(text_of(PlaintextType::Boolean, &[0]), "false");
    assert_eq!(text_of(PlaintextType::Boolean, &[1]), "true");
}

/// An envelope's length does not tell a value of a type of a fixed size.
#[test]
fn threat_length_of_a_fixed_size_type() {
    for plaintext_type in PLAINTEXT_TYPES {
        let Some(size) = plaintext_type.length() else { continue };
        for suite in Suite::ALL {
            let key = field_key(suite);
            for padding in Padding::ALL {
                let form = Form { plaintext_type, padding, token_only: false };
                let expected = key.sealed_length(size, padding, 0).unwrap();
                for_all(50, canonical(plaintext_type), |bytes| {
                    Plaintext::new(plaintext_type, &bytes).unwrap();
                    let sealed = seal(&key, &bytes, form, &[]);
                    assert_eq!(sealed.len(), expected);
                    assert_eq!(open(&key, &sealed), Some(bytes));
                });
            }
        }
    }
}

/// What stands in place of a value is one of its type, and tells no more than the mask says.
#[test]
fn masks_of_a_type_are_values_of_it() {
    for plaintext_type in PLAINTEXT_TYPES {
        for_all(5_000, canonical(plaintext_type), |bytes| {
            let value = Plaintext::new(plaintext_type, &bytes).unwrap();
            for mask in &each_mask() {
                let Some(masked) = value.masked(mask) else {
                    continue;
                };
                let text = text_of(plaintext_type, &masked);
                match (plaintext_type, mask) {
                    (PlaintextType::Text, _) => {
                        assert_eq!(Some(text), mask.apply(&value.as_text()));
                    }
                    (PlaintextType::Json, _) => {
                        let json = value.as_text();
                        let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                        let text_of_string = value.json_string();
                        let shown = match &text_of_string {
                            Some(string) => mask.apply(string),
                            None => mask.apply(&json).filter(|_| is_number),
                        };
                        assert_eq!(text, shown.as_deref().unwrap_or(HIDDEN));
                    }
                    (PlaintextType::Bigint | PlaintextType::Numeric, Mask::Zero) => {
                        assert_eq!(text, "0");
                    }
                    (
                        PlaintextType::Date | PlaintextType::Timestamptz,
                        Mask::Year | Mask::Month,
                    ) => {
                        let whole = value.as_text();
                        let mut parts = whole.split('-');
                        let year = parts.next().unwrap();
                        let month = parts.next().filter(|_| *mask == Mask::Month).unwrap_or("01");
                        let clock = if plaintext_type == PlaintextType::Date {
                            ""
                        } else {
                            " 00:00:00.000000+00"
                        };
                        let era = if whole.ends_with(" BC") { " BC" } else { "" };
                        assert_eq!(text, format!("{year}-{month}-01{clock}{era}"));
                    }
                    other => panic!("{other:?} shows something"),
                }
            }
        });
    }
}

#[test]
fn json_strings_are_masked_as_their_texts() {
    for_all(100_000, (any_text(), mask_form()), |(text, form)| {
        let json = serde_json::to_string(&text).unwrap();
        let value = Plaintext::json(&json);
        assert_eq!(value.json_string().as_deref(), Some(&text), "{json}");
        let mask = Mask::parse(&form).unwrap();
        assert_eq!(value.masked(&mask), Plaintext::text(&text).masked(&mask), "{form} {json}");
        assert_eq!(Plaintext::text(&json).json_string(), None);
        // what is no string of PostgreSQL's
        let _ = Plaintext::json(&text).json_string();
        let _ = Plaintext::json(&format!("\"{text}\"")).json_string();
    });
}

// only tokens are kept

#[test]
fn of_a_token_only_value_nothing_is_kept() {
    let count = Cell::new(0);
    let values = (any::<[u8; 32]>(), 1..u64::MAX >> 1, "\\PC{1,40}", 0..16_u8);
    for_all(500, values, |(key, key_id, account, chosen)| {
        let sections: Vec<u8> = (0..4)
            .zip(mixed_sections())
            .filter(|(place, _)| chosen >> place & 1 == 1)
            .flat_map(|(_, section)| section)
            .collect();
        for suite in Suite::ALL {
            for plaintext_type in PLAINTEXT_TYPES {
                let key = derive(key, key_id, &account, suite, FieldId::of("lead.ssn"));
                let sealed = seal(&key, b"", token_only(plaintext_type), &sections);
                let envelope = Envelope::parse(&sealed).unwrap();
                assert!(envelope.is_token_only() && !envelope.in_transit());
                assert!(!envelope.header().flags.contains(Flags::PADDED));
                assert_eq!((sealed[3], sealed[4]), (plaintext_type as u8, 0x08));
                assert_eq!(envelope.header().plaintext_type, plaintext_type);
                assert_eq!(envelope.token_sections(), sections);
                assert_eq!(envelope.ciphertext().len(), suite.ciphertext_length(0));
                assert_eq!(open(&key, &sealed).as_deref(), Some(&b""[..]));
                assert_eq!(from_text(to_text(&sealed).as_bytes()).as_ref(), Ok(&sealed));
                // it cannot become an empty value, nor that a token-only one
                let kept = seal(&key, b"", Padding::None, &sections);
                for mut other in [sealed, kept] {
                    other[4] ^= 0x08;
                    assert!(Envelope::parse(&other).is_ok());
                    assert_eq!(open(&key, &other), None);
                }
                count.set(count.get() + 1);
            }
        }
    });
    println!("token-only round trips: {}", count.get());
    assert_eq!(count.get(), 500 * 3 * 9);
}

#[test]
fn token_only_goes_with_no_other_flag() {
    for suite in Suite::ALL {
        for sections in [vec![], mixed_sections().concat()] {
            let sealed = seal(&field_key(suite), b"", token_only(PlaintextType::Text), &sections);
            let taken: Vec<u8> = (0..=255)
                .filter(|&flags| {
                    let mut changed = sealed.clone();
                    changed[4] = flags;
                    Envelope::parse(&changed).is_ok()
                })
                .collect();
            // in transit there are no tokens
            let expected: &[u8] = if sections.is_empty() { &[0, 1, 4, 5, 8] } else { &[0, 1, 8] };
            assert_eq!(taken, expected);
        }
    }
}

#[test]
fn a_token_only_value_is_sealed_empty() {
    let (mut sealed, mut refused) = (0, 0);
    for suite in Suite::ALL {
        for purpose in [Purpose::Data, Purpose::Transit, Purpose::Index, Purpose::Root] {
            let field_id = FieldId::of("lead.ssn");
            let key = FieldKey::derive(&secret(KEY), id(77), purpose, ACCOUNT, suite, field_id);
            for plaintext_type in PLAINTEXT_TYPES {
                for padding in Padding::ALL {
                    for sections in [vec![], mixed_sections().concat()] {
                        for length in [0, 1, 15, 16, 31, 32, 100] {
                            let plaintext = &[b'#'; 100][..length];
                            let form = Form { padding, ..token_only(plaintext_type) };
                            let room = key.sealed_length(length, padding, sections.len()).unwrap();
                            let mut out = vec![0xA5; room];
                            let asked = Cell::new(false);
                            let nonce = |nonce: &mut [u8]| {
                                asked.set(true);
                                random::fill(nonce)
                            };
                            let result = key.seal(plaintext, form, &sections, nonce, &mut out);
                            let allowed =
                                purpose == Purpose::Data && padding == Padding::None && length == 0;
                            assert_eq!(asked.get(), allowed);
                            if allowed {
                                assert_eq!(result, Ok(()));
                                sealed += 1;
                            } else {
                                assert_eq!(result, Err(SealError::Malformed), "{purpose:?}");
                                assert_eq!(out, vec![0xA5; room]);
                                refused += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    println!("token-only seals allowed: {sealed}, refused: {refused}");
    assert_eq!((sealed, refused), (3 * 9 * 2, 3 * 9 * 2 * (4 * 6 * 7 - 1)));
}

/// Whoever has the key could write one; no reader takes it.
#[test]
fn a_token_only_envelope_with_a_plaintext_does_not_open() {
    let mut refused = 0;
    for suite in Suite::ALL {
        let key = field_key(suite);
        let cipher = Cipher::new(suite, &reference_key(suite, ACCOUNT));
        for plaintext_type in PLAINTEXT_TYPES {
            for sections in [vec![], mixed_sections().concat()] {
                let sealed = seal(&key, b"", token_only(plaintext_type), &sections);
                let body = FIXED_HEADER_LENGTH + sections.len() + suite.nonce_length();
                for length in 0..=100 {
                    for byte in [b'x', 0, 0x80] {
                        let envelope = Envelope::parse(&sealed).unwrap();
                        let associated = reference::associated_data(envelope.header_bytes());
                        let mut ciphertext = vec![byte; length];
                        ciphertext.resize(suite.ciphertext_length(length), 0);
                        let mut tag = vec![0; suite.tag_length()];
                        cipher
                            .encrypt(
                                envelope.nonce(),
                                &associated,
                                &mut ciphertext,
                                length,
                                &mut tag,
                            )
                            .unwrap();
                        let forged = [&sealed[..body], &ciphertext, &tag].concat();
                        let envelope = Envelope::parse(&forged).unwrap();
                        let mut out = vec![0xA5; ciphertext.len()];
                        let result = key.open(&envelope, &mut out);
                        if length == 0 {
                            assert_eq!((result, &forged), (Ok(0), &sealed));
                        } else {
                            assert_eq!(result, Err(OpenError), "{suite:?} {length}");
                            assert_eq!(out, vec![0; out.len()], "something is left behind");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    println!("token-only envelopes with a plaintext: {refused}");
    assert_eq!(refused, 3 * 9 * 2 * 100 * 3);
}

#[test]
fn large_values_open() {
    let plaintext: Vec<u8> = (0..(1 << 20) + 1_u32).map(|i| (i >> 3) as u8).collect();
    for suite in Suite::ALL {
        for padding in [Padding::None, Padding::To1024] {
            for length in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
                let key = field_key(suite);
                round_trip(&key, &plaintext[..length], padding, &sections(1), id(77));
            }
        }
    }
}

#[test]
fn values_in_transit_open_only_as_such() {
    for suite in Suite::ALL {
        let field = FieldId::of("lead.ssn");
        for (field_id, account, other) in [
            (FieldId::NONE, "*database*", "*row*/10"),
            (field, "*row*/10", "*database*"),
            (field, "*row*/10", "*row*/100"),
            (field, "*row*/10", "*row*/1"),
        ] {
            let derive = |purpose, account| {
                FieldKey::derive(&secret(KEY), id(77), purpose, account, suite, field_id)
            };
            let transit = derive(Purpose::Transit, account);
            let data = derive(Purpose::Data, account);
            let sealed = seal(&transit, b"value", Padding::To32, &[]);
            assert!(Envelope::parse(&sealed).unwrap().in_transit());
            assert_eq!(open(&transit, &sealed).as_deref(), Some(&b"value"[..]));
            assert_eq!(open(&data, &sealed), None);
            // nor as another role's, or as one of none
            assert_eq!(open(&derive(Purpose::Transit, other), &sealed), None);
            let mut stored = sealed;
            stored[4] &= !4;
            assert_eq!(open(&transit, &stored), None);
            assert_eq!(open(&data, &stored), None);
        }
    }
}

#[test]
fn sealing_twice_gives_different_envelopes() {
    for suite in Suite::ALL {
        let key = field_key(suite);
        let envelopes: HashSet<_> =
            (0..1_000).map(|_| seal(&key, b"same", Padding::None, &[])).collect();
        assert_eq!(envelopes.len(), 1_000);
    }
}

// what is changed does not open

#[test]
fn every_bit_counts() {
    let (mut envelopes, mut flips, mut parsed, mut followed) = (0, 0, 0, 0);
    for suite in Suite::ALL {
        let key = field_key(suite);
        for padding in Padding::ALL {
            for sections in [sections(0), sections(1), sections(2)] {
                for length in [0, 1, 11, 15, 16, 31, 32, 64] {
                    let sealed = seal(&key, &[b'x'; 64][..length], padding, &sections);
                    let header = FIXED_HEADER_LENGTH + sections.len();
                    assert!(open(&key, &sealed).is_some());
                    envelopes += 1;
                    for bit in 0..sealed.len() * 8 {
                        let changed = flipped(&sealed, bit);
                        flips += 1;
                        let Ok(envelope) = Envelope::parse(&changed) else {
                            continue;
                        };
                        parsed += 1;
                        assert_eq!(open(&key, &changed), None, "{suite:?} {padding:?} bit {bit}");
                        if bit / 8 < header {
                            // a reader that takes suite and ids from the header, as it must
                            assert_eq!(open(&follow(&envelope), &changed), None, "bit {bit}");
                            followed += 1;
                        }
                    }
                }
            }
        }
    }
    println!(
        "bit flips: {flips} in {envelopes} envelopes, {parsed} of them well formed, {followed} \
        with a reader that follows the header"
    );
    assert_eq!(envelopes, 3 * 6 * 3 * 8);
    // of 432 sections, seven bits of the normalizer's version each give a later one
    assert_eq!((flips, parsed, followed), (1_234_656, 1_185_912, 144_792));
}

/// The same of every type and kind, kept or not.
#[test]
fn every_bit_of_every_form_counts() {
    let (mut envelopes, mut flips, mut parsed, mut followed) = (0, 0, 0, 0);
    let mixed = mixed_sections();
    for suite in Suite::ALL {
        let key = field_key(suite);
        for plaintext_type in PLAINTEXT_TYPES {
            for sections in mixed.iter().cloned().chain([mixed.concat()]) {
                let kept = Form { plaintext_type, padding: Padding::None, token_only: false };
                let padded = Form { padding: Padding::To32, ..kept };
                let only = token_only(plaintext_type);
                for (form, plaintext) in [(kept, &b"12.50"[..]), (padded, b"12.50"), (only, b"")] {
                    let sealed = seal(&key, plaintext, form, &sections);
                    assert_eq!(open(&key, &sealed).as_deref(), Some(plaintext));
                    envelopes += 1;
                    for bit in 0..sealed.len() * 8 {
                        let changed = flipped(&sealed, bit);
                        flips += 1;
                        let Ok(envelope) = Envelope::parse(&changed) else {
                            continue;
                        };
                        parsed += 1;
                        assert_eq!(open(&key, &changed), None, "{suite:?} {form:?} bit {bit}");
                        if bit / 8 < FIXED_HEADER_LENGTH + sections.len() {
                            assert_eq!(open(&follow(&envelope), &changed), None, "bit {bit}");
                            followed += 1;
                        }
                    }
                }
            }
        }
    }
    println!(
        "bit flips: {flips} in {envelopes} envelopes of every form, {parsed} of them well formed, \
        {followed} with a reader that follows the header"
    );
    assert_eq!(envelopes, 3 * 9 * 5 * 3);
    assert_eq!((flips, parsed, followed), (436_680, 376_191, 195_471));
}

/// The same data key, under the id, for the field and suite that the header names.
fn follow(envelope: &Envelope<'_>) -> FieldKey {
    let header = envelope.header();
    let purpose = if envelope.in_transit() { Purpose::Transit } else { Purpose::Data };
    FieldKey::derive(&secret(KEY), header.key_id, purpose, ACCOUNT, header.suite, header.field_id)
}

#[test]
fn every_bit_of_the_associated_data_counts() {
    let mut flips = 0;
    for suite in Suite::ALL {
        let sealed = seal(&field_key(suite), b"123-45-6789", Padding::To32, &sections(1));
        let envelope = Envelope::parse(&sealed).unwrap();
        // the field's key and the associated data, made without FieldKey
        let cipher = Cipher::new(suite, &reference_key(suite, ACCOUNT));
        let good = reference::associated_data(envelope.header_bytes());
        let decrypt = |associated_data: &[u8]| {
            let mut buffer = envelope.ciphertext().to_vec();
            let opened =
                cipher.decrypt(envelope.nonce(), associated_data, &mut buffer, envelope.tag());
            // no byte of plaintext exists before the tag is verified
            assert_eq!(opened.is_err(), buffer == envelope.ciphertext());
            opened
        };
        assert_eq!(decrypt(&good), Ok(32));
        for bit in 0..good.len() * 8 {
            assert_eq!(decrypt(&flipped(&good, bit)), Err(OpenError), "{suite:?} bit {bit}");
            flips += 1;
        }
        for length in 0..good.len() {
            assert_eq!(decrypt(&good[..length]), Err(OpenError));
            assert_eq!(decrypt(&good[length + 1..]), Err(OpenError));
        }
        assert_eq!(decrypt(&[&good[..], &[0]].concat()), Err(OpenError));
    }
    println!("bit flips of associated data: {flips}");
    assert_eq!(flips, 3 * 8 * (4 + 16 + 4 + 23 + 33));
}

/// The key of the field `lead.ssn` under [`KEY`], made without FieldKey.
fn reference_key(suite: Suite, account: &str) -> [u8; 64] {
    let (length, field_id) = (suite.key_length() as u16, FieldId::of("lead.ssn"));
    reference::field_key(&KEY, "data", suite.number(), length, field_id.0, account)
}

/// What a field's key is derived for: purpose, suite, length, field and account.
#[test]
fn every_bit_of_the_key_derivation_counts() {
    let mut changes = 0;
    for suite in Suite::ALL {
        let sealed = seal(&field_key(suite), b"123-45-6789", Padding::To32, &sections(1));
        let envelope = Envelope::parse(&sealed).unwrap();
        let length = suite.key_length() as u16;
        let associated_data = reference::associated_data(envelope.header_bytes());
        let mut keys = HashSet::new();
        let mut decrypt = |info: &[u8]| {
            let key = reference::expand(&KEY, info, length);
            assert!(keys.insert(key), "two derivations give one key");
            let mut buffer = envelope.ciphertext().to_vec();
            let cipher = Cipher::new(suite, &key);
            cipher.decrypt(envelope.nonce(), &associated_data, &mut buffer, envelope.tag())
        };
        let field_id = FieldId::of("lead.ssn").0;
        let good = reference::key_info("data", suite.number(), length, field_id, ACCOUNT);
        assert_eq!(decrypt(&good), Ok(32));
        for bit in 0..good.len() * 8 {
            assert_eq!(decrypt(&flipped(&good, bit)), Err(OpenError), "{suite:?} bit {bit}");
            changes += 1;
        }
        for length in 0..good.len() {
            assert_eq!(decrypt(&good[..length]), Err(OpenError));
            changes += 1;
        }
        for length in 1..good.len() {
            assert_eq!(decrypt(&good[length..]), Err(OpenError));
            changes += 1;
        }
        assert_eq!(decrypt(&[&good[..], &[0]].concat()), Err(OpenError));
        changes += 1;
    }
    println!("changes of a key derivation: {changes}");
    // label, purpose, suite, length, field and account, each behind its length
    let length = 6 * 4 + 22 + 4 + 1 + 2 + 8 + 4;
    assert_eq!(changes, 3 * (8 * length + length + (length - 1) + 1));
}

/// However long it is: short associated data is put together elsewhere than long.
#[test]
fn associated_data_of_every_length_is_the_specified() {
    for suite in Suite::ALL {
        let key = field_key(suite);
        let cipher = Cipher::new(suite, &reference_key(suite, ACCOUNT));
        let mut lengths = HashSet::new();
        // one section of every length, and several
        let single = (18..=600).chain([5_000, 65_513]).map(section_of);
        for sections in single.chain([vec![], section_of(12)]).chain((1..=40).map(sections)) {
            let sealed = seal(&key, b"value", Padding::None, &sections);
            assert_eq!(open(&key, &sealed).as_deref(), Some(&b"value"[..]));
            let envelope = Envelope::parse(&sealed).unwrap();
            let associated_data = reference::associated_data(envelope.header_bytes());
            lengths.insert(associated_data.len());
            let mut buffer = envelope.ciphertext().to_vec();
            let (nonce, tag) = (envelope.nonce(), envelope.tag());
            let opened = cipher.decrypt(nonce, &associated_data, &mut buffer, tag);
            let length = sections.len();
            assert_eq!((opened, &buffer[..5]), (Ok(5), &b"value"[..]), "{suite:?} {length}");
        }
        assert!((65..=600).all(|length| lengths.contains(&length)));
    }
}

/// A section of so many bytes: a group of a reserved kind fills it, with tokens of one byte.
fn section_of(length: usize) -> Vec<u8> {
    let mut section = ((length - 2) as u16).to_be_bytes().to_vec();
    section.extend(1_u64.to_be_bytes());
    section.extend([0, 1]);
    if length > 12 {
        section.extend([6, 0, 1]);
        section.extend(((length - 17) as u16).to_be_bytes());
    }
    section.resize(length, 0xEE);
    section
}

/// The account goes into the key, however long it is.
#[test]
fn the_key_of_every_account_is_the_specified() {
    for suite in Suite::ALL {
        let sealed = seal(&field_key(suite), b"value", Padding::None, &[]);
        let mut seen = HashSet::new();
        for length in 0..=300 {
            let account = "x".repeat(length);
            let key = derive(KEY, 77, &account, suite, FieldId::of("lead.ssn"));
            assert_eq!(open(&key, &sealed), None);
            let sealed = seal(&key, b"value", Padding::None, &[]);
            let envelope = Envelope::parse(&sealed).unwrap();
            let derived = reference_key(suite, &account);
            assert!(seen.insert(derived));
            let associated_data = reference::associated_data(envelope.header_bytes());
            let mut buffer = envelope.ciphertext().to_vec();
            let opened = Cipher::new(suite, &derived).decrypt(
                envelope.nonce(),
                &associated_data,
                &mut buffer,
                envelope.tag(),
            );
            assert_eq!((opened, &buffer[..5]), (Ok(5), &b"value"[..]), "{suite:?} {length}");
        }
    }
}

#[test]
fn every_bit_of_the_key_and_account_counts() {
    let account = "acme-0123456789:ABCDEF";
    let field_id = FieldId::of("lead.ssn");
    for suite in Suite::ALL {
        let sealed = seal(&derive(KEY, 77, account, suite, field_id), b"value", Padding::None, &[]);
        assert!(open(&derive(KEY, 77, account, suite, field_id), &sealed).is_some());
        for bit in 0..256 {
            let key = flipped(&KEY, bit).try_into().unwrap();
            assert_eq!(open(&derive(key, 77, account, suite, field_id), &sealed), None);
        }
        // all but the top bits, which make it no text
        for bit in (0..account.len() * 8).filter(|bit| bit % 8 != 7) {
            let other = String::from_utf8(flipped(account.as_bytes(), bit)).unwrap();
            assert_eq!(open(&derive(KEY, 77, &other, suite, field_id), &sealed), None);
        }
        for other in ["", &account[1..], &account[..21], "acme-0123456789:ABCDEF\0"] {
            assert_eq!(open(&derive(KEY, 77, other, suite, field_id), &sealed), None);
        }
    }
}

#[test]
fn every_length_counts() {
    let mut changes = 0;
    for suite in Suite::ALL {
        let key = field_key(suite);
        for padding in Padding::ALL {
            for sections in [sections(0), sections(1)] {
                let sealed = seal(&key, b"123-45-6789", padding, &sections);
                let mut refused = |changed: &[u8]| {
                    assert_eq!(open(&key, changed), None, "{suite:?} {padding:?}");
                    changes += 1;
                };
                for length in 0..sealed.len() {
                    refused(&sealed[..length]);
                    refused(&sealed[length + 1..]);
                    // a byte taken out, a byte put in
                    refused(&[&sealed[..length], &sealed[length + 1..]].concat());
                    refused(&[&sealed[..=length], &sealed[length..]].concat());
                    refused(&[&sealed[..length], &[0], &sealed[length..]].concat());
                }
                for more in 1..=48 {
                    refused(&[&sealed[..], &[0; 48][..more]].concat());
                    refused(&[&sealed[..], &[0xFF; 48][..more]].concat());
                    refused(&[&sealed[..], &sealed[sealed.len() - more..]].concat());
                }
                refused(&[&sealed[..], &sealed].concat());
            }
        }
    }
    println!("changes of length: {changes}");
    assert_eq!(changes, 65_590);
}

/// Whatever the order of bytes is changed to, and whatever stands in their place.
#[test]
fn mutated_envelopes_do_not_open() {
    let parsed = Cell::new(0);
    let mutation = (any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..20));
    let values = (suites(), vec(any::<u8>(), 0..100), 0..3_u64, vec(mutation, 1..4));
    for_all(100_000, values, |(suite, plaintext, count, mutations)| {
        let key = field_key(suite);
        let sealed = seal(&key, &plaintext, Padding::None, &sections(count));
        let mut changed = sealed.clone();
        for (start, end, with) in mutations {
            let (start, end) = (start.index(changed.len() + 1), end.index(changed.len() + 1));
            changed.splice(start.min(end)..start.max(end), with);
        }
        if let Ok(envelope) = Envelope::parse(&changed) {
            parsed.set(parsed.get() + 1);
            assert_eq!(open(&follow(&envelope), &changed).is_some(), changed == sealed);
        }
        assert_eq!(open(&key, &changed).is_some(), changed == sealed);
    });
    println!("mutated envelopes: 100000, {} of them well formed", parsed.get());
    assert!(parsed.get() > 1_000);
}

// threats

/// A ciphertext moved to another account, field or key, as it is and with a header that fits.
#[test]
fn threat_a1_swapped_ciphertext() {
    let fields = ["lead.ssn", "lead.name", "a"].map(FieldId::of);
    let mut places = vec![];
    for suite in Suite::ALL {
        for account in ["acme", "acme2", "Acme"] {
            for field_id in fields {
                for key in [[1; 32], [2; 32], [3; 32]] {
                    places.push((suite, account, field_id, key));
                }
            }
        }
    }
    // key ids that follow the keys; one id for all keys, so that only cryptography can tell
    for same_id in [false, true] {
        let keys: Vec<_> = places
            .iter()
            .map(|&(suite, account, field_id, key)| {
                let key_id = if same_id { 9 } else { u64::from(key[0]) };
                (derive(key, key_id, account, suite, field_id), key_id)
            })
            .collect();
        let sealed: Vec<_> =
            keys.iter().map(|(key, _)| seal(key, b"123-45-6789", Padding::None, &[])).collect();
        let (mut opened, mut refused) = (0, 0);
        for (from, envelope) in sealed.iter().enumerate() {
            for (to, (key, key_id)) in keys.iter().enumerate() {
                let mut fitting = envelope.clone();
                fitting[2] = key.suite().number();
                fitting[5..13].copy_from_slice(&key_id.to_be_bytes());
                fitting[13..21].copy_from_slice(&key.field_id().0.to_be_bytes());
                assert_eq!(open(key, envelope).is_some(), from == to, "{from} to {to}");
                assert_eq!(open(key, &fitting).is_some(), from == to, "{from} to {to}, rewritten");
                if from == to { opened += 1 } else { refused += 2 }
            }
        }
        println!("swap matrix: {opened} opened in place, {refused} refused elsewhere");
        assert_eq!((opened, refused), (81, 2 * 81 * 80));
    }
}

/// Parts that look like other parts, or like the lengths between them.
fn tricky_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        select(vec![
            &b""[..],
            b"a",
            b"b",
            b"ab",
            b":",
            b"a:b",
            b"\0",
            b"\0\0\0\0",
            b"\0\0\0\x01a",
            b"\0\0\0\x01",
            b"\x01a\0\0",
            b"acme",
            b"\0\0\0\x04acme",
            b"fieldcrypt/1/token",
            b"\0\0\0\x12fieldcrypt/1/token",
        ])
        .prop_map(<[u8]>::to_vec),
        vec(select(vec![0, 1, 2, b'a', b':']), 0..12),
        vec(any::<u8>(), 0..300),
    ]
}

const LABELS: [Label; 10] = [
    Label::AccountTag,
    Label::AssociatedData,
    Label::AuditBatch,
    Label::AuditHead,
    Label::AuditStart,
    Label::CheckValue,
    Label::FieldId,
    Label::FieldKey,
    Label::KeyWrap,
    Label::Token,
];

#[test]
fn threat_a2_ambiguous_concatenation() {
    let seen = RefCell::new(HashMap::new());
    let split_again = Cell::new(0);
    let values = (select(LABELS.to_vec()), vec(tricky_part(), 0..6), vec(any::<Index>(), 0..6));
    for_all(200_000, values, |(label, parts, cuts)| {
        let frame_of = |parts: &[Vec<u8>]| {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let framed = frame(label, &parts);
            // all three ways to hash parts see the same bytes
            assert_eq!(framing::sha256(label, &parts), *Sha256::digest(&framed));
            let mut whole = <Hmac<Sha256> as KeyInit>::new_from_slice(b"key").unwrap();
            whole.update(&framed);
            let tag = HmacSha256::new(b"key").tag(label, &parts);
            assert_eq!(tag, *whole.finalize().into_bytes());
            framed
        };
        let framed = frame_of(&parts);
        // what was framed can be read back
        assert_eq!(unframe(&framed), [&[label.as_bytes().to_vec()], parts.as_slice()].concat());
        // the same bytes, cut elsewhere
        let joined = parts.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(joined.len() + 1)).collect();
        cuts.extend([0, joined.len()]);
        cuts.sort_unstable();
        let others: Vec<_> = cuts.windows(2).map(|cut| joined[cut[0]..cut[1]].to_vec()).collect();
        assert_eq!(frame_of(&others) == framed, others == parts);
        split_again.set(split_again.get() + usize::from(others != parts));
        // and no two of all the cases meet
        let tuple = (label.as_bytes(), parts);
        let first = seen.borrow_mut().entry(framed).or_insert_with(|| tuple.clone()).clone();
        assert_eq!(first, tuple);
    });
    let labels: HashSet<_> = LABELS.map(Label::as_bytes).into_iter().collect();
    assert_eq!(labels.len(), LABELS.len());
    let distinct = seen.borrow().len();
    println!("framing: 200000 cases, {distinct} distinct, {} cut elsewhere", split_again.get());
    assert!(distinct > 100_000 && split_again.get() > 100_000);
}

/// The parts of a frame.
fn unframe(mut framed: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![];
    while let Some((length, rest)) = framed.split_first_chunk() {
        let (part, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        parts.push(part.to_vec());
        framed = rest;
    }
    assert_eq!(framed, b"");
    parts
}

/// The field and the account meet in the key; no two pairs may give the same bytes.
#[test]
fn threat_a2_accounts_that_look_like_each_other() {
    let accounts = ["a", "a:b", "a:b:c", "b:c", "", "a\0", "\0", "\0\0\0\u{1}a", "ab", "acme/1"];
    for suite in Suite::ALL {
        let keys = accounts.map(|account| derive(KEY, 77, account, suite, FieldId::of("a")));
        for (from, key) in keys.iter().enumerate() {
            let sealed = seal(key, b"value", Padding::None, &[]);
            for (to, key) in keys.iter().enumerate() {
                assert_eq!(open(key, &sealed).is_some(), from == to);
            }
        }
    }
}

const NONCE: usize = 24;

/// The nonces that a really forked process takes from its copy of the pool. The program that the
/// process would become does not matter.
fn nonces_after_fork(
    pool: &Arc<Mutex<NoncePool>>,
    process: fn() -> u32,
    batches: usize,
) -> Vec<[u8; NONCE]> {
    let (mut reader, writer) = io::pipe().unwrap();
    let drain = std::thread::spawn(move || {
        let mut bytes = vec![];
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let pool = Arc::clone(pool);
    let in_child = move || {
        let mut pool = pool.lock().map_err(|_| io::ErrorKind::Other)?;
        for _ in 0..batches {
            let mut batch = [0; NONCE * BATCH];
            for nonce in batch.chunks_exact_mut(NONCE) {
                pool.take(process(), random::fill, nonce).map_err(|_| io::ErrorKind::Other)?;
            }
            (&writer).write_all(&batch)?;
        }
        Ok(())
    };
    let mut command = Command::new("true");
    // SAFETY: between fork and exec the closure takes a lock that no other thread uses, copies
    // memory, and makes the system calls getpid, getrandom and write. It allocates nothing.
    unsafe { command.pre_exec(in_child) };
    assert!(command.status().unwrap().success());
    // with it the last writer, so that the reader comes to the end
    drop(command);
    let bytes = drain.join().unwrap().unwrap();
    bytes.chunks_exact(NONCE).map(|nonce| nonce.try_into().unwrap()).collect()
}

/// How many nonces a forked process writes at once; two batches fit into what is left of a pool.
const BATCH: usize = 50;

#[test]
fn threat_a4_nonces_survive_no_fork() {
    let (children, batches) = (64, 200);
    let pool = Arc::new(Mutex::new(NoncePool::default()));
    let take = |process| {
        let mut nonce = [0; NONCE];
        pool.lock().unwrap().take(process, random::fill, &mut nonce).unwrap();
        nonce
    };
    let mut seen = HashSet::new();
    let mut own = 0;
    for _ in 0..children {
        // the parent's pool is neither full nor empty when it forks
        for _ in 0..7 {
            assert!(seen.insert(take(std::process::id())));
            own += 1;
        }
        let nonces = nonces_after_fork(&pool, std::process::id, batches);
        assert_eq!(nonces.len(), batches * BATCH);
        for nonce in nonces {
            assert!(seen.insert(nonce), "a nonce came twice");
        }
    }
    println!("nonces: {} of {children} forked processes, {own} of the parent", seen.len() - own);
    assert_eq!(seen.len(), 64 * 10_000 + 64 * 7);

    // the control: a pool that does not look at its process gives the same nonces again
    let process = || 1;
    take(1);
    let nonces = nonces_after_fork(&pool, process, 2);
    assert_eq!(nonces, (0..2 * BATCH).map(|_| take(1)).collect::<Vec<_>>());
}

/// Multiplication as GCM has it (NIST SP 800-38D, algorithm 1): the top bit is the first.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut shifted) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = if shifted & 1 == 1 { 0xE1 << 120 } else { 0 };
        shifted = (shifted >> 1) ^ carry;
    }
    product
}

/// x to the power 2^128 - 2.
fn inverse(x: u128) -> u128 {
    let (mut power, mut result) = (x, 1 << 127);
    for _ in 1..128 {
        power = times(power, power);
        result = times(result, power);
    }
    result
}

fn aes_block(key: &[u8; 32], block: u128) -> u128 {
    let mut block = block.to_be_bytes().into();
    Aes256::new(key.into()).encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

fn ghash(h: u128, associated_data: &[u8], ciphertext: &[u8]) -> u128 {
    let blocks = associated_data.chunks(16).chain(ciphertext.chunks(16)).map(|chunk| {
        let mut block = [0; 16];
        block[..chunk.len()].copy_from_slice(chunk);
        u128::from_be_bytes(block)
    });
    let lengths = (associated_data.len() as u128) << 67 | (ciphertext.len() as u128) << 3;
    blocks.chain([lengths]).fold(0, |hash, block| times(hash ^ block, h))
}

/// AES-GCM does not commit to its key: whoever knows two keys can make one ciphertext that opens
/// under both. Here such an envelope is made, and only one of its keys can be had.
#[test]
fn threat_a6_key_commitment() {
    let (suite, account, field_id) = (Suite::Aes256Gcm, ACCOUNT, FieldId::of("lead.ssn"));
    let (key_id, keys) = (id(77), [[1; 32], [2; 32]]);
    let header = Header {
        suite,
        plaintext_type: PlaintextType::Text,
        flags: Flags::default(),
        key_id,
        field_id,
    };
    let mut header_bytes = [0; FIXED_HEADER_LENGTH];
    header.write(&[], &mut header_bytes).unwrap();
    let associated_data = reference::associated_data(&header_bytes);
    let nonce = [3; 12];
    let mut first_block = [0; 16];
    first_block[..12].copy_from_slice(&nonce);
    first_block[15] = 1;
    let first_block = u128::from_be_bytes(first_block);

    // what is free of the ciphertext; its last block makes the tags under both keys equal
    let mut ciphertext = [0xC3; 48];
    ciphertext[32..].fill(0);
    let parts = keys.map(|key| {
        let key = reference::field_key(&key, "data", suite.number(), 32, field_id.0, account);
        let key = key[..32].try_into().unwrap();
        let h = aes_block(key, 0);
        (times(h, h), ghash(h, &associated_data, &ciphertext) ^ aes_block(key, first_block))
    });
    let [(square, tag), (other_square, other_tag)] = parts;
    let block = times(tag ^ other_tag, inverse(square ^ other_square));
    ciphertext[32..].copy_from_slice(&block.to_be_bytes());
    let tag = tag ^ times(block, square);
    assert_eq!(tag, other_tag ^ times(block, other_square));
    let envelope = [&header_bytes[..], &nonce, &ciphertext, &tag.to_be_bytes()].concat();

    // under two keys with one id it opens to two values: the threat is real
    let values = keys.map(|key| open(&derive(key, 77, account, suite, field_id), &envelope));
    assert!(values[0].is_some() && values[1].is_some());
    assert_ne!(values[0], values[1]);

    // but an id opens one key: the check value recorded with it belongs to the first
    let name = KeyName { account, purpose: Purpose::Data, version: 1, id: key_id };
    let wrapping_key = secret([9; 32]);
    let recorded = check_value(&secret(keys[0]), &name);
    let [first, second] = keys.map(|key| {
        let wrapped = wrap(&wrapping_key, &name, &secret(key)).unwrap();
        unwrap(&wrapping_key, &name, &wrapped, &recorded)
    });
    assert!(matches!(second, Err(UnwrapError::CheckValue)), "{second:?}");
    let key = FieldKey::derive(&first.unwrap(), key_id, Purpose::Data, account, suite, field_id);
    assert_eq!(open(&key, &envelope), values[0]);
}

/// Every failure with a key is the same error, with the same words, and leaves nothing behind.
#[test]
fn threat_a7_one_error() {
    for suite in Suite::ALL {
        let field_id = FieldId::of("lead.ssn");
        let key = field_key(suite);
        let sealed = seal(&key, b"123-45-6789", Padding::To32, &sections(1));
        let body = FIXED_HEADER_LENGTH + 33 + suite.nonce_length();
        let mut attempts = vec![
            ("another key", derive([1; 32], 77, ACCOUNT, suite, field_id), sealed.clone()),
            ("another key id", derive(KEY, 78, ACCOUNT, suite, field_id), sealed.clone()),
            ("another account", derive(KEY, 77, "acme2", suite, field_id), sealed.clone()),
            ("another field", derive(KEY, 77, ACCOUNT, suite, FieldId::of("b")), sealed.clone()),
        ];
        for purpose in [Purpose::Transit, Purpose::Index, Purpose::Root, Purpose::Wrapping] {
            let key = FieldKey::derive(&secret(KEY), id(77), purpose, ACCOUNT, suite, field_id);
            attempts.push(("another purpose", key, sealed.clone()));
        }
        for (name, byte) in [
            ("key id", 12),
            ("field id", 20),
            ("token", FIXED_HEADER_LENGTH + 32),
            ("nonce", body - 1),
            ("ciphertext", body),
            ("tag", sealed.len() - 1),
        ] {
            attempts.push((name, field_key(suite), flipped(&sealed, byte * 8)));
        }
        for other in Suite::ALL.into_iter().filter(|other| *other != suite) {
            attempts.push(("another suite", field_key(other), sealed.clone()));
        }
        // authentic, but without the padding that the header promises
        let mut forged = sealed[..body].to_vec();
        let mut ciphertext = vec![b'x'; 32];
        ciphertext.resize(suite.ciphertext_length(32), 0);
        let mut tag = vec![0; suite.tag_length()];
        let nonce = &sealed[FIXED_HEADER_LENGTH + 33..body];
        let associated_data = reference::associated_data(&sealed[..FIXED_HEADER_LENGTH + 33]);
        Cipher::new(suite, &reference_key(suite, ACCOUNT))
            .encrypt(nonce, &associated_data, &mut ciphertext, 32, &mut tag)
            .unwrap();
        forged.extend(ciphertext);
        forged.extend(tag);
        attempts.push(("padding", field_key(suite), forged));

        let mut words = HashSet::new();
        for (name, key, envelope) in &attempts {
            let envelope = Envelope::parse(envelope).unwrap();
            let mut out = vec![0xA5; envelope.ciphertext().len()];
            let error = key.open(&envelope, &mut out).unwrap_err();
            assert_eq!(out, vec![0; out.len()], "{name} leaves something behind");
            words.insert((error.to_string(), format!("{error:?}")));
        }
        assert_eq!(attempts.len(), 17);
        assert_eq!(words, HashSet::from([("decryption failed".into(), "OpenError".into())]));
        // and no room for the plaintext is no other error
        let envelope = Envelope::parse(&sealed).unwrap();
        for length in [0, 31, envelope.ciphertext().len() + 1] {
            let mut out = vec![0xA5; length];
            assert_eq!(key.open(&envelope, &mut out), Err(OpenError));
        }
    }
}

/// A shorter tag, even the right one, is no tag.
#[test]
fn threat_a8_full_tags() {
    for suite in Suite::ALL {
        let key = reference::field_key(&KEY, "data", suite.number(), 64, 1, ACCOUNT);
        let cipher = Cipher::new(suite, &key);
        let nonce = vec![3; suite.nonce_length()];
        let mut ciphertext = vec![b'x'; suite.ciphertext_length(40)];
        let mut tag = vec![0; suite.tag_length()];
        cipher.encrypt(&nonce, b"associated", &mut ciphertext, 40, &mut tag).unwrap();
        let decrypt = |tag: &[u8]| {
            let mut buffer = ciphertext.clone();
            cipher.decrypt(&nonce, b"associated", &mut buffer, tag)
        };
        assert_eq!(decrypt(&tag), Ok(40));
        for length in 0..tag.len() {
            assert_eq!(decrypt(&tag[..length]), Err(OpenError), "{suite:?} {length}");
            assert_eq!(decrypt(&tag[tag.len() - length..]), Err(OpenError), "{suite:?} {length}");
        }
        assert_eq!(decrypt(&[&tag[..], &[0]].concat()), Err(OpenError));
        // nor does the cipher make one
        let mut buffer = ciphertext.clone();
        for length in (0..64).filter(|length| *length != suite.tag_length()) {
            let mut tag = vec![0; length];
            assert_eq!(cipher.encrypt(&nonce, &[], &mut buffer, 40, &mut tag), None);
        }
        // in an envelope the bytes in front of the tag take the place of those that are missing
        let key = field_key(suite);
        let sealed = seal(&key, &[b'x'; 64], Padding::None, &[]);
        for cut in 1..=suite.tag_length() {
            assert_eq!(open(&key, &sealed[..sealed.len() - cut]), None);
        }
    }
}

/// Values that fall into one bucket cannot be told apart by their length.
#[test]
fn threat_a9_padding_hides_lengths() {
    for suite in Suite::ALL {
        let key = field_key(suite);
        for padding in Padding::ALL {
            let lengths: HashSet<_> = (0..2_048)
                .map(|length| seal(&key, &[b'x'; 2_048][..length], padding, &[]).len())
                .collect();
            let bucket = padding.name().parse().unwrap_or(match suite {
                Suite::Aes256CbcHmacSha512 => 16,
                _ => 1,
            });
            assert_eq!(lengths.len(), 2_048 / bucket, "{suite:?} {padding:?}");
        }
    }
}

/// Token sections, some of them well formed.
fn likely_sections() -> impl Strategy<Value = Vec<u8>> {
    let equality = (1..3_u8, 0..2_u8, Just(16), Just(1));
    let member = (Just(7), 0..2_u8, Just(8), 1..4_u16);
    let any_group = (0..9_u8, 0..3_u8, 0..36_u8, 0..3_u16);
    let group = prop_oneof![2 => equality, 1 => member, 3 => any_group];
    let section = (1..u64::MAX >> 1, 0..6_u8, prop_oneof![0..4_u8, any::<u8>()], vec(group, 0..4))
        .prop_map(|(key_id, normalizer, version, groups)| {
            let mut section = key_id.to_be_bytes().to_vec();
            section.extend([normalizer, version]);
            for (kind, scope, width, count) in groups {
                section.extend([kind, scope, width]);
                section.extend(count.to_be_bytes());
                section.resize(section.len() + usize::from(width) * usize::from(count), 0xEE);
            }
            [&(section.len() as u16).to_be_bytes()[..], &section].concat()
        });
    prop_oneof![
        1 => vec(any::<u8>(), 0..60),
        3 => vec(section, 0..3).prop_map(|sections| sections.concat()),
        1 => Just(vec![]),
    ]
}

/// No bytes make the parser panic, and what it accepts is whole.
#[test]
fn threat_a12_parser_takes_anything() {
    let accepted = Cell::new(0);
    let (ids, likely) = ((any::<u64>(), any::<u64>()), likely_sections());
    let likely = (0..5_u8, 0..12_u8, 0..10_u8, ids.0, ids.1, likely, vec(any::<u8>(), 0..120))
        .prop_map(|(suite, plaintext_type, flags, key_id, field_id, tokens, body)| {
            let mut bytes = vec![0xFC, 1, suite, plaintext_type, flags];
            bytes.extend((key_id >> 1).to_be_bytes());
            bytes.extend(field_id.to_be_bytes());
            bytes.extend((tokens.len() as u16).to_be_bytes());
            [bytes, tokens, body].concat()
        });
    let noise = vec(any::<u8>(), 0..200);
    let changed =
        (suites(), vec((any::<Index>(), any::<u8>()), 0..8)).prop_map(|(suite, bytes)| {
            let mut sealed = seal(&field_key(suite), b"value", Padding::None, &sections(2));
            for (place, byte) in bytes {
                *place.get_mut(&mut sealed) = byte;
            }
            sealed
        });
    let values = prop_oneof![2 => noise, 5 => likely, 3 => changed];
    for_all(400_000, values, |bytes| {
        let again = Envelope::parse(&bytes).map(|envelope| {
            accepted.set(accepted.get() + 1);
            let header = *envelope.header();
            assert_eq!(envelope.equality_token(), first_equality(&envelope));
            let mut rewritten = vec![0; envelope.header_bytes().len()];
            header.write(envelope.token_sections(), &mut rewritten).unwrap();
            [&rewritten, envelope.nonce(), envelope.ciphertext(), envelope.tag()].concat()
        });
        if let Ok(again) = again {
            assert_eq!(again, bytes);
        }
        // sections as well, without the check in front
        let _ = equality_token(&bytes);
        assert!(tokens(&bytes).all(|token| token.bytes.len() <= bytes.len()));
        // texts as well: as they are, and what stands in them
        let _ = from_text(&bytes);
        assert_eq!(from_text(to_text(&bytes).as_bytes()).as_deref(), Ok(bytes.as_slice()));
        let _ = is_reserved_text(&bytes);
        // and wrapped keys
        let name = KeyName { account: "", purpose: Purpose::Data, version: 1, id: id(1) };
        assert!(unwrap(&secret(KEY), &name, &bytes, &bytes).is_err());
    });
    println!("parsed: 400000, accepted: {}", accepted.get());
    assert!(accepted.get() > 10_000);
}

/// The equality token by another way: of all tokens.
fn first_equality(envelope: &Envelope<'_>) -> Option<IndexToken> {
    let sections = envelope.token_sections();
    let first = sections.first_chunk().map_or(0, |length| 2 + u16::from_be_bytes(*length));
    let mut found = tokens(&sections[..usize::from(first)])
        .filter(|token| token.kind == Kind::Exact as u8 || token.kind == Kind::Unique as u8);
    found
        .next()
        .map(|token| IndexToken { key_id: token.key_id, token: token.bytes.try_into().unwrap() })
}

/// One value has another token in every account, field and scope, and under every key.
#[test]
fn threat_f3_tokens_differ_across_accounts_and_fields() {
    let values = ["", "123456789", "123456780"];
    let mut seen = HashSet::new();
    let mut tags = HashSet::new();
    for account in ["acme", "acme2", "*database*"] {
        // the accounts' keys differ; so does the tag in the id, even were the keys the same
        tags.insert(KeyId::generate(Purpose::Index, account).unwrap().account_tag());
        for version in 0..3 {
            let key = Sha256::digest(format!("{account} {version}")).into();
            let key_id = KeyId::generate(Purpose::Index, account).unwrap();
            assert_eq!(key_id.account_tag(), u64::from(account_tag(account)));
            for field in ["lead.ssn", "lead.name", "a"] {
                let derive = || TokenKey::derive(&secret(key), key_id, FieldId::of(field), account);
                for scope in [Scope::Account, Scope::Database] {
                    for value in values {
                        let made = derive().equality(Kind::Exact, scope, value.as_bytes());
                        assert!(seen.insert(made.token), "{account} {field} {value}");
                        // equal values of one field still meet
                        assert_eq!(derive().equality(Kind::Exact, scope, value.as_bytes()), made);
                    }
                }
            }
        }
    }
    assert_eq!((seen.len(), tags.len()), (3 * 3 * 3 * 2 * 3, 3));
    // a token tells nothing about the field's key for values: they are derived apart
    let (index, data) = (
        reference::field_key(&KEY, "index", 1, 32, 1, ACCOUNT),
        reference::field_key(&KEY, "data", 1, 32, 1, ACCOUNT),
    );
    assert_ne!(index, data);
}

/// Even one index key, under one id, makes other tokens for every account and field.
#[test]
fn tokens_of_one_key_differ_across_accounts_and_fields() {
    let mut seen = HashSet::new();
    let longest = "x".repeat(200);
    let accounts = ["acme", "acme2", "acm", "Acme", "", "a", "a\0", "*database*", &longest];
    for account in accounts {
        for field in ["lead.ssn", "lead.name", "a"] {
            let field_id = FieldId::of(field);
            let key = TokenKey::derive(&secret(KEY), id(77), field_id, account);
            assert_eq!(key.key_id(), id(77));
            let made = key.equality(Kind::Exact, Scope::Account, b"123456789");
            assert!(seen.insert(made.token), "{account} {field}");
            // as section 6 says, made without TokenKey
            let key = reference::field_key(&KEY, "index", 1, 32, field_id.0, account);
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key[..32]).unwrap();
            mac.update(&reference::lp(&[b"fieldcrypt/1/token", &[1], &[0], b"123456789"]));
            assert_eq!(made.token, mac.finalize().into_bytes()[..16]);
        }
    }
    for bit in (0..ACCOUNT.len() * 8).filter(|bit| bit % 8 != 7) {
        let account = String::from_utf8(flipped(ACCOUNT.as_bytes(), bit)).unwrap();
        let key = TokenKey::derive(&secret(KEY), id(77), FieldId::of("lead.ssn"), &account);
        let made = key.equality(Kind::Exact, Scope::Account, b"123456789").token;
        // one flip makes `Acme`, which was there
        assert_eq!(seen.insert(made), account != "Acme", "{account:?}");
    }
    println!("tokens of one value under one key: {}", seen.len());
    assert_eq!(seen.len(), 9 * 3 + 4 * 7 - 1);
}

/// What is looked for is not what is unique, and neither is comparable across scopes.
#[test]
fn tokens_of_one_value_differ_across_kinds_and_scopes() {
    let kinds = [Kind::Exact, Kind::Unique, Kind::Member];
    for_all(5_000, (any::<[u8; 32]>(), vec(any::<u8>(), 0..100)), |(key, value)| {
        let field_id = FieldId::of("lead.ssn");
        let token_key = TokenKey::derive(&secret(key), id(77), field_id, ACCOUNT);
        let mut seen = HashSet::new();
        for kind in kinds {
            for scope in [Scope::Account, Scope::Database] {
                let made = token_key.equality(kind, scope, &value);
                assert!(seen.insert(made.token), "{kind:?} {scope:?}");
                // as section 6 says, made without TokenKey
                let key = reference::field_key(&key, "index", 1, 32, field_id.0, ACCOUNT);
                let mut mac =
                    <Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(&key[..32]).unwrap();
                let (kind, scope) = ([kind as u8], [scope as u8]);
                mac.update(&reference::lp(&[b"fieldcrypt/1/token", &kind, &scope, &value]));
                assert_eq!(made.token, mac.finalize().into_bytes()[..16]);
            }
        }
    });
}

// wrapped keys

#[test]
fn every_bit_of_a_wrapped_key_counts() {
    let name = KeyName { account: "acme", purpose: Purpose::Data, version: 1, id: id(77) };
    let wrapping_key = [9; 32];
    let check = check_value(&secret(KEY), &name);
    let wrapped = wrap(&secret(wrapping_key), &name, &secret(KEY)).unwrap();
    let attempt = |wrapping_key, name: &KeyName<'_>, wrapped: &[u8], check: &[u8]| {
        unwrap(&secret(wrapping_key), name, wrapped, check).map(|key| check_value(&key, name))
    };
    assert_eq!(attempt(wrapping_key, &name, &wrapped, &check), Ok(check));
    for bit in 0..wrapped.len() * 8 {
        let error = if bit < 8 { UnwrapError::Malformed } else { UnwrapError::Tag };
        let changed = flipped(&wrapped, bit);
        assert_eq!(attempt(wrapping_key, &name, &changed, &check), Err(error), "bit {bit}");
    }
    for length in (0..128).filter(|length| *length != wrapped.len()) {
        let changed: Vec<_> = wrapped.iter().copied().cycle().take(length).collect();
        let result = attempt(wrapping_key, &name, &changed, &check);
        assert_eq!(result, Err(UnwrapError::Malformed));
    }
    for bit in 0..256 {
        let other = flipped(&wrapping_key, bit).try_into().unwrap();
        assert_eq!(attempt(other, &name, &wrapped, &check), Err(UnwrapError::Tag));
        let changed = flipped(&check, bit);
        let result = attempt(wrapping_key, &name, &wrapped, &changed);
        assert_eq!(result, Err(UnwrapError::CheckValue), "bit {bit}");
        assert!(!verify(&check, &changed));
    }
    for length in 0..32 {
        let result = attempt(wrapping_key, &name, &wrapped, &check[..length]);
        assert_eq!(result, Err(UnwrapError::CheckValue));
    }
    // of every other name
    for bit in 0..63 {
        let other = KeyName { id: id(77 ^ 1 << bit), ..name };
        assert_eq!(attempt(wrapping_key, &other, &wrapped, &check), Err(UnwrapError::Tag));
        assert_ne!(check_value(&secret(KEY), &other), check);
    }
    for bit in 0..32 {
        let other = KeyName { version: 1 ^ 1 << bit, ..name };
        assert_eq!(attempt(wrapping_key, &other, &wrapped, &check), Err(UnwrapError::Tag));
        assert_ne!(check_value(&secret(KEY), &other), check);
    }
    for purpose in [Purpose::Index, Purpose::Transit, Purpose::Wrapping, Purpose::Root] {
        let other = KeyName { purpose, ..name };
        assert_eq!(attempt(wrapping_key, &other, &wrapped, &check), Err(UnwrapError::Tag));
        assert_ne!(check_value(&secret(KEY), &other), check);
    }
    for account in ["", "acm", "acme2", "Acme", "acme\0"] {
        let other = KeyName { account, ..name };
        assert_eq!(attempt(wrapping_key, &other, &wrapped, &check), Err(UnwrapError::Tag));
        assert_ne!(check_value(&secret(KEY), &other), check);
    }
    assert_ne!(root_check_value(&secret(KEY)), check);
}

#[test]
fn keys_wrap_and_unwrap() {
    let values = (any::<[u8; 32]>(), any::<[u8; 32]>(), "\\PC{0,40}", any::<u32>());
    for_all(20_000, values, |(wrapping_key, key, account, version)| {
        let key_id = KeyId::generate(Purpose::Data, &account).unwrap();
        let name = KeyName { account: &account, purpose: Purpose::Data, version, id: key_id };
        let check = check_value(&secret(key), &name);
        let wrapped = wrap(&secret(wrapping_key), &name, &secret(key)).unwrap();
        assert_ne!(wrap(&secret(wrapping_key), &name, &secret(key)).unwrap(), wrapped);
        let unwrapped = unwrap(&secret(wrapping_key), &name, &wrapped, &check).unwrap();
        assert_eq!(check_value(&unwrapped, &name), check);
    });
}

#[test]
fn key_ids_are_positive_and_differ() {
    let mut seen = HashSet::new();
    for purpose in [Purpose::Data, Purpose::Index, Purpose::Transit, Purpose::Wrapping] {
        for _ in 0..1_000 {
            let key_id = KeyId::generate(purpose, ACCOUNT).unwrap();
            assert!(i64::try_from(key_id.number()).is_ok_and(|number| number > 0));
            assert!(seen.insert(key_id));
        }
    }
    assert_eq!(KeyId::new(0), None);
    assert_eq!(KeyId::new(1 << 63), None);
}

#[test]
fn keys_do_not_print() {
    let print = |key: [u8; 32]| {
        let wrapped = format!("{:?}", secret(key));
        let fields = Suite::ALL.map(|suite| {
            let cipher = Cipher::new(suite, &reference::field_key(&key, "data", 1, 64, 1, ACCOUNT));
            format!("{:?} {cipher:?}", derive(key, 77, ACCOUNT, suite, FieldId::of("a")))
        });
        let token =
            format!("{:?}", TokenKey::derive(&secret(key), id(1), FieldId::of("a"), ACCOUNT));
        (wrapped, fields, token)
    };
    assert_eq!(print([1; 32]), print([2; 32]));
}

// token sections

/// The section with one group.
fn section_with(normalizer: u8, version: u8, [kind, scope, width]: [u8; 3], count: u16) -> Vec<u8> {
    let mut section = 77_u64.to_be_bytes().to_vec();
    section.extend([normalizer, version, kind, scope, width]);
    section.extend(count.to_be_bytes());
    section.resize(section.len() + usize::from(width) * usize::from(count), 0xEE);
    [&(section.len() as u16).to_be_bytes()[..], &section].concat()
}

/// Whether an envelope with these sections is well formed: by reading, then by sealing.
fn takes(key: &FieldKey, sections: &[u8]) -> bool {
    let header = Header {
        suite: key.suite(),
        plaintext_type: PlaintextType::Text,
        flags: Flags::default(),
        key_id: key.key_id(),
        field_id: key.field_id(),
    };
    let mut envelope = vec![0; key.sealed_length(5, Padding::None, sections.len()).unwrap()];
    header.write(sections, &mut envelope).unwrap();
    let read = Envelope::parse(&envelope).map(|envelope| envelope.token_sections());
    let mut out = vec![0xA5; envelope.len()];
    let sealed = key.seal(b"value", Padding::None, sections, random::fill, &mut out);
    match read {
        Ok(read) => {
            assert_eq!((read, sealed), (sections, Ok(())));
            assert_eq!(open(key, &out).as_deref(), Some(&b"value"[..]));
            true
        }
        Err(error) => {
            assert_eq!((error, sealed), (FormatError::Tokens, Err(SealError::Malformed)));
            assert_eq!(out, vec![0xA5; out.len()], "something is written before the refusal");
            false
        }
    }
}

#[test]
fn later_versions_of_a_normalizer_are_accepted() {
    for suite in Suite::ALL {
        let key = field_key(suite);
        for normalizer in 0..=255 {
            for version in 0..=255 {
                let section = section_with(normalizer, version, [1, 0, 16], 1);
                assert_eq!(takes(&key, &section), normalizer <= 4 && version != 0, "{version}");
            }
        }
        // wherever it stands; its token is the first section's like any other
        let later = section_with(3, 2, [1, 0, 16], 1);
        for sections in [[sections(1), later.clone()].concat(), [later, sections(1)].concat()] {
            assert!(takes(&key, &sections));
            let found = equality_token(&sections).map(|found| found.token);
            assert_eq!(found.as_ref().map(|token| &token[..]), Some(&sections[17..33]));
        }
    }
}

#[test]
fn tokens_have_1_to_32_bytes() {
    let mut accepted = 0;
    for suite in Suite::ALL {
        let key = field_key(suite);
        for version in [1, 2, 255] {
            for kind in 0..=8 {
                for width in 0..=255 {
                    for count in [1, 2, 100] {
                        let section = section_with(0, version, [kind, 0, width], count);
                        let fits = match kind {
                            0 | 8 => false,
                            1 | 2 => width == 16 && count == 1,
                            _ => (1..=32).contains(&width),
                        };
                        assert_eq!(takes(&key, &section), fits, "{kind} {width} {count}");
                        accepted += usize::from(fits);
                    }
                }
            }
        }
    }
    println!("groups accepted: {accepted}");
    assert_eq!(accepted, 3 * 3 * (2 + 5 * 32 * 3));
}

/// What reading refuses is not written, and the other way round.
#[test]
fn sealing_and_reading_agree() {
    let accepted = Cell::new(0);
    for_all(100_000, (suites(), likely_sections()), |(suite, sections)| {
        let taken = takes(&field_key(suite), &sections);
        accepted.set(accepted.get() + usize::from(taken && !sections.is_empty()));
    });
    println!("token sections: 100000, {} of them well formed and not empty", accepted.get());
    assert!(accepted.get() > 5_000);
    // cut anywhere but between two of them
    for suite in Suite::ALL {
        let whole = sections(3);
        for length in 0..=whole.len() {
            assert_eq!(takes(&field_key(suite), &whole[..length]), length % 33 == 0);
        }
    }
}

type Group = ((u8, u8), u8, Vec<Vec<u8>>);
type Section = (u64, u8, Vec<Group>);

/// Sections that are well formed: key id, normalizer and groups of each.
fn good_sections() -> impl Strategy<Value = Vec<Section>> {
    let tokens = |width, count| vec(vec(any::<u8>(), usize::from(width)), count);
    let equality = (1..=2_u8, 0..=1_u8, Just(16_u8), tokens(16, 1..=1));
    let other = (3..=7_u8, 0..=1_u8, 1..=32_u8, 1..=5_usize).prop_flat_map(
        move |(kind, scope, width, count)| {
            (Just(kind), Just(scope), Just(width), tokens(width, count..=count))
        },
    );
    let groups = vec(prop_oneof![equality, other], 0..6).prop_map(|groups| {
        let mut groups: Vec<Group> = groups
            .into_iter()
            .map(|(kind, scope, width, tokens)| ((kind, scope), width, tokens))
            .collect();
        groups.sort();
        groups.dedup_by_key(|group| group.0);
        groups
    });
    vec((1..u64::MAX >> 1, 0..=4_u8, groups), 0..4)
}

/// What was written is what is read, in the same order.
#[test]
fn tokens_are_read_as_they_were_written() {
    let (count, with_equality) = (Cell::new(0), Cell::new(0));
    for_all(50_000, (suites(), good_sections()), |(suite, written)| {
        let mut bytes = vec![];
        let mut expected = vec![];
        for (key_id, normalizer, groups) in &written {
            let mut section = [&key_id.to_be_bytes()[..], &[*normalizer, 1]].concat();
            for ((kind, scope), width, tokens) in groups {
                section.extend([*kind, *scope, *width]);
                section.extend((tokens.len() as u16).to_be_bytes());
                for token in tokens {
                    section.extend(token);
                    let (key_id, normalizer) = (id(*key_id), *normalizer);
                    let (kind, scope, bytes) = (*kind, *scope, token.as_slice());
                    expected.push(StoredToken { key_id, normalizer, kind, scope, bytes });
                }
            }
            bytes.extend((section.len() as u16).to_be_bytes());
            bytes.extend(section);
        }
        let key = field_key(suite);
        assert!(takes(&key, &bytes));
        assert_eq!(tokens(&bytes).collect::<Vec<_>>(), expected);
        let sealed = seal(&key, b"value", Padding::None, &bytes);
        let envelope = Envelope::parse(&sealed).unwrap();
        assert_eq!(envelope.tokens().collect::<Vec<_>>(), expected);
        // the first section's exact or, without one, unique token; pairs are in ascending order
        let first = written.first().and_then(|(key_id, _, groups)| {
            let group = groups.iter().find(|((kind, _), ..)| *kind <= 2)?;
            let token = group.2[0].as_slice().try_into().unwrap();
            Some(IndexToken { key_id: id(*key_id), token })
        });
        assert_eq!(envelope.equality_token(), first);
        assert_eq!(first_equality(&envelope), first);
        for found in envelope.tokens() {
            for kind in [Kind::Exact, Kind::Unique, Kind::Member] {
                for scope in [Scope::Account, Scope::Database] {
                    let same = (found.kind, found.scope) == (kind as u8, scope as u8);
                    assert_eq!(found.is(kind, scope), same);
                }
            }
        }
        count.set(count.get() + expected.len());
        with_equality.set(with_equality.get() + usize::from(first.is_some()));
    });
    println!("tokens read: {}, first an equality token: {}", count.get(), with_equality.get());
    assert!(count.get() > 100_000 && with_equality.get() > 10_000);
}

/// Sections cut anywhere give the tokens of what is whole, and nothing else.
#[test]
fn tokens_of_cut_sections_are_those_that_are_whole() {
    let mixed = mixed_sections();
    let whole = mixed.concat();
    let all: Vec<_> = tokens(&whole).collect();
    assert_eq!(all.iter().map(|token| token.kind).collect::<Vec<_>>(), [2, 2, 1, 7, 7, 7]);
    for length in 0..=whole.len() {
        let (mut end, mut count) = (0, 0);
        for (section, tokens) in mixed.iter().zip([1, 1, 1, 3]) {
            end += section.len();
            count += if end <= length { tokens } else { 0 };
        }
        assert_eq!(tokens(&whole[..length]).collect::<Vec<_>>(), all[..count], "{length}");
    }
    // without a check in front, no width makes it panic or loop
    for byte in 0..=255 {
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] = byte;
            assert!(tokens(&changed).count() <= whole.len());
            let _ = equality_token(&changed);
        }
    }
}

#[test]
fn member_sections_hold_the_starts_of_exact_tokens() {
    let key_id = id(u64::from(account_tag(ACCOUNT)) << 32 | 1);
    let most = (usize::from(u16::MAX) - 15) / MEMBER_TOKEN_LENGTH;
    // what fits into a header behind its fixed part
    let sealable = (MAXIMUM_HEADER_LENGTH - FIXED_HEADER_LENGTH - 17) / MEMBER_TOKEN_LENGTH;
    assert_eq!((most, sealable), (8_190, 8_187));
    let made: Vec<[u8; MEMBER_TOKEN_LENGTH]> = (0..=most)
        .map(|number| {
            let field_id = FieldId::of(["lead.ssn", "lead.tax_id"][number % 2]);
            let key = TokenKey::derive(&secret([7; 32]), key_id, field_id, ACCOUNT);
            let value = number.to_string();
            let token = key.equality(Kind::Exact, Scope::Account, value.as_bytes()).token;
            *token.first_chunk().unwrap()
        })
        .collect();
    assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    let key = field_key(Suite::Xaes256Gcm);
    let counts = (0..=40).chain([255, 256, 257, 4_095, sealable, sealable + 1, most, most + 1]);
    for count in counts {
        for normalizer in Normalizer::ALL {
            for scope in [Scope::Account, Scope::Database] {
                let members = &made[..count];
                let section = member_section(key_id, normalizer, scope, members);
                assert_eq!(section.is_some(), count <= most, "{count}");
                let Some(section) = section else { continue };
                let mut expected = ((15 + 8 * count) as u16).to_be_bytes().to_vec();
                expected.extend(key_id.number().to_be_bytes());
                expected.extend([normalizer.number(), normalizer.version(), 7, scope as u8, 8]);
                expected.extend((count as u16).to_be_bytes());
                expected.extend(members.concat());
                assert_eq!(section, expected, "{count}");
                let found: Vec<_> = tokens(&section).collect();
                assert_eq!(found.len(), count);
                for (found, member) in found.iter().zip(members) {
                    assert!(found.is(Kind::Member, scope) && found.key_id == key_id);
                    assert_eq!(found.normalizer, normalizer.number());
                    assert_eq!(found.bytes, member);
                }
                assert_eq!(equality_token(&section), None);
                if count <= sealable {
                    // a section of none is not written, as it is not read
                    assert_eq!(takes(&key, &section), count > 0, "{count}");
                } else {
                    let room = key.sealed_length(2, Padding::None, section.len()).unwrap();
                    let mut out = vec![0; room];
                    let result = key.seal(b"{}", Padding::None, &section, random::fill, &mut out);
                    assert_eq!(result, Err(SealError::TooLong), "{count}");
                }
            }
        }
    }
}

/// The first section's token is the one that `=` looks at, exact or unique, whatever follows it.
#[test]
fn the_first_section_has_the_equality_token() {
    let [unique, database, exact, members] = mixed_sections();
    for (sections, first) in [
        (vec![&unique, &database, &exact, &members], Some(&unique)),
        (vec![&exact, &unique], Some(&exact)),
        (vec![&database, &exact], Some(&database)),
        (vec![&members, &exact], None),
        (vec![&members], None),
        (vec![], None),
    ] {
        let sections: Vec<u8> = sections.into_iter().flatten().copied().collect();
        let found = equality_token(&sections);
        assert_eq!(
            found.map(|found| found.token.to_vec()),
            first.map(|first| first[17..].to_vec())
        );
        let key_id = found.map(|found| found.key_id.number().to_be_bytes().to_vec());
        assert_eq!(key_id, first.map(|first| first[2..10].to_vec()));
    }
}

#[test]
fn nothing_is_sealed_that_nobody_can_read() {
    let purposes =
        [Purpose::Data, Purpose::Transit, Purpose::Index, Purpose::Root, Purpose::Wrapping];
    let (mut sealed, mut refused) = (0, 0);
    for suite in Suite::ALL {
        for purpose in purposes {
            for field_id in [FieldId::NONE, FieldId::of("lead.ssn")] {
                let key = FieldKey::derive(&secret(KEY), id(77), purpose, ACCOUNT, suite, field_id);
                for padding in Padding::ALL {
                    for sections in [sections(0), sections(1), section_of(12), sections(2)] {
                        let allowed = match purpose {
                            Purpose::Data => !field_id.is_none(),
                            Purpose::Transit => sections.is_empty(),
                            _ => false,
                        };
                        let length = key.sealed_length(5, padding, sections.len()).unwrap();
                        let mut out = vec![0xA5; length];
                        let asked = Cell::new(false);
                        let nonce = |nonce: &mut [u8]| {
                            asked.set(true);
                            random::fill(nonce)
                        };
                        let result = key.seal(b"value", padding, &sections, nonce, &mut out);
                        assert_eq!(asked.get(), allowed);
                        if allowed {
                            assert_eq!(result, Ok(()));
                            assert_eq!(open(&key, &out).as_deref(), Some(&b"value"[..]));
                            sealed += 1;
                        } else {
                            assert_eq!(result, Err(SealError::Malformed), "{purpose:?}");
                            assert_eq!(out, vec![0xA5; length]);
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    println!("seals allowed: {sealed}, refused: {refused}");
    assert_eq!((sealed, refused), (3 * 6 * (4 + 2), 3 * 6 * (4 + 6 + 24)));
}

// limits

#[test]
fn a_header_has_64_kib_at_most() {
    let most = MAXIMUM_HEADER_LENGTH - FIXED_HEADER_LENGTH;
    let key = field_key(Suite::Aes256Gcm);
    let sealed = seal(&key, b"value", Padding::None, &section_of(most));
    assert_eq!(open(&key, &sealed).as_deref(), Some(&b"value"[..]));
    let more = section_of(most + 1);
    let mut out = vec![0; key.sealed_length(5, Padding::None, more.len()).unwrap()];
    let result = key.seal(b"value", Padding::None, &more, random::fill, &mut out);
    assert_eq!(result, Err(SealError::TooLong));
    let mut longer = [&sealed[..FIXED_HEADER_LENGTH], &more, &[0; 33]].concat();
    longer[21..23].copy_from_slice(&(more.len() as u16).to_be_bytes());
    assert_eq!(Envelope::parse(&longer).err(), Some(FormatError::Length));
}

#[test]
fn an_envelope_has_512_mib_at_most() {
    let sealed = seal(&field_key(Suite::Aes256Gcm), b"", Padding::None, &[]);
    let mut long = vec![0; MAXIMUM_LENGTH + 1];
    long[..sealed.len()].copy_from_slice(&sealed);
    assert!(Envelope::parse(&long[..MAXIMUM_LENGTH]).is_ok());
    assert_eq!(Envelope::parse(&long).err(), Some(FormatError::Length));
    let mut text = vec![0; 4 + MAXIMUM_LENGTH / 3 * 4 + 8];
    text[..4].copy_from_slice(b"fc1:");
    assert_eq!(from_text(&text), Err(FormatError::Length));

    for suite in Suite::ALL {
        let key = field_key(suite);
        let overhead = FIXED_HEADER_LENGTH + suite.nonce_length() + suite.tag_length();
        let most = match suite {
            Suite::Aes256CbcHmacSha512 => (MAXIMUM_LENGTH - overhead) / 16 * 16 - 1,
            _ => MAXIMUM_LENGTH - overhead,
        };
        assert!(key.sealed_length(most, Padding::None, 0).unwrap() <= MAXIMUM_LENGTH);
        for length in [most + 1, MAXIMUM_LENGTH, MAXIMUM_LENGTH + 1, usize::MAX] {
            let result = key.sealed_length(length, Padding::None, 0);
            assert_eq!(result, Err(SealError::TooLong), "{suite:?} {length}");
        }
        assert_eq!(key.sealed_length(most, Padding::To1024, 0), Err(SealError::TooLong));
    }
}

#[test]
fn a_failed_seal_leaves_no_plaintext() {
    for suite in Suite::ALL {
        let key = field_key(suite);
        let plaintext = [b'#'; 100];
        let length = key.sealed_length(100, Padding::None, 0).unwrap();
        let mut out = vec![0; length];
        let fail = |_: &mut [u8]| Err(SealError::Random);
        let result = key.seal(&plaintext, Padding::None, &[], fail, &mut out);
        assert_eq!(result, Err(SealError::Random));
        for wrong in [0, length - 1, length + 1] {
            let mut short = vec![0; wrong];
            let result = key.seal(&plaintext, Padding::None, &[], random::fill, &mut short);
            assert_eq!(result, Err(SealError::TooLong));
            out.extend(short);
        }
        assert!(!out.windows(4).any(|window| window == b"####"));
    }
}

// text form

/// One envelope has one text: exhaustive over all ASCII texts of up to three characters.
#[test]
fn texts_are_canonical() {
    let mut accepted = [0; 4];
    let mut seen = HashSet::new();
    for length in 0..=3 {
        for number in 0..128_usize.pow(length) {
            let characters = (0..length).map(|at| (number >> (7 * at) & 0x7F) as u8);
            let text = [b"fc1:".to_vec(), characters.collect()].concat();
            if let Ok(bytes) = from_text(&text) {
                assert_eq!(to_text(&bytes).as_bytes(), text);
                assert!(seen.insert(bytes));
                accepted[length as usize] += 1;
            }
        }
    }
    // nothing, no byte in one character, one byte in two, two bytes in three
    assert_eq!(accepted, [1, 0, 256, 65_536]);
    let accepted = Cell::new(0);
    for_all(100_000, "fc1:[A-Za-z0-9_-]{0,40}", |text| {
        if let Ok(bytes) = from_text(text.as_bytes()) {
            assert_eq!(to_text(&bytes), text);
            accepted.set(accepted.get() + 1);
        }
    });
    assert!(accepted.get() > 10_000);
}

/// What is not base64url, or longer than it has to be, at every place of a text.
#[test]
fn texts_take_nothing_else_in() {
    let strangers = "+/=.,:;!~ \t\r\n\0\u{B}\u{7F}é\u{200B}";
    for length in [90, 91, 92] {
        let bytes = seal(&field_key(Suite::Aes256Gcm), &[b'x'; 41], Padding::None, &[]);
        let text = to_text(&bytes[..length]);
        assert_eq!(from_text(text.as_bytes()).as_deref(), Ok(&bytes[..length]));
        for place in 4..=text.len() {
            for stranger in strangers.chars() {
                let (start, end) = text.split_at(place);
                let inserted = format!("{start}{stranger}{end}");
                assert_eq!(from_text(inserted.as_bytes()), Err(FormatError::Base64));
                if let Some(end) = end.get(1..) {
                    let replaced = format!("{start}{stranger}{end}");
                    assert_eq!(from_text(replaced.as_bytes()), Err(FormatError::Base64));
                }
            }
        }
        for padding in ["=", "==", "===", "A=", "\n"] {
            let padded = format!("{text}{padding}");
            assert_eq!(from_text(padded.as_bytes()), Err(FormatError::Base64));
        }
        let invalid = [text.as_bytes(), &[0xFF]].concat();
        assert_eq!(from_text(&invalid), Err(FormatError::Base64));
    }
}

#[test]
fn reserved_texts_are_those_of_every_format() {
    for_all(20_000, "fc[1-9][0-9]{0,20}:\\PC{0,20}", |text| {
        assert!(is_reserved_text(text.as_bytes()));
    });
    let others = [
        "fc0[0-9]{0,4}:\\PC{0,9}",
        "fc[0-9]{0,4}[^0-9:]\\PC{0,9}",
        "fc:\\PC{0,9}",
        "fc[0-9]{0,9}",
        "[^f]\\PC{0,9}",
        "f[^c]\\PC{0,9}",
    ];
    for other in others {
        for_all(5_000, other, |text| assert!(!is_reserved_text(text.as_bytes()), "{text:?}"));
    }
}

// padding

#[test]
fn padding_is_taken_off_again() {
    for padding in Padding::ALL.into_iter().filter(|padding| *padding != Padding::None) {
        let bucket: usize = padding.name().parse().unwrap();
        for length in 0..=2 * bucket + 1 {
            let padded = padding.padded_length(length);
            assert!(padded % bucket == 0 && padded > length && padded <= length + bucket);
            // a value may end in zeros or in what looks like padding
            for end in [b'x', 0, 0x80] {
                let mut buffer = vec![0xA5; padded];
                buffer[..length].fill(end);
                pad(&mut buffer, length);
                assert_eq!(unpadded_length(&buffer), Ok(length));
                assert_eq!(buffer[..length], vec![end; length]);
            }
        }
    }
    for_all(100_000, vec(select(vec![0, 0x80, 1, 0xFF]), 0..40), |bytes| {
        let end = bytes.iter().rposition(|&byte| byte != 0);
        let expected = end.filter(|&end| bytes[end] == 0x80).ok_or(OpenError);
        assert_eq!(unpadded_length(&bytes), expected);
    });
}

// normalizers and masks

/// Characters that fold, compose or reorder in their own ways, and their neighbours.
fn tricky_text() -> impl Strategy<Value = String> {
    let tricky = "aZ09 +-()@.ßẞıİIſKÅΣσςΐΰᾼᾳͅʼnŉǰẖﬁﬀĳǅ℡™①²½١۱１＋　 \u{A0}\u{85}\u{2028}¨´˜ˆ\
        \u{300}\u{301}\u{308}\u{327}\u{345}\u{5B0}\u{64B}\u{93C}\u{1100}\u{1161}\u{11A8}가각\
        \u{AD}\u{200B}\u{200D}\u{FEFF}\u{1D400}\u{1E921}\u{10400}日本Ԁꭰ";
    let tricky: Vec<char> = tricky.chars().collect();
    prop_oneof![
        vec(select(tricky), 0..12).prop_map(String::from_iter),
        vec(any::<char>(), 0..12).prop_map(String::from_iter),
        "\\PC{0,20}",
        "[ +0-9()/-]{0,20}",
    ]
}

fn normalised(normalizer: Normalizer, text: &str) -> Option<String> {
    normalizer.apply(text, |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn normalising_twice_changes_nothing() {
    let check = |text: &str| {
        for normalizer in Normalizer::ALL {
            let Some(once) = normalised(normalizer, text) else {
                continue;
            };
            let twice = normalised(normalizer, &once);
            assert_eq!(twice, Some(once), "{normalizer:?} {text:?}");
        }
    };
    let mut characters = 0;
    for character in '\0'..=char::MAX {
        check(character.encode_utf8(&mut [0; 4]));
        check(&format!("a{character}\u{345}\u{301}"));
        characters += 1;
    }
    println!("characters normalised: {characters}");
    assert_eq!(characters, 0x11_0000 - 0x800);
    for_all(200_000, tricky_text(), |text| check(&text));
}

#[test]
fn normalised_forms_have_their_alphabet() {
    for_all(100_000, tricky_text(), |text| {
        let apply = |normalizer: Normalizer| normalised(normalizer, &text);
        assert_eq!(apply(Normalizer::None).as_deref(), Some(&*text));
        let digits = apply(Normalizer::Digits);
        assert!(digits.iter().all(|digits| digits.bytes().all(|b| b.is_ascii_digit())));
        if let Some(phone) = apply(Normalizer::Phone) {
            let number = phone.strip_prefix('+').unwrap_or(&phone);
            assert!(number.bytes().all(|b| b.is_ascii_digit()), "{phone:?}");
            assert_eq!(number.is_empty(), text.is_empty(), "{phone:?}");
        }
        for normalizer in [Normalizer::Casefold, Normalizer::Email] {
            let folded = apply(normalizer);
            assert!(folded.iter().all(|folded| !folded.contains(|c: char| c.is_ascii_uppercase())));
        }
        if let Some(email) = apply(Normalizer::Email) {
            assert_eq!(email.trim(), email);
            // white space around an address does not count
            let padded = format!("\t\u{3000}{text}\u{A0}\n");
            let email = (!text.is_empty()).then_some(email);
            assert_eq!(normalised(Normalizer::Email, &padded), email);
        }
        // nothing is left only where there was something
        for normalizer in Normalizer::ALL {
            assert_eq!(apply(normalizer).as_deref() == Some(""), text.is_empty());
        }
    });
}

/// Any text, with line ends and all.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "(?s).{0,24}",
        tricky_text(),
        "[0-9 -]{0,24}",
        "[a-z.]{0,5}@?[a-z.]{0,9}",
        "[0-9]{4}-[0-1][0-9]-[0-3][0-9][ T0-9:]{0,6}",
        vec(character(), 0..24).prop_map(|characters| characters.concat()),
        vec(
            select(vec!["\r", "\n", "🇩", "🇪", "क", "त", "\u{94D}", "\u{200D}", "👩", "\u{600}"]),
            0..12
        )
        .prop_map(|parts| parts.concat()),
        // longer than what is looked at as a whole
        vec(character(), 60..90).prop_map(|characters| characters.concat()),
    ]
}

/// What a reader takes for one character, and what stays one beside any other.
fn character() -> impl Strategy<Value = String> {
    let several = [
        "e\u{301}",
        "🇩🇪",
        "👩\u{200D}👩\u{200D}👧",
        "👋🏽",
        "한",
        "स्ते",
        "\r\n",
        "\u{1112}\u{1161}\u{11AB}",
    ];
    prop_oneof![
        "[ -~]",
        "[ -~]",
        "[äßЖ日\u{A0}\u{200B}]",
        select(several.map(str::to_owned).to_vec())
    ]
}

/// Masks of every kind as they are written.
fn mask_form() -> impl Strategy<Value = String> {
    let names: Vec<_> = Mask::FORMS.iter().filter(|form| !form.contains('(')).collect();
    let shown = || 1..=MOST_SHOWN;
    let text = "[ !#-~ä·]{0,10}[*]{3}[ !#-~ä·]{0,10}";
    prop_oneof![
        select(names).prop_map(|name| (*name).to_owned()),
        (select(vec!["first", "last", "digits"]), prop_oneof![1..=5_u8, shown()])
            .prop_map(|(name, n)| format!("{name}({n})")),
        (shown(), shown()).prop_map(|(n, m)| format!("first_last({n}, {m})")),
        (0..=3_u8, text, 0..=3_u8)
            .prop_map(|(n, text, m)| format!("partial({n},\"{text}\" , {m})")),
    ]
}

/// A mask of every form.
fn each_mask() -> Vec<Mask> {
    let forms = Mask::FORMS.map(|form| form.replace("(n", "(2").replace(", m", ", 1"));
    forms.iter().map(|form| Mask::parse(form).unwrap()).collect()
}

/// Whether a character would be seen.
fn is_visible(character: &str) -> bool {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    character.chars().any(|c| !c.is_whitespace() && !c.is_control() && !ignorable.contains(c))
}

/// What a mask shows of the first and last characters, by all of the text.
fn partial(text: &str, first: u8, hidden: &str, last: u8) -> String {
    let (first, last) = (usize::from(first), usize::from(last));
    let characters: Vec<&str> = text.graphemes(true).collect();
    let Some(end) = characters.len().checked_sub(last).filter(|end| first <= *end) else {
        return HIDDEN.to_owned();
    };
    if characters[first..end].iter().filter(|hidden| is_visible(hidden)).count() < first + last {
        return HIDDEN.to_owned();
    }
    format!("{}{hidden}{}", characters[..first].concat(), characters[end..].concat())
}

#[test]
fn masks_show_no_more_than_they_say() {
    let shown_in_part = RefCell::new(HashSet::new());
    for_all(200_000, (mask_form(), any_text()), |(form, text)| {
        let mask = Mask::parse(&form).unwrap();
        let shown = mask.apply(&text);
        let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
        let digits = |range: std::ops::Range<usize>| String::from_iter(&digits[range]);
        let count = digits(0..text.chars().filter(char::is_ascii_digit).count()).len();
        let expected = match &mask {
            Mask::Partial { first, hidden, last } => partial(&text, *first, hidden, *last),
            Mask::Digits(last) => match count.checked_sub(usize::from(*last)) {
                Some(hidden) if hidden >= usize::from(*last) => {
                    format!("****{}", digits(hidden..count))
                }
                _ => HIDDEN.to_owned(),
            },
            Mask::Email | Mask::EmailDomain => {
                let first = u8::from(mask == Mask::Email);
                let (name, domain) = text.trim().rsplit_once('@').unwrap_or_default();
                let name = partial(name, first, "****", 0);
                let no_domain = |c: char| {
                    let is_punctuation = c.is_ascii_punctuation() && c != '-' && c != '.';
                    c.is_whitespace() || c.is_control() || is_punctuation
                };
                if name == HIDDEN || domain.is_empty() || domain.contains(no_domain) {
                    HIDDEN.to_owned()
                } else {
                    format!("{name}@{domain}")
                }
            }
            Mask::Pan => {
                let is_number = text.chars().all(|c| c == ' ' || c == '-' || c.is_ascii_digit());
                if is_number && (13..=19).contains(&count) {
                    let hidden = "*".repeat(count - 10);
                    format!("{}{hidden}{}", digits(0..6), digits(count - 4..count))
                } else {
                    HIDDEN.to_owned()
                }
            }
            Mask::Year | Mask::Month => {
                let date = text.split([' ', 'T']).next().unwrap();
                let parts: Vec<&str> = date.split('-').collect();
                let in_range = |part: &str, range: std::ops::RangeInclusive<u8>| {
                    part.len() == 2
                        && !part.starts_with('+')
                        && part.parse().is_ok_and(|n| range.contains(&n))
                };
                match parts.as_slice() {
                    [year, month, day]
                        if year.len() == 4
                            && year.bytes().all(|b| b.is_ascii_digit())
                            && in_range(month, 1..=12)
                            && in_range(day, 1..=31) =>
                    {
                        let month = if mask == Mask::Month { month } else { "**" };
                        format!("{year}-{month}-**")
                    }
                    _ => HIDDEN.to_owned(),
                }
            }
            Mask::Zero => "0".to_owned(),
            _ => {
                assert_eq!(shown, None);
                return;
            }
        };
        assert_eq!(shown.as_ref(), Some(&expected), "{form} {text:?}");
        if expected != HIDDEN {
            shown_in_part.borrow_mut().insert(form.split('(').next().unwrap().to_owned());
        }
        // what is written back is recognised
        assert!(mask == Mask::Zero || looks_masked(&expected), "{form} {text:?}");
    });
    // each was tried on values that it shows a part of
    let names: HashSet<_> =
        Mask::FORMS.iter().map(|form| form.split('(').next().unwrap().to_owned()).collect();
    assert_eq!(shown_in_part.into_inner(), &names - &HashSet::from(["null".to_owned()]));
}

/// Two values that differ only in what is hidden look the same, whatever their lengths are.
#[test]
fn masks_do_not_depend_on_what_they_hide() {
    let same = |form: &str, a: String, b: String| {
        let mask = Mask::parse(form).unwrap();
        assert_eq!(mask.apply(&a), mask.apply(&b), "{form} {a:?} {b:?}");
        assert_ne!(mask.apply(&a).as_deref(), Some(HIDDEN), "{form} {a:?}");
    };
    let characters = |count| vec(character(), count).prop_map(|characters| characters.concat());
    // of which eight at least are seen
    let hidden =
        || (characters(0..40), "[!-~]{8}", characters(0..40)).prop_map(|(a, b, c)| a + &b + &c);
    for_all(20_000, (hidden(), hidden(), characters(4..5)), |(a, b, shown)| {
        same("last(4)", format!("{a}{shown}"), format!("{b}{shown}"));
        same("first(4)", format!("{shown}{a}"), format!("{shown}{b}"));
        let both = |hidden| format!("{shown}{hidden}{shown}");
        same("first_last(4, 4)", both(&a), both(&b));
        same("partial(4, \"-***-\", 4)", both(&a), both(&b));
        same("partial(0, \"gone ***\", 0)", a.clone(), b.clone());
    });
    let digits = || "([^0-9]{0,3}[0-9]){4,20}[^0-9]{0,3}";
    let shown = "[0-9]([ ().-]{0,2}[0-9]){3}";
    for_all(50_000, (digits(), digits(), shown), |(a, b, shown)| {
        same("digits(4)", format!("{a}{shown}"), format!("{b}{shown}"));
    });
    let names = || "[!-?A-~]{1,20}";
    for_all(50_000, (names(), names(), "[!-?A-~]", "[a-z.-]{1,20}"), |(a, b, first, domain)| {
        same("email", format!("{first}{a}@{domain}"), format!("{first}{b}@{domain}"));
        same("email_domain", format!("{a}@{domain}"), format!("{b}@{domain}"));
    });
    let digits = (3..=9_usize, "[0-9]{9}", "[0-9]{9}", "[0-9]{6}", "[0-9]{4}");
    for_all(50_000, digits, |(hidden, a, b, start, end)| {
        let (a, b) = (&a[..hidden], &b[..hidden]);
        same("pan", format!("{start}{a}{end}"), format!("{start} {b}-{end}"));
    });
    let days = || "(0[1-9]|[12][0-9]|3[01])";
    let months = || "(0[1-9]|1[0-2])";
    let dates = ("[0-9]{4}", months(), months(), days(), days(), "([ T]\\PC{0,20})?");
    for_all(50_000, dates, |(year, month, other, a, b, time)| {
        same("year", format!("{year}-{month}-{a}"), format!("{year}-{other}-{b}{time}"));
        same("month", format!("{year}-{month}-{a}{time}"), format!("{year}-{month}-{b}"));
    });
}

#[test]
fn masks_are_parsed_strictly() {
    let number = |n: &u8| (1..=MOST_SHOWN).contains(n);
    for_all(20_000, (any::<u8>(), any::<u8>(), "[ *-]{0,40}"), |(n, m, text)| {
        for name in ["first", "last", "digits"] {
            assert_eq!(Mask::parse(&format!("{name}({n})")).is_ok(), number(&n));
        }
        let both = number(&n) && number(&m);
        assert_eq!(Mask::parse(&format!("first_last({n},{m})")).is_ok(), both);
        let fits = n <= MOST_SHOWN
            && m <= MOST_SHOWN
            && text.len() <= LONGEST_TEXT
            && text.contains("***");
        assert_eq!(Mask::parse(&format!("partial({n}, \"{text}\", {m})")).is_ok(), fits);
    });
    // what is written otherwise is none, and does no harm
    for_all(200_000, (mask_form(), any::<Index>(), "\\PC?"), |(form, at, other)| {
        let at = at.index(form.chars().count() + 1);
        let mut changed: Vec<String> = form.chars().map(String::from).collect();
        changed.insert(at, other);
        if let Ok(mask) = Mask::parse(&changed.concat()) {
            let is_kept = mask != Mask::parse(&form).unwrap();
            let in_parameters = form.find('(').is_some_and(|open| at > open);
            assert!(in_parameters || !is_kept, "{form} {changed:?}");
        }
    });
    for_all(100_000, any_text(), |text| {
        let _ = Mask::parse(&text);
        let _ = Mask::parse(&format!("partial({text})"));
    });
}

// nonces

#[test]
fn nonces_of_a_pool_are_all_different() {
    let mut pool = NoncePool::default();
    let mut seen = HashSet::new();
    let mut previous = vec![0; 12];
    let mut overlaps = [0; 12];
    for count in 0..20_000 {
        // of all lengths, so that they end at the buffer's end in all ways; longer than it, too
        let mut nonce = vec![0; [12, 16, 24, 4_095, 4_096, 5_000][count % 6]];
        pool.take(1, random::fill, &mut nonce).unwrap();
        assert!(seen.insert(nonce[..12].to_vec()));
        if nonce.len() >= 24 {
            assert!(seen.insert(nonce[nonce.len() - 12..].to_vec()));
        }
        // no byte is given out twice: the end of one nonce is not the beginning of the next
        for (length, overlaps) in (1..=12).zip(&mut overlaps) {
            *overlaps += u32::from(previous.ends_with(&nonce[..length]));
        }
        previous = nonce;
    }
    // by chance, one byte in 256
    assert!(overlaps.iter().all(|&overlaps| overlaps < 500), "{overlaps:?}");
}
