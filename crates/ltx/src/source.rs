//! What a file is read from, and how far.

use std::io::{self, Read};

/// A reader that counts.
#[derive(Debug)]
pub(crate) struct Source<R> {
    inner: R,
    offset: u64,
}

impl<R> Source<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, offset: 0 }
    }

    /// Returns how many bytes were taken.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(bytes)?;
        self.offset += taken as u64;
        Ok(taken)
    }
}
