//! PURE. SQLite's write-ahead log: a header, then frames, each a page as a transaction left it.
//!
//! Header (32 bytes) and frame headers (24) are big endian; the checksums run over words of the log's own byte order.
//!
//! | offset in the header | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | `377f0682`, checksums over little-endian words, or `377f0683`, over big-endian ones |
//! | 4 | 4 | 3007000 |
//! | 8 | 4 | page size in bytes |
//! | 12 | 4 | how often the log was begun anew |
//! | 16 | 8 | two salts |
//! | 24 | 8 | checksum of the bytes before |
//!
//! | offset in a frame | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | page number |
//! | 4 | 4 | pages of the database, in the last frame of a transaction; 0 in the others |
//! | 8 | 8 | the log's salts |
//! | 16 | 8 | checksum, going on from the frame before, of the first 8 bytes and the page |
//! | 24 | – | the page |

use std::{collections::BTreeMap, io};

use bytes::{Buf as _, BufMut as _};
use ltx::{PageSize, Pgno, WalSpan};

use super::files::{FileKind, Files, read_whole};

/// Bytes of the log's header; the first frame follows.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a frame before its page.
pub const FRAME_HEADER_BYTES: usize = 24;

/// How often the log was begun anew that a replica writes: what is in it came from the primary. SQLite counts from 0, and does not look.
pub const REPLICAS: u32 = 0x4c46_5352;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// The order of bytes in the words that checksums run over: that of the processor which began the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// As on x86 and most ARM.
    Little,
    /// As on s390.
    Big,
}

/// A checksum over a log, from its header to some frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalChecksum(pub u32, pub u32);

impl WalChecksum {
    /// Goes on over `bytes`, which are a multiple of 8.
    #[must_use]
    pub fn over(self, order: ByteOrder, bytes: &[u8]) -> Self {
        assert!(
            bytes.len().is_multiple_of(8),
            "{} bytes in words of 8",
            bytes.len()
        );
        let Self(mut first, mut second) = self;
        for &[a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
            let (even, odd) = ([a, b, c, d], [e, f, g, h]);
            let (even, odd) = match order {
                ByteOrder::Little => (u32::from_le_bytes(even), u32::from_le_bytes(odd)),
                ByteOrder::Big => (u32::from_be_bytes(even), u32::from_be_bytes(odd)),
            };
            first = first.wrapping_add(even).wrapping_add(second);
            second = second.wrapping_add(odd).wrapping_add(first);
        }
        Self(first, second)
    }
}

/// What a log says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Order of bytes in checksums.
    pub order: ByteOrder,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// How often the log was begun anew.
    pub sequence: u32,
    /// What tells its frames from those that an earlier log left in the file.
    pub salts: (u32, u32),
}

impl WalHeader {
    /// Reads a header; nothing when it is not sound, and SQLite would take the log for empty.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<(Self, WalChecksum)> {
        let mut fields = &bytes[..];
        let magic = fields.get_u32();
        let order = match magic {
            MAGIC => ByteOrder::Little,
            0x377f_0683 => ByteOrder::Big,
            _ => return None,
        };
        let version = fields.get_u32();
        let header = Self {
            order,
            page_size: PageSize::new(fields.get_u32())?,
            sequence: fields.get_u32(),
            salts: (fields.get_u32(), fields.get_u32()),
        };
        let stored = WalChecksum(fields.get_u32(), fields.get_u32());
        let computed = WalChecksum::default().over(order, &bytes[..24]);
        (version == VERSION && stored == computed).then_some((header, computed))
    }

    /// Returns the header's bytes and the checksum that the first frame goes on from.
    #[must_use]
    pub fn encode(&self) -> ([u8; HEADER_BYTES], WalChecksum) {
        let mut bytes = [0; HEADER_BYTES];
        let mut sink = &mut bytes[..];
        sink.put_u32(match self.order {
            ByteOrder::Little => MAGIC,
            ByteOrder::Big => MAGIC | 1,
        });
        sink.put_u32(VERSION);
        sink.put_u32(self.page_size.bytes());
        sink.put_u32(self.sequence);
        sink.put_u32(self.salts.0);
        sink.put_u32(self.salts.1);
        let checksum = WalChecksum::default().over(self.order, &bytes[..24]);
        let mut sink = &mut bytes[24..];
        sink.put_u32(checksum.0);
        sink.put_u32(checksum.1);
        (bytes, checksum)
    }

    /// Reads the header at the beginning of the log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read<F: Files + ?Sized>(files: &F) -> io::Result<Option<(Self, WalChecksum)>> {
        let mut bytes = [0; HEADER_BYTES];
        let whole = read_whole(files, FileKind::Wal, &mut bytes, 0)?;
        Ok(if whole { Self::decode(&bytes) } else { None })
    }

    /// Bytes of a frame with its page.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.page_size.bytes())
    }

    /// Returns how an LTX file names a part of the log.
    #[must_use]
    pub const fn span(&self, from: WalPlace, to: WalPlace) -> WalSpan {
        WalSpan {
            offset_bytes: from.offset,
            size_bytes: to.offset - from.offset,
            salt1: self.salts.0,
            salt2: self.salts.1,
        }
    }

    /// Appends a frame to `log` and returns the checksum that the next one goes on from.
    ///
    /// * `commit_pages`: pages of the database after a transaction's last frame, 0 for the others.
    /// * `page`: exactly a page.
    pub fn encode_frame(
        &self,
        log: &mut Vec<u8>,
        before: WalChecksum,
        pgno: Pgno,
        commit_pages: u32,
        page: &[u8],
    ) -> WalChecksum {
        assert!(
            page.len() == self.page_size.as_usize(),
            "{} bytes are no page",
            page.len()
        );
        let at = log.len();
        log.put_u32(pgno.get());
        log.put_u32(commit_pages);
        let checksum = before.over(self.order, &log[at..]).over(self.order, page);
        log.put_u32(self.salts.0);
        log.put_u32(self.salts.1);
        log.put_u32(checksum.0);
        log.put_u32(checksum.1);
        log.extend_from_slice(page);
        checksum
    }
}

