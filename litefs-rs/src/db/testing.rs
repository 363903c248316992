//! What the tests of this folder share: files in memory and on the disk, and databases made by the real SQLite.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::files::{FileKind, Files};

/// The files of a database, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memory(pub(crate) BTreeMap<FileKind, Vec<u8>>);

impl Memory {
    pub(crate) fn with(file: FileKind, bytes: Vec<u8>) -> Self {
        Self(BTreeMap::from([(file, bytes)]))
    }

    /// Copies the files of the database at `path`, as they are at this moment.
    pub(crate) fn copy(path: &Path) -> Self {
        let read = |file| std::fs::read(path_of(path, file)).ok().map(|bytes| (file, bytes));
        Self(FileKind::ALL.into_iter().filter_map(read).collect())
    }
}

impl Files for Memory {
    fn read_at(&self, file: FileKind, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.get(&file).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let len = bytes.len().min(content.len() - from);
        bytes[..len].copy_from_slice(&content[from..from + len]);
        Ok(len)
    }

    fn len(&self, file: FileKind) -> io::Result<u64> {
        Ok(self.0.get(&file).map_or(0, Vec::len) as u64)
    }
}

/// The files of a database of the real SQLite.
#[derive(Debug)]
pub(crate) struct OnDisk(pub(crate) PathBuf);

impl Files for OnDisk {
    fn read_at(&self, file: FileKind, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match File::open(path_of(&self.0, file)) {
            Ok(file) => file.read_at(bytes, offset),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn len(&self, file: FileKind) -> io::Result<u64> {
        match std::fs::metadata(path_of(&self.0, file)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn path_of(database: &Path, file: FileKind) -> PathBuf {
    let suffix = match file {
        FileKind::Database => "",
        FileKind::RollbackJournal => "-journal",
        FileKind::Wal => "-wal",
        FileKind::Shm => "-shm",
    };
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Opens a database of that page size and journal mode with a small table and an even smaller cache.
pub(crate) fn open(path: &Path, page_bytes: u32, journal_mode: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_bytes}; PRAGMA journal_mode={journal_mode}; PRAGMA cache_size=5;
             CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB);"
        ))
        .unwrap();
    connection
}
