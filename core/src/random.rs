//! Random bytes, from the operating system, or from a generator that its host vouches for.
//!
//! Invariant: no two processes share a buffered byte. A buffer belongs to the process that filled
//! it; after a fork the child throws it away.

use crate::error::SealError;

/// Fills `buffer` from the operating system.
///
/// # Errors
/// [`SealError::Random`] if it gives none.
pub fn fill(buffer: &mut [u8]) -> Result<(), SealError> {
    getrandom::fill(buffer).map_err(|_| SealError::Random)
}

/// How many bytes one system call fetches.
const POOL: usize = 4096;

/// Random bytes for nonces, fetched 4,096 at a time: to fetch each alone costs more than the
/// encryption of a short value.
#[derive(Debug)]
pub struct NoncePool {
    bytes: Box<[u8; POOL]>,
    used: usize,
    process: u32,
}

impl Default for NoncePool {
    fn default() -> Self {
        Self { bytes: Box::new([0; POOL]), used: POOL, process: 0 }
    }
}

impl NoncePool {
    /// Fills `nonce` with bytes that no other call, in this process or another, has been given.
    /// `process` is the id of the calling process; `fill` is [`fill`], or a generator as good that
    /// does not survive a fork.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn take(
        &mut self,
        process: u32,
        fill: impl Fn(&mut [u8]) -> Result<(), SealError>,
        nonce: &mut [u8],
    ) -> Result<(), SealError> {
        if process != self.process || self.used + nonce.len() > POOL {
            self.used = POOL;
            if nonce.len() > POOL {
                return fill(nonce);
            }
            fill(self.bytes.as_mut_slice())?;
            self.process = process;
            self.used = 0;
        }
        let end = self.used + nonce.len();
        nonce.copy_from_slice(&self.bytes[self.used..end]);
        self.used = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_of_one_pool_differ() {
        let mut pool = NoncePool::default();
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let mut nonce = [0; 24];
            assert_eq!(pool.take(1, fill, &mut nonce), Ok(()));
            assert!(seen.insert(nonce));
        }
    }

    #[test]
    fn a_forked_process_gets_bytes_of_its_own() {
        let mut parent = NoncePool::default();
        let mut first = [0; 24];
        assert_eq!(parent.take(1, fill, &mut first), Ok(()));
        // what a fork does: the same memory in another process
        let mut child =
            NoncePool { bytes: parent.bytes.clone(), used: parent.used, process: parent.process };
        let (mut a, mut b) = ([0; 24], [0; 24]);
        assert_eq!(parent.take(1, fill, &mut a), Ok(()));
        assert_eq!(child.take(2, fill, &mut b), Ok(()));
        assert_ne!(a, b);
    }
}
