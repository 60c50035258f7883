//! Documents rewritten wherever a value, or an envelope, stands, without regard to what is flagged.

use std::sync::LazyLock;

use fieldcrypt_core::envelope::is_reserved_text;
use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Node, Step, Transform, rewrite};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

use super::at::Located;
use crate::error::Result;

/// The document as `becomes` says of each value that it comes to; `None` if all are kept.
pub fn rewrite_everywhere(
    document: Container<'_>,
    becomes: impl FnMut(Value<'_>) -> Result<Change<()>>,
) -> std::result::Result<Option<Zeroizing<Vec<u8>>>, Located> {
    rewrite(document, (), &mut Everywhere(becomes))
}

/// The document with what takes the place of each envelope, by its text form; `None` if all are
/// kept, or there is none.
pub fn rewrite_envelopes(
    document: Container<'_>,
    mut becomes: impl FnMut(&[u8]) -> Result<Option<Node>>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let rewritten = rewrite_everywhere(document, |value| match value {
        Value::String(text) if is_reserved_text(text) => {
            Ok(becomes(text)?.map_or(Change::Keep, Change::Replace))
        }
        Value::Container(container) if may_hold_envelopes(container) => Ok(Change::Enter(())),
        _ => Ok(Change::Keep),
    });
    rewritten.map_err(Located::of_any)
}

/// How texts of the reserved form begin.
static RESERVED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"fc"));

/// Whether there is anything like an envelope in it: most parts of a document have none.
pub fn may_hold_envelopes(container: Container<'_>) -> bool {
    RESERVED.find(container.as_bytes()).is_some()
}

/// How many texts of the reserved form there are at most: as bytes, wherever they stand.
pub fn reserved_texts(container: Container<'_>) -> usize {
    let bytes = container.as_bytes();
    RESERVED.find_iter(bytes).filter(|&at| is_reserved_text(&bytes[at..])).count()
}

struct Everywhere<F>(F);

impl<F: FnMut(Value<'_>) -> Result<Change<()>>> Transform for Everywhere<F> {
    type State = ();
    type Error = Located;

    fn key(&mut self, (): &(), _key: &[u8]) -> std::result::Result<Option<()>, Located> {
        Ok(Some(()))
    }

    fn element(&mut self, (): &(), _index: usize) -> std::result::Result<Option<()>, Located> {
        Ok(Some(()))
    }

    #[inline(always)]
    fn value(&mut self, (): (), value: Value<'_>) -> std::result::Result<Change<()>, Located> {
        Ok((self.0)(value)?)
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}
