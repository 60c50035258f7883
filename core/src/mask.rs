//! Masks: what a role sees that may read a field only in part.
//!
//! Invariant: a mask shows no more than its name says, and of a value too short for that, nothing.
//! What is hidden is replaced by a fixed run, so that a mask does not tell the value's length.

/// Shown in place of a value that is hidden as a whole.
pub const HIDDEN: &str = "********";
/// Shown in place of the hidden part of a value.
const PART: &str = "****";

/// A named mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// The last four characters, of eight or more: `****6789`.
    Last4,
    /// The first and the last character, of four or more: `A****n`.
    FirstLast,
    /// The first character and the domain: `a****@example.com`.
    Email,
    /// The first six and last four digits of 13 to 19: `411111******1111` (PCI DSS 3.4.1).
    Pan,
    /// The year of a date that begins `YYYY-MM-DD`: `1990-**-**`.
    Year,
    /// `0`.
    Zero,
    /// SQL NULL.
    Null,
}

impl Mask {
    /// Every mask.
    pub const ALL: [Self; 7] =
        [Self::Last4, Self::FirstLast, Self::Email, Self::Pan, Self::Year, Self::Zero, Self::Null];

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last4 => "last4",
            Self::FirstLast => "first_last",
            Self::Email => "email",
            Self::Pan => "pan",
            Self::Year => "year",
            Self::Zero => "zero",
            Self::Null => "null",
        }
    }

    /// The mask of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mask| mask.name() == name)
    }

    /// What is shown of `text`; `None` is SQL NULL. Characters are Unicode scalar values.
    pub fn apply(self, text: &str) -> Option<String> {
        let shown = match self {
            Self::Last4 => last4(text),
            Self::FirstLast => first_last(text),
            Self::Email => email(text),
            Self::Pan => pan(text),
            Self::Year => year(text),
            Self::Zero => Some("0".to_owned()),
            Self::Null => return None,
        };
        Some(shown.unwrap_or_else(|| HIDDEN.to_owned()))
    }
}

/// Whether a text looks like something that a mask has made. Of `zero` no one can tell.
pub fn looks_masked(text: &str) -> bool {
    text.contains(PART) || text.ends_with("-**-**")
}

fn last4(text: &str) -> Option<String> {
    let length = text.chars().count();
    let last: String = text.chars().skip(length.checked_sub(4)?).collect();
    (length >= 8).then(|| format!("{PART}{last}"))
}

fn first_last(text: &str) -> Option<String> {
    let (first, last) = (text.chars().next()?, text.chars().next_back()?);
    (text.chars().count() >= 4).then(|| format!("{first}{PART}{last}"))
}

fn email(text: &str) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let first = local.chars().next()?;
    // of a name of one character its first is all of it
    (local.chars().count() >= 2 && !domain.is_empty()).then(|| format!("{first}{PART}@{domain}"))
}

fn pan(text: &str) -> Option<String> {
    let separators = |c: char| c == ' ' || c == '-';
    if !text.chars().all(|c| c.is_ascii_digit() || separators(c)) {
        return None;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let hidden = digits.len().checked_sub(10)?;
    (13..=19)
        .contains(&digits.len())
        .then(|| format!("{}{}{}", &digits[..6], "*".repeat(hidden), &digits[6 + hidden..]))
}

fn year(text: &str) -> Option<String> {
    let date = text.as_bytes().first_chunk::<10>()?;
    let is_date = date.iter().enumerate().all(|(i, b)| match i {
        4 | 7 => *b == b'-',
        _ => b.is_ascii_digit(),
    });
    is_date.then(|| format!("{}-**-**", &text[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_show_what_they_say_and_no_more() {
        let cases = [
            (Mask::Last4, "123-45-6789", "****6789"),
            (Mask::Last4, "12345678", "****5678"),
            (Mask::Last4, "1234567", HIDDEN),
            (Mask::Last4, "", HIDDEN),
            (Mask::Last4, "äöüßäöüß", "****äöüß"),
            (Mask::FirstLast, "Ann Smith", "A****h"),
            (Mask::FirstLast, "Anna", "A****a"),
            (Mask::FirstLast, "Ann", HIDDEN),
            (Mask::Email, "ann@example.com", "a****@example.com"),
            (Mask::Email, "a@example.com", HIDDEN),
            (Mask::Email, "@example.com", HIDDEN),
            (Mask::Email, "ann@", HIDDEN),
            (Mask::Email, "ann", HIDDEN),
            (Mask::Pan, "4111 1111 1111 1111", "411111******1111"),
            (Mask::Pan, "4222222222222", "422222***2222"),
            (Mask::Pan, "422222222222", HIDDEN),
            (Mask::Pan, "41111111111111111111", HIDDEN),
            (Mask::Pan, "4111x11111111111", HIDDEN),
            (Mask::Year, "1990-12-31", "1990-**-**"),
            (Mask::Year, "1990-12-31 10:00", "1990-**-**"),
            (Mask::Year, "31.12.1990", HIDDEN),
            (Mask::Zero, "42", "0"),
        ];
        for (mask, text, expected) in cases {
            assert_eq!(mask.apply(text).as_deref(), Some(expected), "{mask:?} {text:?}");
        }
        assert_eq!(Mask::Null.apply("x"), None);
    }
}
