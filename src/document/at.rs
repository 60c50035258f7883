//! Errors that say where in a document.

use fieldcrypt_document::jsonb::Malformed;
use fieldcrypt_document::rewrite::Step;

use crate::error::Error;

/// Steps that a message shows at most.
const MOST_SHOWN: usize = 100;

/// An error, and the way to it from the inside out.
pub struct Located {
    error: Error,
    steps: Vec<String>,
}

impl Located {
    /// The error with the step that led to where it happened.
    #[must_use]
    pub fn within(mut self, step: Step<'_>) -> Self {
        self.steps.push(match step {
            Step::Index(index) => format!("[{index}]"),
            Step::Key(key) => {
                let key = String::from_utf8_lossy(key);
                if key.is_empty() || key.contains(['.', '[', ']', '"', '\\']) {
                    format!(".{key:?}")
                } else {
                    format!(".{key}")
                }
            }
        });
        self
    }

    /// The error of the document called `document`.
    pub fn of(self, document: &str) -> Error {
        let place = match self.path() {
            Some(path) => format!("path {path} of document \"{document}\""),
            None => format!("document \"{document}\""),
        };
        Error::At { place, error: Box::new(self.error) }
    }

    /// The error of a document whose name is not known.
    pub fn of_any(self) -> Error {
        match self.path() {
            Some(path) => Error::At { place: format!("path {path}"), error: Box::new(self.error) },
            None => self.error,
        }
    }

    fn path(&self) -> Option<String> {
        let shown = self.steps.iter().rev().map(String::as_str).take(MOST_SHOWN);
        let mut path: String = shown.collect();
        if self.steps.len() > MOST_SHOWN {
            path.push('…');
        }
        let path = path.strip_prefix('.').unwrap_or(&path);
        (!path.is_empty()).then(|| path.to_owned())
    }
}

impl From<Error> for Located {
    fn from(error: Error) -> Self {
        Self { error, steps: Vec::new() }
    }
}

impl From<Malformed> for Located {
    fn from(error: Malformed) -> Self {
        Error::from(error).into()
    }
}
