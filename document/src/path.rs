//! Paths to values of a document.
//!
//! Keys are separated by dots: `contact.email`. `[*]` is every element of an array, after a key, at
//! the start, or after another: `phones[*].number`, `[*].ssn`, `matrix[*][*]`. A key with a dot,
//! bracket, double quote, backslash or control character, with white space at an end, or an empty
//! one, is in double quotes, in which `\"` and `\\` stand for `"` and `\`: `"a.b".c`.

use std::fmt::{self, Display, Write};
use std::str::{Chars, FromStr};

use thiserror::Error;

/// Most steps of a path.
pub const MAXIMUM_STEPS: usize = 100;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// To the value of a key.
    Key(String),
    /// To every element.
    Each,
}

/// 1 to [`MAXIMUM_STEPS`] steps from the root of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Vec<PathStep>,
}

/// Why a text is no path, and the position of the character where that shows, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// A key or `[*]` should be here.
    #[error("a key is missing at position {0}")]
    NoKey(usize),
    /// A character that only a key in double quotes may have.
    #[error("the key needs double quotes because of the character at position {0}")]
    Unquoted(usize),
    /// A double quote has no second.
    #[error("the double quote at position {0} is not closed")]
    Unclosed(usize),
    /// A backslash before something else.
    #[error("the backslash at position {0} is not before a double quote or backslash")]
    Escape(usize),
    /// A bracket that does not begin `[*]`.
    #[error("the bracket at position {0} does not begin [*]")]
    Bracket(usize),
    /// A step ends, and no other begins.
    #[error("a dot or [*] is missing at position {0}")]
    NoSeparator(usize),
    /// A step beyond [`MAXIMUM_STEPS`].
    #[error("the step at position {0} is one too many")]
    TooManySteps(usize),
}

impl Path {
    /// The steps from the root on, at least one.
    pub fn steps(&self) -> &[PathStep] {
        &self.steps
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut parser = Parser { rest: text.chars(), position: 1 };
        let mut steps = Vec::new();
        while steps.is_empty() || parser.peek().is_some() {
            if steps.len() == MAXIMUM_STEPS {
                return Err(PathError::TooManySteps(parser.position));
            }
            steps.push(parser.step(steps.is_empty())?);
        }
        Ok(Self { steps })
    }
}

struct Parser<'a> {
    rest: Chars<'a>,
    /// Of the next character.
    position: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        self.position += 1;
        self.rest.next()
    }

    fn step(&mut self, first: bool) -> Result<PathStep, PathError> {
        let position = self.position;
        match self.peek() {
            Some('[') => {
                let text = [self.next(), self.next(), self.next()];
                let each = text == [Some('['), Some('*'), Some(']')];
                return if each { Ok(PathStep::Each) } else { Err(PathError::Bracket(position)) };
            }
            Some('.') if !first => {
                self.next();
            }
            _ if !first => return Err(PathError::NoSeparator(position)),
            _ => {}
        }
        let key = if self.peek() == Some('"') { self.quoted() } else { self.bare() };
        key.map(PathStep::Key)
    }

    fn bare(&mut self) -> Result<String, PathError> {
        let start = self.position;
        let mut key = String::new();
        while let Some(character) = self.peek().filter(|c| !matches!(c, '.' | '[')) {
            if needs_quotes(character) {
                return Err(PathError::Unquoted(self.position));
            }
            key.push(character);
            self.next();
        }
        if key.is_empty() {
            Err(PathError::NoKey(start))
        } else if key.starts_with(char::is_whitespace) {
            Err(PathError::Unquoted(start))
        } else if key.ends_with(char::is_whitespace) {
            Err(PathError::Unquoted(self.position - 1))
        } else {
            Ok(key)
        }
    }

    fn quoted(&mut self) -> Result<String, PathError> {
        let start = self.position;
        self.next();
        let mut key = String::new();
        loop {
            let position = self.position;
            key.push(match self.next() {
                None => return Err(PathError::Unclosed(start)),
                Some('"') => return Ok(key),
                Some('\\') => match self.next() {
                    Some(escaped @ ('"' | '\\')) => escaped,
                    _ => return Err(PathError::Escape(position)),
                },
                Some(character) => character,
            });
        }
    }
}

fn needs_quotes(character: char) -> bool {
    matches!(character, '.' | '[' | ']' | '"' | '\\') || character.is_control()
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                PathStep::Each => f.write_str("[*]")?,
                PathStep::Key(key) => {
                    if index > 0 {
                        f.write_char('.')?;
                    }
                    write_key(f, key)?;
                }
            }
        }
        Ok(())
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    if !key.is_empty() && !key.contains(needs_quotes) && key.trim() == key {
        return f.write_str(key);
    }
    f.write_char('"')?;
    for character in key.chars() {
        if matches!(character, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::{Path, PathError, PathStep};

    fn key(key: &str) -> PathStep {
        PathStep::Key(key.to_owned())
    }

    #[test]
    fn paths_are_read_and_written() {
        let each = || PathStep::Each;
        let cases = [
            ("contact.email", vec![key("contact"), key("email")]),
            ("phones[*].number", vec![key("phones"), each(), key("number")]),
            (r#""a.b".c"#, vec![key("a.b"), key("c")]),
            ("[*].ssn", vec![each(), key("ssn")]),
            ("matrix[*][*]", vec![key("matrix"), each(), each()]),
            ("[*][*]", vec![each(), each()]),
            ("first name.*", vec![key("first name"), key("*")]),
            (r#""".a"#, vec![key(""), key("a")]),
            (r#"a."\"\\"[*]"#, vec![key("a"), key("\"\\"), each()]),
            ("\" a\".\"b\u{a0}\".\"\n\"", vec![key(" a"), key("b\u{a0}"), key("\n")]),
            ("größe.$'`,:/", vec![key("größe"), key("$'`,:/")]),
        ];
        for (text, steps) in cases {
            let path: Path = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(path.steps(), steps, "{text}");
            assert_eq!(path.to_string(), text);
        }
        assert_eq!(r#""a".b"#.parse::<Path>().map(|path| path.to_string()), Ok("a.b".to_owned()));
    }

    #[test]
    fn errors_have_a_position() {
        use PathError::*;
        let hundred = "[*]".repeat(100);
        let cases = [
            ("", NoKey(1)),
            (".a", NoKey(1)),
            ("a.", NoKey(3)),
            ("ä..b", NoKey(3)),
            ("a.[*]", NoKey(3)),
            ("a]", Unquoted(2)),
            ("a\"b\"", Unquoted(2)),
            ("ä\\", Unquoted(2)),
            ("a\u{1}b", Unquoted(2)),
            (" a", Unquoted(1)),
            ("a .b", Unquoted(2)),
            ("a.\u{2003}", Unquoted(3)),
            ("a.\"b", Unclosed(3)),
            ("\"\\\"", Unclosed(1)),
            ("\"a\\n\"", Escape(3)),
            ("\"\\", Escape(2)),
            ("a[0]", Bracket(2)),
            ("a[", Bracket(2)),
            ("[*", Bracket(1)),
            ("[*]a", NoSeparator(4)),
            ("\"a\"b", NoSeparator(4)),
            ("\"a\" .b", NoSeparator(4)),
            (&format!("{hundred}.a"), TooManySteps(301)),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Path>(), Err(error), "{text}");
        }
        assert_eq!(hundred.parse::<Path>().map(|path| path.steps().len()), Ok(100));
    }
}
