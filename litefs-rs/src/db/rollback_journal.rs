//! PURE. SQLite's rollback journal: the pages as they were before a transaction.
//!
//! A journal is a row of segments. Each begins at a sector boundary with a header and goes on with records, a page each.
//! Only the first header's sizes count. All numbers big endian.
//!
//! | offset in a header | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | `d9 d5 05 f9 20 a1 63 d7`; zeros while the segment is not synced, and when the journal is finished |
//! | 8 | 4 | records; all ones: as many as the file holds |
//! | 12 | 4 | nonce of the records' checksums |
//! | 16 | 4 | pages of the database before the transaction |
//! | 20 | 4 | sector size in bytes |
//! | 24 | 4 | page size in bytes |
//!
//! A record is a page's number in 4 bytes, the page, and its checksum in 4: the nonce, plus every 200th byte from the page's
//! end.

use std::io;

use bytes::Buf as _;
use ltx::{PageSize, Pgno};

use super::files::{FileKind, Files, read_whole};

/// The first bytes of a segment whose records count.
pub const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

const HEADER_BYTES: usize = 28;
/// In the place of a count: the journal was never synced and has but this segment.
const COUNT_BY_LENGTH: u32 = u32::MAX;
/// What SQLite takes for a sector, in bytes.
const SECTOR_BYTES: std::ops::RangeInclusive<u32> = 32..=65_536;
/// Length, checksum and magic behind the name of a super-journal.
const SUPER_TRAILER_BYTES: usize = 16;
/// The longest path that SQLite opens, in bytes.
const PATH_BYTES_MAX: u32 = 4096;

/// Tells whether the journal's records count: a transaction is under way, or was when its writer died.
///
/// # Errors
/// The file cannot be read.
pub fn is_live<F: Files + ?Sized>(files: &F) -> io::Result<bool> {
    let mut magic = [0; MAGIC.len()];
    Ok(read_whole(files, FileKind::RollbackJournal, &mut magic, 0)? && magic == MAGIC)
}

/// Returns the name of the super-journal that the transaction depends on, as SQLite wrote it: a path. Its transaction
/// changes several databases, and is committed when that file is gone.
///
/// | offset from the journal's end | bytes | field |
/// |---:|---:|---|
/// | −16 − n | n | the path |
/// | −16 | 4 | n |
/// | −12 | 4 | sum of the path's bytes |
/// | −8 | 8 | as a segment begins |
///
/// # Errors
/// The file cannot be read.
pub fn super_journal<F: Files + ?Sized>(files: &F) -> io::Result<Option<Vec<u8>>> {
    const FILE: FileKind = FileKind::RollbackJournal;
    let len = files.len(FILE)?;
    let Some(end) = len.checked_sub(SUPER_TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; SUPER_TRAILER_BYTES];
    if !read_whole(files, FILE, &mut trailer, end)? {
        return Ok(None);
    }
    let mut fields = &trailer[..];
    let (name_bytes, sum) = (fields.get_u32(), fields.get_u32());
    let fits = (1..=PATH_BYTES_MAX).contains(&name_bytes) && u64::from(name_bytes) <= end;
    if fields != MAGIC || !fits {
        return Ok(None);
    }
    let mut name = vec![0; name_bytes as usize];
    if !read_whole(files, FILE, &mut name, end - u64::from(name_bytes))? {
        return Ok(None);
    }
    // SQLite sums characters, which have a sign on some processors and none on others.
    let unsigned = name
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    let signed = name.iter().fold(0_u32, |sum, byte| {
        sum.wrapping_add_signed(i32::from(byte.cast_signed()))
    });
    Ok((sum == unsigned || sum == signed).then_some(name))
}

/// What brings a database back to where it was before the transaction, read as SQLite reads the journal of a writer that
/// died: up to the first record that is not sound.
#[derive(Debug)]
pub struct Playback<'a, F: ?Sized> {
    files: &'a F,
    page_size: PageSize,
    pages: u32,
    sector_bytes: u32,
    journal_bytes: u64,
    offset: u64,
    nonce: u32,
    records_left: u64,
}

/// What a segment's header says, but for the sizes, which count in the first alone.
struct Segment {
    records: u32,
    nonce: u32,
    pages: u32,
    sector_bytes: u32,
    page_bytes: u32,
}

