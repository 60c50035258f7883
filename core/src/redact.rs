//! SQL text without its values, for the server's log.
//!
//! Invariant: no character of a literal or a comment is left. What cannot be told from a literal
//! counts as one: a text that is no SQL loses too much, never too little.

use std::borrow::Cow;

/// What stands in place of a literal.
const VALUE: u8 = b'?';
/// Longest text that is taken apart, in bytes; a longer one is a value as a whole.
const LONGEST: usize = 1 << 20;

/// The text with `?` in place of each string, number and dollar-quoted body, and without comments.
/// Names, keywords, operators and parameters (`$1`) stay. `text` is in any encoding that keeps
/// ASCII, as all of PostgreSQL's server encodings do (PostgreSQL documentation, section 4.1).
///
/// Where a backslash stands before a quote, `standard_conforming_strings` says whether the literal
/// ends there; what it was when the text was read is not known, so all that follows goes.
///
/// It needs no more memory than the text has; without that it gives up, and does not abort.
pub fn redact(text: &[u8]) -> Cow<'_, [u8]> {
    let mut rest = text;
    let mut redacted = Vec::new();
    if text.len() > LONGEST || redacted.try_reserve_exact(text.len()).is_err() {
        return Cow::Borrowed(&[VALUE]);
    }
    while let Some(&first) = rest.first() {
        let (shown, length) = match first {
            b'\'' => (Shown::Value, string(rest, Backslash::Unknown)),
            b'"' => (Shown::AsItIs, quoted(rest, b'"', Backslash::Plain)),
            b'-' if rest.starts_with(b"--") => (Shown::Blank, line(rest)),
            b'/' if rest.starts_with(b"/*") => (Shown::Blank, block(rest)),
            b'$' => match dollar_quoted(rest) {
                Some(length) => (Shown::Value, length),
                None => (Shown::AsItIs, 1 + rest[1..].iter().take_while(|b| is_name(**b)).count()),
            },
            b'0'..=b'9' => (Shown::Value, number(rest)),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => (Shown::Value, number(rest)),
            _ if is_name(first) => name(rest),
            _ => (Shown::AsItIs, 1),
        };
        match shown {
            Shown::AsItIs => redacted.extend_from_slice(&rest[..length]),
            Shown::Value => redacted.push(VALUE),
            Shown::Blank => redacted.push(b' '),
        }
        rest = &rest[length..];
    }
    Cow::Owned(redacted)
}

#[derive(Clone, Copy)]
enum Shown {
    AsItIs,
    Value,
    Blank,
}

/// Letters, digits, the underscore, the dollar sign, and every byte outside ASCII.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// A name, or the prefix of a literal such as `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`.
fn name(text: &[u8]) -> (Shown, usize) {
    let (prefix, escapes) = match text {
        [b'E' | b'e', b'\'', ..] => (1, Backslash::Escape),
        [b'B' | b'b' | b'X' | b'x' | b'N' | b'n', b'\'', ..] => (1, Backslash::Unknown),
        [b'U' | b'u', b'&', b'\'', ..] => (2, Backslash::Plain),
        _ => return (Shown::AsItIs, text.iter().take_while(|b| is_name(**b)).count()),
    };
    (Shown::Value, prefix + string(&text[prefix..], escapes))
}

/// What a backslash is between quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// A character like any other.
    Plain,
    /// It escapes the next character.
    Escape,
    /// One or the other.
    Unknown,
}

/// The length of a string, with the parts that continue it on other lines: they are read in the
/// same way.
fn string(text: &[u8], backslash: Backslash) -> usize {
    let mut length = quoted(text, b'\'', backslash);
    while let Some(gap) = continues(&text[length..]) {
        length += gap + quoted(&text[length + gap..], b'\'', backslash);
    }
    length
}

/// How far it is to the next part of a string: white space with a line's end in it, and comments of
/// a line.
fn continues(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut new_line = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => new_line = true,
            b' ' | b'\t' | 0x0b | 0x0c => {}
            b'-' if text[at..].starts_with(b"--") => {
                at += line(&text[at..]);
                continue;
            }
            b'\'' if new_line => return Some(at),
            _ => return None,
        }
        at += 1;
    }
}

