//! PURE. The files that a database consists of, and how engines look into them.

use std::{fmt, io};

/// One of the files of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The database itself.
    Database,
    /// The rollback journal, `-journal`.
    RollbackJournal,
    /// The write-ahead log, `-wal`.
    Wal,
    /// The index of the write-ahead log, `-shm`.
    Shm,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Database, Self::RollbackJournal, Self::Wal, Self::Shm];
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the database file",
            Self::RollbackJournal => "the rollback journal",
            Self::Wal => "the write-ahead log",
            Self::Shm => "the index of the write-ahead log",
        })
    }
}

/// What the files of one database hold at this moment.
pub trait Files {
    /// Reads into `bytes` from `offset` on; fewer bytes than asked for come back only where the file ends. A file that does
    /// not exist is empty.
    ///
    /// # Errors
    /// As the system.
    fn read_at(&self, file: FileKind, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns a file's length in bytes, 0 when there is none.
    ///
    /// # Errors
    /// As the system.
    fn len(&self, file: FileKind) -> io::Result<u64>;
}

/// Fills `bytes` from `offset` on, and tells whether the file reached so far.
pub(crate) fn read_whole<F: Files + ?Sized>(
    files: &F,
    file: FileKind,
    bytes: &mut [u8],
    offset: u64,
) -> io::Result<bool> {
    Ok(files.read_at(file, bytes, offset)? == bytes.len())
}
