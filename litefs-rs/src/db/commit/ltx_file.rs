//! One LTX file, written beside its place and then put there.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crashsafe::{Disk, DiskFile, OpenOptions};
use ltx::{Checksum, EncodeError, Encoder, FileName, Header, Pgno, Pos};

use super::error::{CommitError, Step};
use crate::db::{
    capture::{PagePlace, read_page},
    files::Files,
};

const LABEL: &str = "ltx";
const MODE: u32 = 0o666;
const BUFFER_BYTES: usize = 1 << 16;

/// Pages of a transaction, and where they stand.
#[derive(Debug)]
pub(in crate::db) struct Pages<'a, F: ?Sized> {
    pub(in crate::db) files: &'a F,
    pub(in crate::db) places: &'a BTreeMap<Pgno, PagePlace>,
}

impl<'a, F: ?Sized> Pages<'a, F> {
    pub(in crate::db) fn none(files: &'a F) -> Self {
        const NONE: &BTreeMap<Pgno, PagePlace> = &BTreeMap::new();
        Self { files, places: NONE }
    }
}

/// What makes a transaction durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Durable {
    /// Its LTX file.
    ByItself,
    /// The log that SQLite has written and synced: what is lost of the file is made again of that, until
    /// [`History::make_durable`](super::History::make_durable).
    ByLog,
}

/// A file that is written under another name.
#[derive(Debug)]
pub(in crate::db) struct PreparedFile {
    pub(super) name: FileName,
    /// The position after it.
    pub(in crate::db) pos: Pos,
}

/// Writes a file under its temporary name.
///
/// * `post_apply`: gives the database's checksum afterwards, from those of the pages.
pub(in crate::db) fn write<F: Files + ?Sized>(
    disk: &dyn Disk,
    directory: &Path,
    header: Header,
    durable: Durable,
    pages: &Pages<'_, F>,
    post_apply: impl FnOnce(BTreeMap<Pgno, Checksum>) -> Checksum,
) -> Result<PreparedFile, CommitError> {
    let name = header.file_name();
    let temporary = temporary(directory, name);
    let failed = |step| move |source| CommitError::Disk { name, step, source };
    let options = OpenOptions {
        truncate: true,
        mode: MODE,
        ..OpenOptions::CREATE
    };
    let file = disk
        .open(LABEL, &temporary, options)
        .map_err(failed(Step::Create))?;
    let output = BufWriter::with_capacity(BUFFER_BYTES, Appender { file, offset: 0 });
    let encoding = |source: EncodeError| CommitError::Ltx { name, source };
    let mut page = vec![0; header.page_size.as_usize()];
    let mut encoder = Encoder::new(output, header).map_err(encoding)?;
    let mut checksums = BTreeMap::new();
    for (pgno, place) in pages.places {
        read_page(pages.files, *place, &mut page).map_err(|source| CommitError::Read {
            pgno: *pgno,
            place: *place,
            source,
        })?;
        checksums.insert(*pgno, Checksum::of_page(*pgno, &page));
        encoder.page(*pgno, &page).map_err(encoding)?;
    }
    let encoded = encoder.finish(post_apply(checksums)).map_err(encoding)?;
    let appender = encoded
        .output
        .into_inner()
        .map_err(io::IntoInnerError::into_error);
    let synced = appender.and_then(|appender| match durable {
        Durable::ByItself => appender.file.sync_data(),
        Durable::ByLog => Ok(()),
    });
    synced.map_err(failed(Step::Write))?;
    Ok(PreparedFile {
        name,
        pos: encoded.pos,
    })
}

impl PreparedFile {
    /// Returns where it lies until it has its name.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        temporary(directory, self.name)
    }

    /// Gives the file its name.
    pub(in crate::db) fn publish(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        durable: Durable,
    ) -> Result<(), CommitError> {
        let name = self.name;
        let to = directory.join(name.to_string());
        let renamed = disk.rename(LABEL, &temporary(directory, name), &to);
        let synced = renamed.and_then(|()| match durable {
            Durable::ByItself => disk.sync_dir(LABEL, directory),
            Durable::ByLog => Ok(()),
        });
        synced.map_err(|source| CommitError::Disk {
            name,
            step: Step::Publish,
            source,
        })
    }

    /// Removes the file.
    pub(super) fn discard(&self, disk: &dyn Disk, directory: &Path) -> Result<(), CommitError> {
        let name = self.name;
        let removed = disk.remove_file(LABEL, &temporary(directory, name));
        removed.map_err(|source| CommitError::Disk {
            name,
            step: Step::Discard,
            source,
        })
    }
}

/// Makes files durable that have their names.
pub(in crate::db) fn sync(
    disk: &dyn Disk,
    directory: &Path,
    names: impl IntoIterator<Item = FileName>,
) -> Result<(), CommitError> {
    let mut last = None;
    for name in names {
        let path = directory.join(name.to_string());
        let synced = disk
            .open(LABEL, &path, OpenOptions::READ_WRITE)
            .and_then(|file| file.sync_data());
        synced.map_err(|source| CommitError::Disk {
            name,
            step: Step::Sync,
            source,
        })?;
        last = Some(name);
    }
    let Some(name) = last else { return Ok(()) };
    let synced = disk.sync_dir(LABEL, directory);
    synced.map_err(|source| CommitError::Disk {
        name,
        step: Step::Sync,
        source,
    })
}

fn temporary(directory: &Path, name: FileName) -> PathBuf {
    directory.join(format!("{name}.tmp"))
}

/// Writes to the end of a file.
struct Appender {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
