//! Masks: what a role sees that may read a field only in part.
//!
//! Invariant: a mask shows no more than its name says, and nothing of a value too short for that: where
//! it shows n characters, at least n visible ones stay hidden. What is hidden is replaced by a fixed
//! text, so that a mask does not tell the value's length; of `pan`, PCI DSS fixes it. A character is
//! what a reader takes for one: an extended grapheme cluster (Unicode Standard Annex 29).

use icu_properties::props::{DefaultIgnorableCodePoint, GraphemeClusterBreak};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_segmentation::UnicodeSegmentation;

use crate::error::MaskError;

/// Shown in place of a value that is hidden as a whole.
pub const HIDDEN: &str = "********";
/// Shown in place of the hidden part of a value, unless the mask has a text of its own.
const PART: &str = "****";
/// What the text of a mask has to hold, so that what it shows looks masked.
const MARK: &str = "***";

/// Most characters that a mask shows at each end of a value.
pub const MOST_SHOWN: u8 = 64;
/// Longest text in place of the hidden part, in Unicode scalar values.
pub const LONGEST_TEXT: usize = 32;

/// Longest text that is looked at as a whole, in bytes.
const SHORT: usize = 64;

/// A mask with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// The first and the last characters, with a text between them: `****6789`, `A****n`,
    /// `***-**-6789`.
    Partial {
        /// How many characters are shown at the beginning.
        first: u8,
        /// Shown in place of what is between.
        hidden: Box<str>,
        /// How many characters are shown at the end.
        last: u8,
    },
    /// That many last digits, whatever stands between them: `****0199`.
    Digits(u8),
    /// The first character and the domain: `a****@example.com`.
    Email,
    /// The domain: `****@example.com`.
    EmailDomain,
    /// The first six and last four digits of 13 to 19: `411111******1111` (PCI DSS 3.4.1).
    Pan,
    /// The year of a date that begins `YYYY-MM-DD`: `1990-**-**`.
    Year,
    /// The year and month of such a date: `1990-12-**`.
    Month,
    /// `0`.
    Zero,
    /// SQL NULL.
    Null,
}

impl Mask {
    /// Every mask as it is written in SQL; `n` and `m` stand for numbers.
    pub const FORMS: [&str; 14] = [
        "first(n)",
        "last(n)",
        "last4",
        "first_last(n, m)",
        "first_last",
        "partial(n, \"***\", m)",
        "digits(n)",
        "email",
        "email_domain",
        "pan",
        "year",
        "month",
        "zero",
        "null",
    ];

