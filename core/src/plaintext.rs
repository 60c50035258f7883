//! Plaintext: the canonical bytes of each type, and the text by which a value is masked and found
//! (`docs/envelope.md` section 3).
//!
//! Invariant: a value has one canonical form, whatever the session that wrote it was set to. Types
//! of a fixed size take the same number of bytes for every value, so that an envelope's length does
//! not tell it.

use std::borrow::Cow;
use std::fmt::{self, Write};

use zeroize::Zeroizing;

use crate::envelope::PlaintextType;
use crate::mask::{HIDDEN, Mask};

/// What PostgreSQL takes for "no end" in a date: `infinity` and `-infinity`.
const DATE_INFINITY: [i32; 2] = [i32::MAX, i32::MIN];
/// The same in a timestamp.
const TIMESTAMP_INFINITY: [i64; 2] = [i64::MAX, i64::MIN];
/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH: i64 = 10_957;
/// The first day that PostgreSQL knows, 4714-11-24 BC, from 2000-01-01.
const FIRST_DAY: i64 = -2_451_545;
const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const MICROSECONDS_PER_DAY: i64 = 86_400 * MICROSECONDS_PER_SECOND;

/// A value in its canonical form, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plaintext<'a> {
    plaintext_type: PlaintextType,
    content: Content<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl fmt::Debug for Plaintext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // never the value
        f.debug_tuple("Plaintext").field(&self.plaintext_type).finish_non_exhaustive()
    }
}

impl<'a> Plaintext<'a> {
    /// A text.
    pub const fn text(text: &'a str) -> Self {
        Self { plaintext_type: PlaintextType::Text, content: Content::Text(text) }
    }

    /// JSON text.
    pub const fn json(text: &'a str) -> Self {
        Self { plaintext_type: PlaintextType::Json, content: Content::Text(text) }
    }

    /// Bytes as a value of that type; `None` if they cannot be one.
    pub fn new(plaintext_type: PlaintextType, bytes: &'a [u8]) -> Option<Self> {
        let is_sound = match plaintext_type.length() {
            Some(length) if bytes.len() != length => false,
            Some(_) => plaintext_type != PlaintextType::Boolean || bytes[0] <= 1,
            None => plaintext_type != PlaintextType::Numeric || is_numeric(bytes),
        };
        let content = match plaintext_type {
            PlaintextType::Text | PlaintextType::Json | PlaintextType::Numeric => {
                Content::Text(std::str::from_utf8(bytes).ok()?)
            }
            _ => Content::Bytes(bytes),
        };
        is_sound.then_some(Self { plaintext_type, content })
    }

    /// What it is.
    pub const fn plaintext_type(&self) -> PlaintextType {
        self.plaintext_type
    }

