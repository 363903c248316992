//! PURE. The page index of version 3.
//!
//! For each page, in their order, three numbers: page, offset of its frame in the file, bytes of its frame with its
//! header; then a zero. Each number is an unsigned LEB128. Behind them, in 8 bytes, big endian, how many bytes that was.

use crate::{Checksum, Pgno, checksum::Running};

/// The index that follows from the pages that were read: as a checksum, so that memory does not grow with the file.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedIndex {
    checksum: Running,
    bytes: u64,
}

impl ExpectedIndex {
    pub(crate) fn new() -> Self {
        Self {
            checksum: Running::new(),
            bytes: 0,
        }
    }

    /// Enters a page: its frame was read from `offset` and has `frame_bytes`.
    pub(crate) fn enter(&mut self, pgno: Pgno, offset: u64, frame_bytes: u64) {
        self.number(u64::from(pgno.get()));
        self.number(offset);
        self.number(frame_bytes);
    }

    /// Ends the index. Returns its whole length, that field included, and its checksum.
    pub(crate) fn end(mut self) -> (u64, Checksum) {
        self.number(0);
        self.checksum.update(&self.bytes.to_be_bytes());
        (self.bytes + size_of::<u64>() as u64, self.checksum.checksum())
    }

    fn number(&mut self, mut number: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            let [low, ..] = number.to_le_bytes();
            number >>= 7;
            if number == 0 {
                bytes[length] = low & 0x7f;
                break;
            }
            bytes[length] = low | 0x80;
            length += 1;
        }
        self.checksum.update(&bytes[..=length]);
        self.bytes += length as u64 + 1;
    }
}
