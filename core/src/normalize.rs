//! What a value is reduced to before it becomes a token, so that `123-45-6789` finds
//! `123 45 6789`. Normalizers are named and versioned, and never ask the database's collation.
//!
//! Invariant: a normalizer never changes; a better one gets a new version, and the envelope
//! records which version made its tokens.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use zeroize::Zeroizing;

/// A named way to normalise text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Normalizer {
    /// Every byte counts.
    #[default]
    None = 0,
    /// Upper and lower case are equal: Unicode compatibility caseless matching (Unicode D146).
    Casefold = 1,
    /// Only the ASCII digits of the NFKC form.
    Digits = 2,
    /// As [`Normalizer::Casefold`], then white space at the ends is dropped.
    Email = 3,
    /// As [`Normalizer::Digits`], and a leading `+` or `00` becomes `+`.
    Phone = 4,
}

impl Normalizer {
    /// Every normalizer.
    pub const ALL: [Self; 5] = [Self::None, Self::Casefold, Self::Digits, Self::Email, Self::Phone];

    /// Its number in an envelope.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The version that this release applies.
    pub const fn version(self) -> u8 {
        1
    }

    /// The normalizer of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|normalizer| normalizer.number() == number)
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Casefold => "casefold",
            Self::Digits => "digits",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }

    /// The normalizer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|normalizer| normalizer.name() == name)
    }

    /// Hands the normalised form of a text, in UTF-8, to `work`. `None` if the text is not empty
    /// but nothing of it is left: such a value has no token and cannot be found.
    pub fn apply<T>(self, text: &str, work: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let work = |normalised: &[u8]| {
            if normalised.is_empty() && !text.is_empty() { None } else { Some(work(normalised)) }
        };
        match self {
            Self::None => work(text.as_bytes()),
            Self::Casefold => work(casefold(text).as_bytes()),
            Self::Digits => digits(&compatible(text), work),
            Self::Email => work(casefold(text).trim().as_bytes()),
            Self::Phone => phone(&compatible(text), work),
        }
    }
}

/// NFKC, the Unicode compatibility form: full-width digits become ASCII.
fn compatible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        ComposingNormalizerBorrowed::new_nfkc().normalize(text)
    }
}

/// NFKD(fold(NFKD(fold(NFD(text))))): Unicode chapter 3, definition D146.
fn casefold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
    }
    let folding = CaseMapper::new();
    let canonical = DecomposingNormalizerBorrowed::new_nfd();
    let compatible = DecomposingNormalizerBorrowed::new_nfkd();
    let decomposed = canonical.normalize(text);
    let once = folding.fold_string(&decomposed);
    let once = compatible.normalize(&once);
    let twice = folding.fold_string(&once);
    Cow::Owned(compatible.normalize(&twice).into_owned())
}

/// Hands the ASCII digits of a text to `work`: from the stack, if they fit there. They are wiped.
fn digits<T>(text: &str, work: impl FnOnce(&[u8]) -> T) -> T {
    let mut short = Zeroizing::new([0; 32]);
    if text.len() > short.len() {
        let digits = text.bytes().filter(u8::is_ascii_digit);
        return work(&Zeroizing::new(digits.collect::<Vec<_>>()));
    }
    let mut length = 0;
    for byte in text.bytes() {
        short[length] = byte;
        length += usize::from(byte.is_ascii_digit());
    }
    work(&short[..length])
}

fn phone<T>(text: &str, work: impl FnOnce(&[u8]) -> T) -> T {
    digits(text, |digits| {
        let number = if text.trim_start().starts_with('+') {
            digits
        } else if let Some(international) = digits.strip_prefix(b"00") {
            international
        } else {
            return work(digits);
        };
        // a sign alone is no number
        let sign: &[u8] = if number.is_empty() { b"" } else { b"+" };
        work(&Zeroizing::new([sign, number].concat()))
    })
}

#[cfg(test)]
mod tests {
    use super::Normalizer::{self, Casefold, Digits, Email, None as Bytes, Phone};

    #[test]
    fn normalised_forms() {
        let cases: &[(Normalizer, &str, Option<&str>)] = &[
            (Bytes, " A b ", Some(" A b ")),
            (Bytes, "", Some("")),
            (Casefold, "Ann SMITH", Some("ann smith")),
            (Casefold, "Straße", Some("strasse")),
            (Casefold, "STRASSE", Some("strasse")),
            (Casefold, "ΣΊΣΥΦΟΣ", Some("σι\u{301}συφοσ")),
            (Casefold, "Σίσυφος", Some("σι\u{301}συφοσ")),
            (Casefold, "ﬁle", Some("file")),
            (Casefold, "É", Some("e\u{301}")),
            (Casefold, "e\u{301}", Some("e\u{301}")),
            (Casefold, "", Some("")),
            (Digits, "123-45-6789", Some("123456789")),
            (Digits, "１２３ 45", Some("12345")),
            (Digits, "n/a", None),
            (Digits, "", Some("")),
            (Email, "  Ann@Example.COM\n", Some("ann@example.com")),
            (Email, "   ", None),
            // its compatibility form begins with a space
            (Email, "\u{A8}a@example.com", Some("\u{308}a@example.com")),
            (Phone, "+49 (30) 1234", Some("+49301234")),
            (Phone, "0049 30 1234", Some("+49301234")),
            (Phone, "030/1234", Some("0301234")),
            (Phone, "+", None),
            (Phone, "00", None),
            (Phone, "００49", Some("+49")),
        ];
        for (normalizer, text, expected) in cases {
            let normalised = normalizer.apply(text, <[u8]>::to_vec);
            let expected = expected.map(|expected| expected.as_bytes().to_vec());
            assert_eq!(normalised, expected, "{normalizer:?} {text:?}");
        }
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for normalizer in Normalizer::ALL {
            assert_eq!(Normalizer::from_name(normalizer.name()), Some(normalizer));
            assert_eq!(Normalizer::from_number(normalizer.number()), Some(normalizer));
        }
    }
}