    /// A mask as it is written in SQL.
    ///
    /// # Errors
    /// [`MaskError`] if there is none of that name, or it takes other parameters.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        let (name, parameters) = match text.split_once('(') {
            None => (text, Vec::new()),
            Some((name, parameters)) => {
                let parameters = parameters.strip_suffix(')').and_then(parameters_of);
                (name, parameters.ok_or(MaskError::Parameters)?)
            }
        };
        match (name, parameters.as_slice()) {
            ("first", [Parameter::Number(first)]) => Self::partial(shown(first)?, PART, 0),
            ("last", [Parameter::Number(last)]) => Self::partial(0, PART, shown(last)?),
            ("last4", []) => Self::partial(0, PART, 4),
            ("first_last", [Parameter::Number(first), Parameter::Number(last)]) => {
                Self::partial(shown(first)?, PART, shown(last)?)
            }
            ("first_last", []) => Self::partial(1, PART, 1),
            (
                "partial",
                [Parameter::Number(first), Parameter::Text(hidden), Parameter::Number(last)],
            ) => Self::partial(shown_or_none(first)?, hidden, shown_or_none(last)?),
            ("digits", [Parameter::Number(last)]) => shown(last).map(Self::Digits),
            ("email", []) => Ok(Self::Email),
            ("email_domain", []) => Ok(Self::EmailDomain),
            ("pan", []) => Ok(Self::Pan),
            ("year", []) => Ok(Self::Year),
            ("month", []) => Ok(Self::Month),
            ("zero", []) => Ok(Self::Zero),
            ("null", []) => Ok(Self::Null),
            _ if Self::FORMS.iter().any(|form| form.split('(').next() == Some(name)) => {
                Err(MaskError::Parameters)
            }
            _ => Err(MaskError::Name),
        }
    }

    fn partial(first: u8, hidden: &str, last: u8) -> Result<Self, MaskError> {
        let is_short = hidden.chars().count() <= LONGEST_TEXT;
        let is_printable = hidden.chars().all(|c| c == ' ' || is_visible(c));
        if hidden.contains(MARK) && is_short && is_printable {
            Ok(Self::Partial { first, hidden: hidden.into(), last })
        } else {
            Err(MaskError::Text)
        }
    }

    /// What is shown of `text`; `None` is SQL NULL.
    pub fn apply(&self, text: &str) -> Option<String> {
        let shown = match self {
            Self::Partial { first, hidden, last } => partial(text, *first, hidden, *last),
            Self::Digits(last) => digits(text, (*last).into()),
            Self::Email => email(text, 1),
            Self::EmailDomain => email(text, 0),
            Self::Pan => pan(text),
            Self::Year => date(text).map(|date| format!("{}-**-**", &date[..4])),
            Self::Month => date(text).map(|date| format!("{}-**", &date[..7])),
            Self::Zero => Some("0".to_owned()),
            Self::Null => return None,
        };
        Some(shown.unwrap_or_else(|| HIDDEN.to_owned()))
    }
}

/// Whether a text looks like something that a mask has made. Of `zero` no one can tell.
pub fn looks_masked(text: &str) -> bool {
    text.contains(MARK) || text.ends_with("-**")
}

/// A parameter as it is written.
enum Parameter<'a> {
    Number(&'a str),
    Text(&'a str),
}

/// Parameters between the parentheses: numbers, and texts in double quotes.
fn parameters_of(text: &str) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(' ');
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, behind) = quoted.split_once('"')?;
            parameters.push(Parameter::Text(text));
            rest = behind;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, behind) = rest.split_at(end);
            if number.is_empty() {
                return None;
            }
            parameters.push(Parameter::Number(number));
            rest = behind;
        }
        rest = rest.trim_start_matches(' ');
        if rest.is_empty() {
            return Some(parameters);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// A number of characters to be shown.
fn shown(number: &str) -> Result<u8, MaskError> {
    shown_or_none(number).and_then(|n| if n == 0 { Err(MaskError::Number) } else { Ok(n) })
}

fn shown_or_none(number: &str) -> Result<u8, MaskError> {
    let has_leading_zero = number.len() > 1 && number.starts_with('0');
    let number = number.parse().ok().filter(|n| *n <= MOST_SHOWN && !has_leading_zero);
    number.ok_or(MaskError::Number)
}

/// The first and the last characters, if at least as many visible ones stay hidden between them.
fn ends(text: &str, first: u8, last: u8) -> Option<(&str, &str)> {
    if is_simple(text) {
        let characters = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
        ends_of(text, characters, first, last)
    } else {
        ends_of(text, text.graphemes(true), first, last)
    }
}

/// Whether each scalar value is a character of its own, which is quickly told of what most values
/// are made of. It is not asked of long texts: only their ends are looked at.
fn is_simple(text: &str) -> bool {
    let class = CodePointMapData::<GraphemeClusterBreak>::new();
    let is_alone = |c| matches!(c, ' '..='~') || class.get(c) == GraphemeClusterBreak::Other;
    text.len() <= SHORT && text.chars().all(is_alone)
}

fn ends_of<'a>(
    text: &'a str,
    mut characters: impl DoubleEndedIterator<Item = &'a str>,
    first: u8,
    last: u8,
) -> Option<(&'a str, &'a str)> {
    let head: usize = characters.by_ref().take(first.into()).map(str::len).sum();
    let tail: usize = characters.by_ref().rev().take(last.into()).map(str::len).sum();
    let shown = usize::from(first) + usize::from(last);
    let hidden = characters.filter(|character| character.chars().any(is_visible)).take(shown);
    (hidden.count() == shown).then(|| (&text[..head], &text[text.len() - tail..]))
}

