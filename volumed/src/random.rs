//! Randomness as a port: ids and keys come from the system, or from a seed in a simulation.

use std::fmt::Debug;

const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A source of random bytes.
pub trait Random: Send + Sync + Debug {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let bytes: [u8; 32] = daemon::random::bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Returns `digits` characters of `[0-9a-z]`, all equally likely.
pub fn base36(random: &dyn Random, digits: usize) -> String {
    pick(random, digits, BASE36)
}

/// Returns `digits` characters of `[0-9A-Za-z]`, all equally likely.
pub fn base62(random: &dyn Random, digits: usize) -> String {
    pick(random, digits, BASE62)
}

fn pick(random: &dyn Random, digits: usize, alphabet: &[u8]) -> String {
    // Bytes at or above the largest multiple of the alphabet's length would make its first letters likelier.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(digits);
    let mut bytes = [0_u8; 32];
    while text.len() < digits {
        random.fill(&mut bytes);
        let fair = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        text.extend(
            fair.take(digits - text.len())
                .map(|b| char::from(alphabet[b % alphabet.len()])),
        );
    }
    text
}