    /// Its canonical bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        match self.content {
            Content::Text(text) => text.as_bytes(),
            Content::Bytes(bytes) => bytes,
        }
    }

    /// Its text: what is masked, and normalised to become a token.
    pub fn as_text(&self) -> Cow<'a, str> {
        let bytes = match self.content {
            Content::Text(text) => return Cow::Borrowed(text),
            Content::Bytes(bytes) => bytes,
        };
        match self.plaintext_type {
            PlaintextType::Bigint => Cow::Owned(number(bytes).to_string()),
            PlaintextType::Date => Cow::Owned(date_text(number(bytes) as i32)),
            PlaintextType::Timestamptz => Cow::Owned(timestamp_text(number(bytes))),
            PlaintextType::Boolean if bytes == [1] => Cow::Borrowed("true"),
            PlaintextType::Boolean => Cow::Borrowed("false"),
            PlaintextType::Uuid => {
                let groups = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
                Cow::Owned(groups.map(|group| hexadecimal("", group)).join("-"))
            }
            _ => Cow::Owned(hexadecimal("\\x", bytes)),
        }
    }

    /// Hands its text to `work`, and wipes what was made of it.
    pub fn with_text<T>(&self, work: impl FnOnce(&str) -> T) -> T {
        match self.as_text() {
            Cow::Borrowed(text) => work(text),
            Cow::Owned(text) => work(&Zeroizing::new(text)),
        }
    }

    /// The text of a JSON string, wiped when dropped; `None` of every other value.
    pub fn json_string(&self) -> Option<Zeroizing<String>> {
        let text = self.as_text();
        (self.plaintext_type == PlaintextType::Json).then(|| unescaped(&text)).flatten()
    }

    /// What a role sees that has the right to that mask. `None` is SQL NULL. Of a text or JSON it is
    /// a text, of another type a value of that type.
    pub fn masked(&self, mask: &Mask) -> Option<Vec<u8>> {
        match (self.plaintext_type, mask) {
            (PlaintextType::Text, mask) => mask.apply(&self.as_text()).map(String::into_bytes),
            (PlaintextType::Json, Mask::Null) => None,
            (PlaintextType::Json, mask) => {
                let text = self.as_text();
                let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                let shown = match self.json_string() {
                    Some(string) => mask.apply(&string),
                    None if is_number => mask.apply(&text),
                    // a part of an object can be a whole value, and a part of `true` tells all of it
                    None => Some(HIDDEN.to_owned()),
                };
                shown.map(String::into_bytes)
            }
            (PlaintextType::Bigint, Mask::Zero) => Some(vec![0; 8]),
            (PlaintextType::Numeric, Mask::Zero) => Some(b"0".to_vec()),
            (PlaintextType::Date, mask) => {
                let days = number(self.bytes()) as i32;
                if DATE_INFINITY.contains(&days) {
                    return None;
                }
                let first = i32::try_from(first_day(i64::from(days), mask)?).ok()?;
                Some(first.to_be_bytes().to_vec())
            }
            (PlaintextType::Timestamptz, mask) => {
                let microseconds = number(self.bytes());
                if TIMESTAMP_INFINITY.contains(&microseconds) {
                    return None;
                }
                let first = first_day(microseconds.div_euclid(MICROSECONDS_PER_DAY), mask)?;
                let first = first.checked_mul(MICROSECONDS_PER_DAY)?;
                Some(first.to_be_bytes().to_vec())
            }
            _ => None,
        }
    }
}

/// Whether these are digits as PostgreSQL prints a numeric: without exponent, and with a leading
/// zero before the point only.
fn is_numeric(bytes: &[u8]) -> bool {
    if matches!(bytes, b"NaN" | b"Infinity" | b"-Infinity") {
        return true;
    }
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (whole, fraction) = match unsigned.iter().position(|&byte| byte == b'.') {
        Some(point) => (&unsigned[..point], Some(&unsigned[point + 1..])),
        None => (unsigned, None),
    };
    digits(whole) && (whole == b"0" || whole[0] != b'0') && fraction.is_none_or(digits)
}

/// The text of a JSON string as PostgreSQL prints it: without escaped surrogates.
fn unescaped(json: &str) -> Option<Zeroizing<String>> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?.chars();
    // it gets no longer, so that nothing is left behind in memory that was too small
    let mut text = Zeroizing::new(String::with_capacity(json.len()));
    while let Some(character) = rest.next() {
        text.push(match character {
            '\\' => match rest.next()? {
                'b' => '\u{8}',
                'f' => '\u{C}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let (code, behind) = rest.as_str().split_at_checked(4)?;
                    rest = behind.chars();
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                }
                escaped => escaped,
            },
            character => character,
        });
    }
    Some(text)
}

/// A signed integer of as many bytes as there are, at most 8; big-endian.
fn number(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |number, &byte| number << 8 | i64::from(byte))
}

fn hexadecimal(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(prefix.len() + bytes.len() * 2);
    text.push_str(prefix);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}