/// A place between two frames of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPlace {
    /// Where the next frame begins, in bytes.
    pub offset: u64,
    /// The checksum that it goes on from.
    pub checksum: WalChecksum,
}

impl WalPlace {
    /// Before the first frame.
    ///
    /// * `checksum`: that of the header.
    #[must_use]
    pub const fn first(checksum: WalChecksum) -> Self {
        Self {
            offset: HEADER_BYTES as u64,
            checksum,
        }
    }
}

/// Transactions in a log that follow upon each other, taken as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalTransactions {
    /// For each page that they write, where its newest copy begins in the log: at the page, not at its frame.
    pub pages: BTreeMap<Pgno, u64>,
    /// Pages of the database after the last of them.
    pub commit_pages: u32,
    /// Behind its last frame.
    pub end: WalPlace,
}

/// Reads the committed transactions from `from` on, as SQLite recovers a log: up to the first frame that is not sound, and
/// of what was read then, up to the last commit. Nothing when there is none.
///
/// * `limit`: no frame is read that ends behind it; `u64::MAX` for all.
///
/// # Errors
/// The file cannot be read.
pub fn transactions<F: Files + ?Sized>(
    files: &F,
    header: &WalHeader,
    from: WalPlace,
    limit: u64,
) -> io::Result<Option<WalTransactions>> {
    read(files, header, from, limit, usize::MAX)
}

/// Reads the committed transaction that begins at `from`. Nothing when there is none.
///
/// # Errors
/// The file cannot be read.
pub fn transaction<F: Files + ?Sized>(
    files: &F,
    header: &WalHeader,
    from: WalPlace,
) -> io::Result<Option<WalTransactions>> {
    read(files, header, from, u64::MAX, 1)
}

fn read<F: Files + ?Sized>(
    files: &F,
    header: &WalHeader,
    from: WalPlace,
    limit: u64,
    mut count: usize,
) -> io::Result<Option<WalTransactions>> {
    let mut committed: Option<WalTransactions> = None;
    let mut pending = Vec::new();
    let mut place = from;
    let mut bytes = vec![0; FRAME_HEADER_BYTES + header.page_size.as_usize()];
    while count > 0
        && place.offset + header.frame_bytes() <= limit
        && read_whole(files, FileKind::Wal, &mut bytes, place.offset)?
    {
        let Some((frame, checksum)) = decode_frame(header, place.checksum, &bytes) else {
            break;
        };
        pending.push((frame.pgno, place.offset + FRAME_HEADER_BYTES as u64));
        place = WalPlace {
            offset: place.offset + header.frame_bytes(),
            checksum,
        };
        if frame.commit_pages != 0 {
            let transactions = committed.get_or_insert_with(|| WalTransactions {
                pages: BTreeMap::new(),
                commit_pages: 0,
                end: place,
            });
            transactions.pages.extend(pending.drain(..));
            transactions.commit_pages = frame.commit_pages;
            transactions.end = place;
            count -= 1;
        }
    }
    Ok(committed)
}

struct Frame {
    pgno: Pgno,
    commit_pages: u32,
}

fn decode_frame(header: &WalHeader, before: WalChecksum, bytes: &[u8]) -> Option<(Frame, WalChecksum)> {
    let mut fields = bytes;
    let pgno = Pgno::new(fields.get_u32())?;
    let commit_pages = fields.get_u32();
    let salts = (fields.get_u32(), fields.get_u32());
    let stored = WalChecksum(fields.get_u32(), fields.get_u32());
    if salts != header.salts {
        return None;
    }
    let computed = before.over(header.order, &bytes[..8]).over(header.order, fields);
    (stored == computed).then_some((Frame { pgno, commit_pages }, computed))
}

#[cfg(test)]
mod tests;
