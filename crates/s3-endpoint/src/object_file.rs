//! The file of one object: data, block checksums and metadata together, so that they can never disagree.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | data | `data_bytes` | the object's bytes, from offset 0 |
//! | table | 4 × blocks | CRC-32 of each 64 KiB block of data, the last one shorter, little-endian |
//! | record | `record_bytes` | [`Record`] as JSON |
//! | footer | 48 | below |
//!
//! Footer, little-endian: magic `HANGOBJ1` (8), version 1 (4), `record_bytes` (4), `data_bytes` (8), CRC-32 of the data
//! (4), CRC-32 of table and record (4), block size 65536 (4), zeros (8), CRC-32 of the 44 bytes before (4).
//!
//! Every CRC-32 is the IEEE one. A reader checks the blocks it touches, so that a small range of a large object costs
//! little and is checked all the same.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use crashsafe::DiskFile;
use serde::{Deserialize, Serialize};

/// Data bytes per checksum.
pub(crate) const BLOCK_BYTES: u64 = BLOCK as u64;
const BLOCK: usize = 64 << 10;
const BLOCK_WORD: u32 = 64 << 10;
const _: () = assert!(BLOCK_WORD as usize == BLOCK);
const _: () = assert!(BUFFER_BYTES.is_multiple_of(BLOCK));
const FOOTER_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"HANGOBJ1";
const VERSION: u32 = 1;
/// Longest record: S3 allows 2 KiB of user metadata and 8 KiB of headers.
const RECORD_BYTES_MAX: u64 = 64 << 10;
/// How much data is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) key: String,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: jiff::Timestamp,
    /// Headers kept for the reader: `content-type`, `cache-control` and so on.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// `x-amz-meta-…`, without that prefix.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// Checksums of the whole object by S3's name of the algorithm (`crc32`, `sha256`, …), base64.
    #[serde(default)]
    pub(crate) checksums: BTreeMap<String, String>,
}

/// What is wrong with an object's file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DamageError {
    #[error("object file: {what}")]
    Damaged { what: &'static str },
    #[error("object file: crc32 of block {block} is {found:08x}, was {expected:08x}")]
    Block { block: u64, expected: u32, found: u32 },
    #[error("object file")]
    Io(#[from] io::Error),
}

fn damaged(what: &'static str) -> DamageError {
    DamageError::Damaged { what }
}

/// What a finished body amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) data_bytes: u64,
    pub(crate) crc32: u32,
    /// 128 bits of BLAKE3, hexadecimal.
    pub(crate) hash: String,
}

/// Writes one object's file, in order.
#[derive(Debug)]
pub(crate) struct ObjectWriter {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    table: Vec<u8>,
    whole: crc32fast::Hasher,
    hash: blake3::Hasher,
}

impl ObjectWriter {
    /// Begins in an empty file.
    pub(crate) fn new(file: Box<dyn DiskFile>) -> Self {
        let (whole, hash) = (crc32fast::Hasher::new(), blake3::Hasher::new());
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            written: 0,
            table: Vec::new(),
            whole,
            hash,
        }
    }

    /// Appends to the data.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.whole.update(bytes);
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.spill()?;
            }
        }
        Ok(())
    }

    /// Writes the buffer out; only the last one may end within a block.
    fn spill(&mut self) -> io::Result<()> {
        assert!(
            self.written.is_multiple_of(BLOCK_BYTES),
            "block split at {}",
            self.written
        );
        for block in self.buffer.chunks(BLOCK) {
            self.table
                .extend_from_slice(&crc32fast::hash(block).to_le_bytes());
        }
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Returns what was written so far.
    pub(crate) fn digest(&self) -> Digest {
        let hash = self.hash.finalize().to_hex();
        Digest {
            data_bytes: self.written + self.buffer.len() as u64,
            crc32: self.whole.clone().finalize(),
            hash: hash[..32].to_owned(),
        }
    }

    /// Completes the file and makes its content durable; its name is the caller's affair.
    pub(crate) fn finish(mut self, record: &Record) -> io::Result<()> {
        let Digest {
            data_bytes, crc32, ..
        } = self.digest();
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        let mut tail = std::mem::take(&mut self.table);
        let json = serde_json::to_vec(record)?;
        let record_bytes = u32::try_from(json.len()).map_err(io::Error::other)?;
        tail.extend_from_slice(&json);
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.extend_from_slice(MAGIC);
        footer.extend_from_slice(&VERSION.to_le_bytes());
        footer.extend_from_slice(&record_bytes.to_le_bytes());
        footer.extend_from_slice(&data_bytes.to_le_bytes());
        footer.extend_from_slice(&crc32.to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&tail).to_le_bytes());
        footer.extend_from_slice(&BLOCK_WORD.to_le_bytes());
        footer.extend_from_slice(&[0; 8]);
        footer.extend_from_slice(&crc32fast::hash(&footer).to_le_bytes());
        assert!(footer.len() == FOOTER_BYTES, "footer of {} bytes", footer.len());
        tail.extend_from_slice(&footer);
        self.file.write_at(&tail, self.written)?;
        self.file.sync_data()
    }
}