impl<'a, F: Files + ?Sized> Playback<'a, F> {
    /// Begins with the journal's first header; nothing when its records do not count.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(files: &'a F) -> io::Result<Option<Self>> {
        let Some(first) = segment(files, 0)? else {
            return Ok(None);
        };
        let sector = first.sector_bytes;
        let Some(page_size) = PageSize::new(first.page_bytes) else {
            return Ok(None);
        };
        if !sector.is_power_of_two() || !SECTOR_BYTES.contains(&sector) {
            return Ok(None);
        }
        let journal_bytes = files.len(FileKind::RollbackJournal)?;
        let mut playback = Self {
            files,
            page_size,
            pages: first.pages,
            sector_bytes: sector,
            journal_bytes,
            offset: u64::from(sector),
            nonce: first.nonce,
            records_left: u64::from(first.records),
        };
        if first.records == COUNT_BY_LENGTH {
            let room = journal_bytes.saturating_sub(u64::from(sector));
            playback.records_left = room / playback.record_bytes();
        }
        Ok(Some(playback))
    }

    /// Returns the page size that the records have.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the number of pages that the database had.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Reads the next page into `data`, as it was before the transaction, and returns its number; nothing after the last.
    /// Pages that the database did not have are left out. A page may come twice; the first one counts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_page(&mut self, data: &mut Vec<u8>) -> io::Result<Option<Pgno>> {
        loop {
            if self.records_left == 0 && !self.next_segment()? {
                return Ok(None);
            }
            if self.records_left == 0 {
                continue;
            }
            match self.record(data)? {
                Record::Page(pgno) if pgno.get() <= self.pages => return Ok(Some(pgno)),
                Record::Page(_) => {}
                Record::Unsound => {
                    self.records_left = 0;
                    self.offset = self.journal_bytes;
                    return Ok(None);
                }
            }
        }
    }

    fn record(&mut self, data: &mut Vec<u8>) -> io::Result<Record> {
        const FILE: FileKind = FileKind::RollbackJournal;
        let page_bytes = self.page_size.as_usize();
        data.resize(page_bytes + 8, 0);
        if !read_whole(self.files, FILE, data, self.offset)? {
            return Ok(Record::Unsound);
        }
        self.offset += self.record_bytes();
        self.records_left -= 1;
        let number = (&data[..4]).get_u32();
        let stored = (&data[page_bytes + 4..]).get_u32();
        data.copy_within(4..4 + page_bytes, 0);
        data.truncate(page_bytes);
        Ok(match Pgno::new(number) {
            Some(pgno) if pgno != self.page_size.lock_page() && checksum(self.nonce, data) == stored => {
                Record::Page(pgno)
            }
            _ => Record::Unsound,
        })
    }

    /// Moves on to the segment at the next sector boundary, if there is one that counts.
    fn next_segment(&mut self) -> io::Result<bool> {
        let offset = self.offset.next_multiple_of(u64::from(self.sector_bytes));
        if offset + u64::from(self.sector_bytes) > self.journal_bytes {
            return Ok(false);
        }
        let Some(segment) = segment(self.files, offset)? else {
            return Ok(false);
        };
        // SQLite writes this into the first header only; there it was dealt with.
        if segment.records == COUNT_BY_LENGTH {
            return Ok(false);
        }
        self.offset = offset + u64::from(self.sector_bytes);
        self.nonce = segment.nonce;
        self.records_left = u64::from(segment.records);
        Ok(true)
    }

    fn record_bytes(&self) -> u64 {
        u64::from(self.page_size.bytes()) + 8
    }
}

enum Record {
    Page(Pgno),
    Unsound,
}

fn segment<F: Files + ?Sized>(files: &F, offset: u64) -> io::Result<Option<Segment>> {
    let mut bytes = [0; HEADER_BYTES];
    if !read_whole(files, FileKind::RollbackJournal, &mut bytes, offset)? || !bytes.starts_with(&MAGIC) {
        return Ok(None);
    }
    let mut fields = &bytes[MAGIC.len()..];
    Ok(Some(Segment {
        records: fields.get_u32(),
        nonce: fields.get_u32(),
        pages: fields.get_u32(),
        sector_bytes: fields.get_u32(),
        page_bytes: fields.get_u32(),
    }))
}

/// Computes a record's checksum.
fn checksum(nonce: u32, page: &[u8]) -> u32 {
    let mut sum = nonce;
    let mut at = page.len().saturating_sub(200);
    while at > 0 {
        sum = sum.wrapping_add(u32::from(page[at]));
        at = at.saturating_sub(200);
    }
    sum
}

#[cfg(test)]
mod tests;
