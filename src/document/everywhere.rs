//! Documents rewritten wherever a value stands, without regard to what is flagged.

use fieldcrypt_document::jsonb::{Container, Value};
use fieldcrypt_document::rewrite::{Change, Step, Transform, rewrite};
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

    fn value(&mut self, (): (), value: Value<'_>) -> std::result::Result<Change<()>, Located> {
        Ok((self.0)(value)?)
    }

    fn locate(&mut self, error: Located, step: Step<'_>) -> Located {
        error.within(step)
    }
}