/// Year, month and day of a number of days since 2000-01-01, in the proleptic Gregorian calendar;
/// year 0 is 1 BC. The method is that of Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days.
fn civil(days: i64) -> (i64, i64, i64) {
    // from 0000-03-01, so that the leap day is a year's last
    let days = days + EPOCH + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// What a mask shows of a day: the first of its year or month. Both are days since 2000-01-01;
/// `None` before the first day that PostgreSQL knows, and of other masks.
fn first_day(days: i64, mask: &Mask) -> Option<i64> {
    let first = match mask {
        Mask::Year => first_of_year(days),
        Mask::Month => first_of_month(days),
        _ => return None,
    };
    (first >= FIRST_DAY).then_some(first)
}

fn first_of_year(days: i64) -> i64 {
    // the days of all years before it
    let before = civil(days).0 - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    before * 365 + leap_days - 730_119
}

fn first_of_month(days: i64) -> i64 {
    days - civil(days).2 + 1
}

/// ISO 8601, with ` BC` behind as PostgreSQL has it.
fn date_text(days: i32) -> String {
    match days {
        i32::MAX => return "infinity".to_owned(),
        i32::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let mut text = String::new();
    let era = write_date(&mut text, i64::from(days));
    text + era
}

fn timestamp_text(microseconds: i64) -> String {
    match microseconds {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let mut text = String::new();
    let era = write_date(&mut text, microseconds.div_euclid(MICROSECONDS_PER_DAY));
    let of_day = microseconds.rem_euclid(MICROSECONDS_PER_DAY);
    let (seconds, fraction) = (of_day / MICROSECONDS_PER_SECOND, of_day % MICROSECONDS_PER_SECOND);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    // writing to a String cannot fail
    let _ = write!(text, " {hours:02}:{minutes:02}:{seconds:02}.{fraction:06}+00{era}");
    text
}

/// Writes a date without its era, and returns that: empty, or ` BC`.
fn write_date(text: &mut String, days: i64) -> &'static str {
    let (year, month, day) = civil(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    // writing to a String cannot fail
    let _ = write!(text, "{year:04}-{month:02}-{day:02}");
    era
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests {
    use super::*;

    fn text(plaintext_type: PlaintextType, bytes: &[u8]) -> String {
        Plaintext::new(plaintext_type, bytes).unwrap().as_text().into_owned()
    }

    #[test]
    fn texts() {
        let date = |days: i32| text(PlaintextType::Date, &days.to_be_bytes());
        for (days, expected) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (-36_524, "1900-01-01"),
            (-10_957, "1970-01-01"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(date(days), expected);
        }
        let time =
            |microseconds: i64| text(PlaintextType::Timestamptz, &microseconds.to_be_bytes());
        for (microseconds, expected) in [
            (0, "2000-01-01 00:00:00.000000+00"),
            (-1, "1999-12-31 23:59:59.999999+00"),
            (86_399_999_999, "2000-01-01 23:59:59.999999+00"),
            (-211_813_488_000_000_000, "4714-11-24 00:00:00.000000+00 BC"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(time(microseconds), expected);
        }
        for number in [0, -1, i64::MIN, i64::MAX, 42] {
            assert_eq!(text(PlaintextType::Bigint, &number.to_be_bytes()), number.to_string());
        }
        assert_eq!(text(PlaintextType::Bytea, b"\x00\xffa"), "\\x00ff61");
        assert_eq!(text(PlaintextType::Bytea, b""), "\\x");
        assert_eq!(text(PlaintextType::Boolean, &[1]), "true");
        assert_eq!(text(PlaintextType::Boolean, &[0]), "false");
        assert_eq!(text(PlaintextType::Numeric, b"1.10"), "1.10");
        let uuid: Vec<u8> = (0xa0..0xb0).collect();
        assert_eq!(text(PlaintextType::Uuid, &uuid), "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(-800_000);
        for days in -799_999..200_000 {
            let (year, month, day) = civil(days);
            let next = match last {
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, d) if (y, m, d + 1) == (year, month, day) => (y, m, d + 1),
                (y, m, _) => (y, m + 1, 1),
            };
            assert_eq!((year, month, day), next);
            assert!((1..=31).contains(&day));
            let first = first_of_year(days);
            assert_eq!(civil(first), (year, 1, 1), "{days}");
            assert!(first <= days && days < first + 366);
            let first = first_of_month(days);
            assert_eq!(civil(first), (year, month, 1), "{days}");
            assert!(first <= days && days < first + 31);
            last = (year, month, day);
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for (plaintext_type, bytes) in [
            (PlaintextType::Text, &b"\xff"[..]),
            (PlaintextType::Json, b"\xff"),
            (PlaintextType::Numeric, b"\xc3\xa4"),
            (PlaintextType::Numeric, b""),
            (PlaintextType::Numeric, b"1e5"),
            (PlaintextType::Numeric, b"01"),
            (PlaintextType::Numeric, b"1."),
            (PlaintextType::Numeric, b"--1"),
            (PlaintextType::Bigint, b"1234567"),
            (PlaintextType::Date, b"12345"),
            (PlaintextType::Timestamptz, b""),
            (PlaintextType::Boolean, b"\x02"),
            (PlaintextType::Boolean, b""),
            (PlaintextType::Uuid, b"0123456789abcde"),
        ] {
            assert!(Plaintext::new(plaintext_type, bytes).is_none(), "{plaintext_type:?}");
        }
    }

    #[test]
    fn masks_of_other_types_are_values_of_these_types() {
        let masked = |plaintext_type, bytes: &[u8], mask: &str| {
            let mask = Mask::parse(mask).unwrap();
            let masked = Plaintext::new(plaintext_type, bytes).unwrap().masked(&mask)?;
            Some(text(plaintext_type, &masked))
        };
        let date = |days: i32, mask| masked(PlaintextType::Date, &days.to_be_bytes(), mask);
        assert_eq!(text(PlaintextType::Date, &9_000_i32.to_be_bytes()), "2024-08-22");
        assert_eq!(date(9_000, "year").unwrap(), "2024-01-01");
        assert_eq!(date(9_000, "month").unwrap(), "2024-08-01");
        assert_eq!(date(9_000, "last4"), None);
        for mask in ["year", "month"] {
            assert_eq!(date(i32::MAX, mask), None);
            assert_eq!(date(i32::MIN, mask), None);
        }
        // the first month that PostgreSQL knows whole is 4714-12 BC
        assert_eq!(date(-2_451_520, "year"), None);
        assert_eq!(date(-2_451_520, "month").unwrap(), "4714-12-01 BC");
        assert_eq!(date(-2_451_545, "month"), None);
        let time = |microseconds: i64, mask| {
            masked(PlaintextType::Timestamptz, &microseconds.to_be_bytes(), mask)
        };
        let moment = 777_777_777_777_777;
        assert_eq!(time(moment, "year").unwrap(), "2024-01-01 00:00:00.000000+00");
        assert_eq!(time(moment, "month").unwrap(), "2024-08-01 00:00:00.000000+00");
        assert_eq!(time(-1, "month").unwrap(), "1999-12-01 00:00:00.000000+00");
        assert_eq!(time(moment, "zero"), None);
        assert_eq!(time(i64::MIN, "year"), None);
        assert_eq!(time(i64::MAX, "month"), None);
        assert_eq!(masked(PlaintextType::Bigint, &42_i64.to_be_bytes(), "zero").unwrap(), "0");
        assert_eq!(masked(PlaintextType::Bigint, &42_i64.to_be_bytes(), "last(1)"), None);
        assert_eq!(masked(PlaintextType::Numeric, b"42.5", "zero").unwrap(), "0");
        assert_eq!(masked(PlaintextType::Numeric, b"42.5", "digits(1)"), None);
        assert_eq!(masked(PlaintextType::Uuid, &[7; 16], "first_last"), None);
        assert_eq!(masked(PlaintextType::Boolean, &[1], "zero"), None);
        assert_eq!(masked(PlaintextType::Bytea, b"12345678", "last4"), None);
    }

    #[test]
    fn masks_of_json_show_parts_of_strings_and_numbers_only() {
        for (json, mask, expected) in [
            (r#"["123-45-6789"]"#, "last4", HIDDEN),
            (r#"{"a": 12345678}"#, "digits(4)", HIDDEN),
            ("{}", "zero", HIDDEN),
            ("true", "first(1)", HIDDEN),
            ("false", "last(1)", HIDDEN),
            ("null", "first_last", HIDDEN),
            ("\"", "first(1)", HIDDEN),
            (r#""\u00""#, "first(1)", HIDDEN),
            (r#""123-45-6789""#, "last4", "****6789"),
            (
                r#""\"\\/\b\f\n\r\t\u0001é, and the rest""#,
                "first(10)",
                "\"\\/\u{8}\u{C}\n\r\t\u{1}é****",
            ),
            (r#""""#, "last4", HIDDEN),
            ("12345678", "last4", "****5678"),
            ("-12345678", "first(2)", "-1****"),
            ("42", "zero", "0"),
        ] {
            let mask = Mask::parse(mask).unwrap();
            let shown = Plaintext::json(json).masked(&mask).unwrap();
            assert_eq!(shown, expected.as_bytes(), "{json}");
        }
        assert_eq!(Plaintext::json("42").masked(&Mask::Null), None);
        assert_eq!(Plaintext::json("[]").masked(&Mask::Null), None);
    }
}