/// The length of what stands between two quotes, doubled ones inside; to the end if the second is
/// missing, or cannot be told.
fn quoted(text: &[u8], quote: u8, backslash: Backslash) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' && backslash == Backslash::Escape {
            at += 2;
        } else if byte == b'\\'
            && backslash == Backslash::Unknown
            && text.get(at + 1) == Some(&quote)
        {
            return text.len();
        } else if byte != quote {
            at += 1;
        } else if text.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    text.len()
}

/// The length of a comment to the end of its line.
fn line(text: &[u8]) -> usize {
    text.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(text.len())
}

/// The length of a comment `/* … */`, which may hold others.
fn block(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`; `None` if the text does not begin so.
fn dollar_quoted(text: &[u8]) -> Option<usize> {
    let is_tag = |b: &u8| *b != b'$' && is_name(*b);
    let tag = text[1..].iter().take_while(|b| is_tag(b)).count();
    let delimiter = text.get(..tag + 2)?;
    if delimiter.last() != Some(&b'$') || delimiter[1].is_ascii_digit() {
        return None;
    }
    let body = &text[delimiter.len()..];
    let end = body.windows(delimiter.len()).position(|window| window == delimiter);
    Some(end.map_or(text.len(), |end| end + 2 * delimiter.len()))
}

/// The length of a number, and of letters that follow it: `0xFF`, `1e10`, `1_000`.
fn number(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let sign_of_exponent =
            matches!(byte, b'+' | b'-') && at > 0 && matches!(text[at - 1], b'e' | b'E');
        let digits_follow = text.get(at + 1).is_some_and(u8::is_ascii_digit);
        let point = byte == b'.' && text.get(at + 1) != Some(&b'.');
        if !(is_name(byte) || point || sign_of_exponent && digits_follow) {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        String::from_utf8(redact(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn literals_go_and_the_rest_stays() {
        for (text, expected) in [
            ("SELECT 1", "SELECT ?"),
            ("SELECT $1, t1.c2 FROM t1", "SELECT $1, t1.c2 FROM t1"),
            (
                "INSERT INTO lead VALUES (1, 'Ann''s', -2.5e-3)",
                "INSERT INTO lead VALUES (?, ?, -?)",
            ),
            (r"SELECT 'a\b', 'c'", "SELECT ?, ?"),
            (r"SELECT 'a\', secret, 'b'", "SELECT ?"),
            (r"SELECT E'a\'b', 'c'", "SELECT ?, ?"),
            (r"SELECT e'\\', 'c'", "SELECT ?, ?"),
            ("SELECT B'01', x'ff', N'n', U&'d\\0061t', u&'x'", "SELECT ?, ?, ?, ?, ?"),
            ("SELECT U&\"d\" & 'x'", "SELECT U&\"d\" & ?"),
            ("SELECT \"it's\", 'x'", "SELECT \"it's\", ?"),
            ("DO $$ SELECT 'x' $$", "DO ?"),
            ("DO $a$ $$ $b$ $a$; SELECT 2", "DO ?; SELECT ?"),
            ("SELECT $1$2, a$b$c", "SELECT $1$2, a$b$c"),
            (
                "SELECT 1 -- secret\nFROM t /* a /* b */ c */ WHERE x = .5",
                "SELECT ?  \nFROM t   WHERE x = ?",
            ),
            ("SELECT 'open", "SELECT ?"),
            ("SELECT $x$open", "SELECT ?"),
            ("/* open", " "),
            ("SELECT 0xFF, 1_000, 1e10, 5..7, 12abc", "SELECT ?, ?, ?, ?.?, ?"),
            ("SELECT 'a'\n  'b', 1", "SELECT ?, ?"),
            ("SELECT E'a' -- x\n 'b\\'secret', 1", "SELECT ?, ?"),
            ("SELECT 'a' 'b'", "SELECT ? ?"),
            ("SELECT größe, 'größe'", "SELECT größe, ?"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }
}