/// Reads one object's file.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    file: Box<dyn DiskFile>,
    record: Record,
    table: Vec<u32>,
    data_bytes: u64,
}

impl ObjectReader {
    /// Reads and checks everything but the data.
    pub(crate) fn open(file: Box<dyn DiskFile>) -> Result<Self, DamageError> {
        let len = file.len()?;
        let Some(footer_at) = len.checked_sub(FOOTER_BYTES as u64) else {
            return Err(damaged("too short"));
        };
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_at)?;
        let word =
            |at: usize| u32::from_le_bytes([footer[at], footer[at + 1], footer[at + 2], footer[at + 3]]);
        if footer[..8] != *MAGIC {
            return Err(damaged("no magic at its end"));
        }
        if word(44) != crc32fast::hash(&footer[..44]) {
            return Err(damaged("crc32 of the footer"));
        }
        if word(8) != VERSION || word(32) != BLOCK_WORD {
            return Err(damaged("of a version that this program does not know"));
        }
        let record_bytes = u64::from(word(12));
        let data_bytes = u64::from(word(16)) | u64::from(word(20)) << 32;
        let table_bytes = data_bytes.div_ceil(BLOCK_BYTES).saturating_mul(4);
        let parts = data_bytes
            .checked_add(table_bytes)
            .and_then(|sum| sum.checked_add(record_bytes));
        if parts != Some(footer_at) || record_bytes > RECORD_BYTES_MAX {
            return Err(damaged("lengths do not add up"));
        }
        let mut tail = vec![0; index(table_bytes + record_bytes)?];
        file.read_exact_at(&mut tail, data_bytes)?;
        if crc32fast::hash(&tail) != word(28) {
            return Err(damaged("crc32 of table and record"));
        }
        let (table, json) = tail.split_at(index(table_bytes)?);
        let record = serde_json::from_slice(json).map_err(|_| damaged("record is not JSON"))?;
        let table = table
            .chunks_exact(4)
            .map(|le| u32::from_le_bytes([le[0], le[1], le[2], le[3]]))
            .collect();
        Ok(Self {
            file,
            record,
            table,
            data_bytes,
        })
    }

    /// What is known of the object.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Size of the data.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Reads a range of the data and checks every block it touches.
    ///
    /// # Panics
    /// When the range passes the end of the data.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Bytes, DamageError> {
        assert!(range.start <= range.end, "range {range:?}");
        assert!(
            range.end <= self.data_bytes,
            "range {range:?} of {}",
            self.data_bytes
        );
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let first = range.start / BLOCK_BYTES;
        let from = first * BLOCK_BYTES;
        let to = range.end.next_multiple_of(BLOCK_BYTES).min(self.data_bytes);
        let mut bytes = vec![0; index(to - from)?];
        self.file.read_exact_at(&mut bytes, from)?;
        for (block, data) in (first..).zip(bytes.chunks(BLOCK)) {
            let expected = self.table[index(block)?];
            let found = crc32fast::hash(data);
            if found != expected {
                return Err(DamageError::Block {
                    block,
                    expected,
                    found,
                });
            }
        }
        let (from, to) = (index(range.start - from)?, index(range.end - from)?);
        Ok(Bytes::from(bytes).slice(from..to))
    }
}

/// Narrows an offset to what this machine can address.
fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