fn is_visible(c: char) -> bool {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    c.is_ascii_graphic() || !(c.is_whitespace() || c.is_control() || ignorable.contains(c))
}

fn partial(text: &str, first: u8, hidden: &str, last: u8) -> Option<String> {
    ends(text, first, last).map(|(head, tail)| [head, hidden, tail].concat())
}

fn digits(text: &str, last: usize) -> Option<String> {
    let mut digits = text.chars().rev().filter(char::is_ascii_digit);
    let shown: Vec<char> = digits.by_ref().take(last).collect();
    let are_enough = digits.take(last).count() == last;
    are_enough.then(|| PART.chars().chain(shown.into_iter().rev()).collect())
}

fn email(text: &str, first: u8) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let (head, _) = ends(local, first, 0).filter(|_| is_domain(domain))?;
    Some([head, PART, "@", domain].concat())
}

/// Whether a text can be a domain, in any script: what follows an `@` may be anything.
fn is_domain(text: &str) -> bool {
    let fits = |c: char| match c {
        '-' | '.' => true,
        _ if c.is_ascii() => c.is_ascii_alphanumeric(),
        _ => !c.is_whitespace() && !c.is_control(),
    };
    !text.is_empty() && text.chars().all(fits)
}

fn pan(text: &str) -> Option<String> {
    let separators = |c: char| c == ' ' || c == '-';
    if !text.chars().all(|c| c.is_ascii_digit() || separators(c)) {
        return None;
    }
    let digits = || text.chars().filter(char::is_ascii_digit);
    let count = digits().count();
    let shown = |(i, digit)| if (6..count - 4).contains(&i) { '*' } else { digit };
    (13..=19).contains(&count).then(|| digits().enumerate().map(shown).collect())
}

