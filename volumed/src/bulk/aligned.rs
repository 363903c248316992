//! Buffers that a device can be read into and written from without the page cache.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What offsets, lengths and addresses are multiples of: the sector of any disk that is made.
const ALIGN_BYTES: usize = 4096;
/// Buffers that are kept for the next request; fresh memory costs more than what is done with it.
const KEPT: usize = 8;

/// Tells whether an offset, a length or an address fits a request past the page cache.
pub(super) fn is_aligned(value: usize) -> bool {
    value.is_multiple_of(ALIGN_BYTES)
}

/// Buffers that nobody uses; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// Returns a buffer and where in it there are `len` aligned bytes. They hold anything.
    pub(super) fn take(&self, len: usize) -> (Vec<u8>, Range<usize>) {
        let needed = len + ALIGN_BYTES;
        let mut kept = self.kept();
        let found = kept.iter().position(|buffer| buffer.len() == needed);
        let buffer = found.map(|index| kept.swap_remove(index));
        drop(kept);
        let buffer = buffer.unwrap_or_else(|| vec![0; needed]);
        let start = buffer.as_ptr().align_offset(ALIGN_BYTES);
        assert!(start < ALIGN_BYTES, "bytes can be aligned");
        (buffer, start..start + len)
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(buffer);
    }

    /// Hands out a part of a buffer, which comes back when nobody looks at it any more.
    pub(super) fn lend(&self, buffer: Vec<u8>, range: Range<usize>) -> Bytes {
        Bytes::from_owner(Lent {
            buffer,
            range,
            home: self.clone(),
        })
    }

    /// Gives the memory back.
    pub(super) fn clear(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    buffer: Vec<u8>,
    range: Range<usize>,
    home: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.buffer));
    }
}
