//! Chance, from a seed.

use std::convert::Infallible;

use rand::{SeedableRng as _, TryRng};
use rand_chacha::ChaCha8Rng;

/// A generator that gives the same numbers for the same seed, on every machine and in every version.
#[derive(Debug, Clone)]
pub struct Rng {
    seed: [u8; 32],
    inner: ChaCha8Rng,
}

impl Rng {
    /// Creates the generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self::from_key(*blake3::hash(&seed.to_le_bytes()).as_bytes())
    }

    fn from_key(seed: [u8; 32]) -> Self {
        Self {
            seed,
            inner: ChaCha8Rng::from_seed(seed),
        }
    }

    /// Creates a generator of its own for one part of the world. It depends on the seed and on `part` and on nothing that
    /// was drawn before: one more draw here does not change what happens there.
    #[must_use]
    pub fn fork(&self, part: &str) -> Self {
        Self::from_key(*blake3::keyed_hash(&self.seed, part.as_bytes()).as_bytes())
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.inner.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.inner.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.inner.try_fill_bytes(bytes)
    }
}

#[cfg(test)]
mod tests;