/// The date that a text begins with, if it is one of ISO 8601, alone or before a time.
fn date(text: &str) -> Option<&str> {
    let (date, time) = text.split_at_checked(10)?;
    let has_form = date.bytes().enumerate().all(|(i, b)| match i {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    });
    let number = |at: usize| (date.as_bytes()[at] - b'0') * 10 + date.as_bytes()[at + 1] - b'0';
    let is_date = has_form
        && (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && (time.is_empty() || time.starts_with([' ', 'T']));
    is_date.then_some(date)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests {
    use super::*;

    #[test]
    fn masks_show_what_they_say_and_no_more() {
        let cases = [
            ("last4", "123-45-6789", "****6789"),
            ("last4", "12345678", "****5678"),
            ("last4", "1234567", HIDDEN),
            ("last4", "", HIDDEN),
            ("last4", "äöüßäöüß", "****äöüß"),
            ("last(4)", "123-45-6789", "****6789"),
            ("last(1)", "ab", "****b"),
            ("last(1)", "a", HIDDEN),
            ("first(2)", "DE89 3704 0044", "DE****"),
            ("first(2)", "abcd", "ab****"),
            ("first(2)", "abc", HIDDEN),
            ("first_last", "Ann Smith", "A****h"),
            ("first_last", "Anna", "A****a"),
            ("first_last", "Ann", HIDDEN),
            ("first_last(4, 2)", "DE89370400440532013000", "DE89****00"),
            ("first_last(4,2)", "DE8937040013", "DE89****13"),
            ("first_last(4,2)", "DE893704013", HIDDEN),
            ("partial(0, \"***-**-\", 4)", "123-45-6789", "***-**-6789"),
            ("partial(0, \"***-**-\", 4)", "123456789", "***-**-6789"),
            ("partial(0, \"***-**-\", 4)", "6789", HIDDEN),
            ("partial(1, \"***@****.com\", 0)", "ann@example.org", "a***@****.com"),
            ("partial(2, \", *** (\", 1)", "abcdef", "ab, *** (f"),
            ("partial(0, \"*** secret ***\", 0)", "", "*** secret ***"),
            ("partial(0, \"*** secret ***\", 0)", "x", "*** secret ***"),
            ("digits(4)", "+1 (415) 555 01-99", "****0199"),
            ("digits(4)", "4155 0199", "****0199"),
            ("digits(4)", "155-0199", HIDDEN),
            ("digits(4)", "call me", HIDDEN),
            ("email", "ann@example.com", "a****@example.com"),
            ("email", " \"a@b\"@[192]example.com ", HIDDEN),
            ("email", " \"a@b\"@example.com ", "\"****@example.com"),
            ("email", "зоя@пример.рф", "з****@пример.рф"),
            ("email", "a@example.com", HIDDEN),
            ("email", "@example.com", HIDDEN),
            ("email", "ann@", HIDDEN),
            ("email", "ann", HIDDEN),
            ("email", "Ann <ann@example.com>", HIDDEN),
            ("email", "ask @ noon, 123-45-6789", HIDDEN),
            ("email_domain", "ann@example.com", "****@example.com"),
            ("email_domain", "a@example.com", "****@example.com"),
            ("email_domain", "@example.com", "****@example.com"),
            ("email_domain", "ann", HIDDEN),
            ("pan", "4111 1111 1111 1111", "411111******1111"),
            ("pan", "4222222222222", "422222***2222"),
            ("pan", "1234567890123456789", "123456*********6789"),
            ("pan", "422222222222", HIDDEN),
            ("pan", "41111111111111111111", HIDDEN),
            ("pan", "4111x11111111111", HIDDEN),
            ("pan", "", HIDDEN),
            ("year", "1990-12-31", "1990-**-**"),
            ("year", "1990-12-31 10:00", "1990-**-**"),
            ("month", "1990-12-31", "1990-12-**"),
            ("month", "1990-12-31T10:00Z", "1990-12-**"),
            ("month", "0044-03-15 BC", "0044-03-**"),
            ("year", "31.12.1990", HIDDEN),
            ("year", "1990-13-31", HIDDEN),
            ("year", "1990-00-31", HIDDEN),
            ("month", "1990-12-32", HIDDEN),
            ("month", "1990-12-00", HIDDEN),
            ("year", "1234-12-310", HIDDEN),
            ("year", "12345-01-01", HIDDEN),
            ("year", "1990-12", HIDDEN),
            ("year", "äöü-12-31", HIDDEN),
            ("zero", "42", "0"),
        ];
        for (mask, text, expected) in cases {
            let shown = Mask::parse(mask).unwrap().apply(text);
            assert_eq!(shown.as_deref(), Some(expected), "{mask} {text:?}");
        }
        assert_eq!(Mask::Null.apply("x"), None);
    }

    #[test]
    fn characters_are_what_a_reader_takes_for_one() {
        let cases = [
            // a letter with a mark
            ("last(2)", "rue\u{301}sume\u{301}", "****me\u{301}"),
            ("first(1)", "e\u{301}a", "e\u{301}****"),
            ("first(1)", "e\u{301}", HIDDEN),
            // a family, a flag, a hand of some colour
            ("last(1)", "x👩\u{200D}👩\u{200D}👧", "****👩\u{200D}👩\u{200D}👧"),
            ("last(1)", "👩\u{200D}👩\u{200D}👧", HIDDEN),
            ("last(1)", "🇫🇷🇩🇪", "****🇩🇪"),
            ("last(1)", "🇩🇪", HIDDEN),
            ("first_last", "👋🏽abc👋🏿", "👋🏽****👋🏿"),
            // syllables
            ("first(1)", "한국", "한****"),
            ("first(1)", "\u{1112}\u{1161}\u{11AB}국", "\u{1112}\u{1161}\u{11AB}****"),
            ("last(1)", "नमस्ते", "****स्ते"),
            // a line end
            ("last(1)", "ab\r\n", "****\r\n"),
            // what shows nothing hides nothing
            ("first(4)", "1234    ", HIDDEN),
            ("first(4)", "1234\u{200B}\u{FEFF}\u{2060}\u{AD}", HIDDEN),
            ("first(4)", "1234\u{3164}\u{E0020}\t\u{1}", HIDDEN),
            ("first(4)", "1234 a b c", HIDDEN),
            ("first(4)", "1234 a b c d", "1234****"),
            ("email", "a\u{200B}@example.com", HIDDEN),
        ];
        for (mask, text, expected) in cases {
            let shown = Mask::parse(mask).unwrap().apply(text);
            assert_eq!(shown.as_deref(), Some(expected), "{mask} {text:?}");
        }
    }

    #[test]
    fn only_masks_are_parsed() {
        for form in Mask::FORMS {
            let text = form.replace("(n", "(2").replace(", m", ", 64");
            assert!(Mask::parse(&text).is_ok(), "{text}");
        }
        assert_eq!(Mask::parse("last4"), Mask::parse("last(4)"));
        assert_eq!(Mask::parse("first_last"), Mask::parse("first_last( 1 ,1 )"));
        assert_eq!(Mask::parse("last(4)"), Mask::parse("partial(0, \"****\", 4)"));
        let cases = [
            ("", MaskError::Name),
            ("none", MaskError::Name),
            ("last5", MaskError::Name),
            ("Last4", MaskError::Name),
            (" last4", MaskError::Name),
            ("last4 ", MaskError::Name),
            ("last (4)", MaskError::Name),
            ("(4)", MaskError::Name),
            ("last", MaskError::Parameters),
            ("last4(4)", MaskError::Parameters),
            ("last4()", MaskError::Parameters),
            ("last()", MaskError::Parameters),
            ("last(4", MaskError::Parameters),
            ("last(4))", MaskError::Parameters),
            ("last(4) ", MaskError::Parameters),
            ("last(4,)", MaskError::Parameters),
            ("last(,4)", MaskError::Parameters),
            ("last(4 4)", MaskError::Parameters),
            ("last(-4)", MaskError::Parameters),
            ("last(+4)", MaskError::Parameters),
            ("last(4.0)", MaskError::Parameters),
            ("last(٤)", MaskError::Parameters),
            ("last(\"4\")", MaskError::Parameters),
            ("last(4,4)", MaskError::Parameters),
            ("first_last(4)", MaskError::Parameters),
            ("partial(1, 1)", MaskError::Parameters),
            ("partial(1, ***, 1)", MaskError::Parameters),
            ("partial(1, '***', 1)", MaskError::Parameters),
            ("partial(1, \"***, 1)", MaskError::Parameters),
            ("last(0)", MaskError::Number),
            ("last(04)", MaskError::Number),
            ("last(65)", MaskError::Number),
            ("last(260)", MaskError::Number),
            ("last(99999999999999999999)", MaskError::Number),
            ("first_last(1, 0)", MaskError::Number),
            ("partial(65, \"***\", 1)", MaskError::Number),
            ("partial(1, \"\", 1)", MaskError::Text),
            ("partial(1, \"**\", 1)", MaskError::Text),
            ("partial(1, \"XXX-XX-\", 1)", MaskError::Text),
            ("partial(1, \"***\n\", 1)", MaskError::Text),
            ("partial(1, \"***\u{202E}\", 1)", MaskError::Text),
            ("partial(1, \"*********************************\", 1)", MaskError::Text),
        ];
        for (text, error) in cases {
            assert_eq!(Mask::parse(text), Err(error), "{text:?}");
        }
    }
}
