//! The files of one database on a disk.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crashsafe::{Disk, DiskFile, OpenOptions};

use super::files::{FileKind, Files};

const LABEL: &str = "database";
/// Less the umask, as LiteFS has it.
const MODE: u32 = 0o666;

/// The directory of one database: `database`, `journal`, `wal`, `shm`, and `ltx` with its transactions.
///
/// Names are made durable with the next sync of a file, and at once where something rests on it: SQLite believes that they
/// are when it has synced what it created.
#[derive(Debug)]
pub struct DatabaseFiles {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    open: BTreeMap<FileKind, Box<dyn DiskFile>>,
    names_unsynced: bool,
}

impl DatabaseFiles {
    /// Opens the files that are there.
    ///
    /// # Errors
    /// As the disk.
    pub fn open(disk: Arc<dyn Disk>, directory: PathBuf) -> io::Result<Self> {
        let mut open = BTreeMap::new();
        for file in FileKind::ALL {
            match disk.open(LABEL, &directory.join(Self::name(file)), OpenOptions::READ_WRITE) {
                Ok(handle) => {
                    open.insert(file, handle);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            disk,
            directory,
            open,
            // Nobody knows what came before.
            names_unsynced: true,
        })
    }

    /// Returns what a file is called in the directory.
    #[must_use]
    pub const fn name(file: FileKind) -> &'static str {
        match file {
            FileKind::Database => "database",
            FileKind::RollbackJournal => "journal",
            FileKind::Wal => "wal",
            FileKind::Shm => "shm",
        }
    }

    /// Returns the disk.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the directory of the transactions.
    #[must_use]
    pub fn ltx_directory(&self) -> PathBuf {
        ltx_directory(&self.directory)
    }

    /// Tells whether a file exists.
    #[must_use]
    pub fn exists(&self, file: FileKind) -> bool {
        self.open.contains_key(&file)
    }

    /// Creates a file, if it does not exist.
    ///
    /// # Errors
    /// As the disk.
    pub fn create(&mut self, file: FileKind) -> io::Result<()> {
        if self.exists(file) {
            return Ok(());
        }
        let options = OpenOptions {
            mode: MODE,
            ..OpenOptions::CREATE
        };
        let handle = self
            .disk
            .open(LABEL, &self.directory.join(Self::name(file)), options)?;
        self.open.insert(file, handle);
        self.names_unsynced = true;
        Ok(())
    }

    /// Writes to a file that exists.
    ///
    /// # Errors
    /// `NotFound`; else as the disk.
    pub fn write(&self, file: FileKind, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.handle(file)?.write_at(bytes, offset)
    }

    /// Cuts or grows a file that exists.
    ///
    /// # Errors
    /// `NotFound`; else as the disk.
    pub fn set_len(&self, file: FileKind, len: u64) -> io::Result<()> {
        self.handle(file)?.set_len(len)
    }

    /// Makes a file durable, with its name.
    ///
    /// # Errors
    /// `NotFound`; else as the disk.
    pub fn sync(&mut self, file: FileKind) -> io::Result<()> {
        self.handle(file)?.sync_data()?;
        self.sync_names()
    }

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// As the disk.
    pub fn sync_names(&mut self) -> io::Result<()> {
        if self.names_unsynced {
            self.disk.sync_dir(LABEL, &self.directory)?;
            self.names_unsynced = false;
        }
        Ok(())
    }

    /// Removes a file's name. Whoever has it open may go on with it.
    ///
    /// # Errors
    /// As the disk; not when there is no such file.
    pub fn unlink(&mut self, file: FileKind) -> io::Result<()> {
        if self.exists(file) {
            self.disk
                .remove_file(LABEL, &self.directory.join(Self::name(file)))?;
            self.open.remove(&file);
            self.names_unsynced = true;
        }
        Ok(())
    }

    fn handle(&self, file: FileKind) -> io::Result<&dyn DiskFile> {
        let handle = self.open.get(&file).map(Box::as_ref);
        handle.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{file} does not exist")))
    }
}

impl Files for DatabaseFiles {
    fn read_at(&self, file: FileKind, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.open
            .get(&file)
            .map_or(Ok(0), |handle| handle.read_at(bytes, offset))
    }

    fn len(&self, file: FileKind) -> io::Result<u64> {
        self.open.get(&file).map_or(Ok(0), |handle| handle.len())
    }
}

/// Returns the directory of a database's transactions.
pub(super) fn ltx_directory(directory: &Path) -> PathBuf {
    directory.join("ltx")
}

/// Reads a file from its beginning on.
#[derive(Debug)]
pub(super) struct FromStart {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl FromStart {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, offset: 0 }
    }
}

impl io::Read for FromStart {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
