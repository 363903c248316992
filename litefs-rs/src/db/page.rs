//! PURE. The header of a database: the first 100 bytes of its first page.

use bytes::Buf as _;
use ltx::PageSize;

use super::files::{FileKind, Files, read_whole};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 100;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The highest version that SQLite reads: a database with a write-ahead log.
const VERSION_WAL: u8 = 2;

/// How SQLite makes a database's transactions atomic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JournalMode {
    /// By a rollback journal, whether it is deleted, truncated or kept.
    #[default]
    Rollback,
    /// By a write-ahead log.
    Wal,
}

/// What a database says of itself. All numbers big endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 16 | `SQLite format 3` and a zero |
/// | 16 | 2 | page size in bytes; 1 is 65,536 |
/// | 19 | 1 | version needed to read it: 2 with a write-ahead log, else 1 |
/// | 24 | 4 | change counter |
/// | 28 | 4 | pages |
/// | 92 | 4 | the change counter when the pages were counted |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Bytes of a page.
    pub page_size: PageSize,
    /// How transactions are made atomic.
    pub journal_mode: JournalMode,
    /// How many pages there are, unless whoever wrote last did not count them.
    counted_pages: Option<u32>,
}

impl DatabaseHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// The bytes are not the beginning of a database that SQLite would read.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DatabaseHeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(DatabaseHeaderError::Magic);
        }
        let u32_at = |offset: usize| (&bytes[offset..]).get_u32();
        let stored = (&bytes[16..]).get_u16();
        let page_bytes = if stored == 1 { 65_536 } else { u32::from(stored) };
        let page_size =
            PageSize::new(page_bytes).ok_or(DatabaseHeaderError::PageSize { bytes: page_bytes })?;
        let version = bytes[19];
        let journal_mode = match version {
            0 | 1 => JournalMode::Rollback,
            VERSION_WAL => JournalMode::Wal,
            _ => return Err(DatabaseHeaderError::Version { version }),
        };
        let pages = u32_at(28);
        let counted = pages != 0 && u32_at(24) == u32_at(92);
        Ok(Self {
            page_size,
            journal_mode,
            counted_pages: counted.then_some(pages),
        })
    }

    /// Reads the header of the database file; nothing when the file is empty.
    ///
    /// # Errors
    /// The file cannot be read, or is no database.
    pub fn read<F: Files + ?Sized>(files: &F) -> Result<Option<Self>, ReadHeaderError> {
        let mut bytes = [0; HEADER_BYTES];
        if read_whole(files, FileKind::Database, &mut bytes, 0)? {
            return Ok(Some(Self::decode(&bytes)?));
        }
        if files.len(FileKind::Database)? == 0 {
            Ok(None)
        } else {
            Err(ReadHeaderError::Header(DatabaseHeaderError::Magic))
        }
    }

    /// Returns the number of pages: as counted, or, as SQLite does, by the length of the file where a writer older than
    /// SQLite 3.7 did not count.
    ///
    /// * `file_bytes`: the length of the database file, all pages of which are there.
    ///
    /// # Errors
    /// More pages were counted than the file has.
    pub fn pages(&self, file_bytes: u64) -> Result<u32, DatabaseHeaderError> {
        let by_length = file_bytes / u64::from(self.page_size.bytes());
        match self.counted_pages {
            Some(pages) if u64::from(pages) > by_length => {
                Err(DatabaseHeaderError::Short { pages, file_bytes })
            }
            Some(pages) => Ok(pages),
            None => Ok(u32::try_from(by_length).unwrap_or(u32::MAX)),
        }
    }
}

/// Why bytes are not the header of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseHeaderError {
    /// They do not begin as one.
    #[error("not a sqlite database")]
    Magic,
    /// SQLite has no such page size.
    #[error("a sqlite database with pages of {bytes} bytes")]
    PageSize {
        /// What stands there.
        bytes: u32,
    },
    /// It was made by a future SQLite.
    #[error("a sqlite database of version {version}")]
    Version {
        /// What stands there.
        version: u8,
    },
    /// Pages are missing at its end.
    #[error("a sqlite database of {pages} pages in {file_bytes} bytes")]
    Short {
        /// How many it has by its own account.
        pages: u32,
        /// The length of its file.
        file_bytes: u64,
    },
}

/// Why a database file's header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadHeaderError {
    /// The file cannot be read.
    #[error("read the header of the database file")]
    Read(#[from] std::io::Error),
    /// It is no database.
    #[error("the header of the database file")]
    Header(#[from] DatabaseHeaderError),
}

#[cfg(test)]
mod tests;
