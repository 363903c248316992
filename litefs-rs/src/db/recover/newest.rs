//! The newest LTX file of a database, and those that a power cut may have taken.

use std::{collections::BTreeMap, path::Path};

use crashsafe::{Disk, OpenOptions};
use ltx::{Checksum, Decoded, Decoder, FileName, Pos, Version};

use super::error::RecoverError;
use crate::db::{
    checksum::PageChecksums,
    database_files::{DatabaseFiles, FromStart},
    files::{FileKind, Files},
    rollback_journal::Playback,
    wal::{self, WalHeader},
};

const LABEL: &str = "recover";
const BUFFER_BYTES: usize = 1 << 16;

/// A file that was read to its end and is sound.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) name: FileName,
    pub(super) decoded: Decoded,
}

/// Removes files that were never finished.
pub(super) fn sweep(disk: &dyn Disk, directory: &Path) -> Result<(), RecoverError> {
    for entry in disk.list(directory)? {
        let unfinished = entry.name.strip_suffix(".tmp");
        if unfinished.is_some_and(|name| name.parse::<FileName>().is_ok()) {
            disk.remove_file(LABEL, &directory.join(entry.name))?;
        }
    }
    Ok(())
}

/// What LTX files say of where a database stands.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest that all before it lead to.
    pub(super) newest: Option<Newest>,
    /// Those that may not be durable yet, for the log has their transactions: the newest and those before it.
    pub(super) in_log: Vec<FileName>,
    /// Newer ones, which a power cut has damaged or parted from those before them. The log has their transactions.
    pub(super) lost: Vec<FileName>,
    /// What is wrong with them.
    pub(super) why: Option<RecoverError>,
}

/// Finds the file with the last transaction and reads it to its end.
///
/// * `log`: the log that makes transactions durable. Their files were not synced, so all of them are read.
///
/// # Errors
/// The disk fails; or, without a log, the file is not sound.
pub(super) fn find(
    disk: &dyn Disk,
    directory: &Path,
    log: Option<&WalHeader>,
) -> Result<Found, RecoverError> {
    let entries = disk.list(directory)?;
    let mut names: Vec<FileName> = entries
        .iter()
        .filter_map(|entry| entry.name.parse::<FileName>().ok())
        .collect();
    names.sort_by_key(|name| (name.max, name.min));
    let mut found = Found::default();
    let mut expected: Option<Pos> = None;
    for name in names.into_iter().rev() {
        let read = match read(disk, directory, name) {
            Err(error @ RecoverError::Disk(_)) => return Err(error),
            Err(error) if log.is_none() => return Err(error),
            Err(error) => {
                found.part(Some(name), error);
                expected = None;
                continue;
            }
            Ok(read) => read,
        };
        if let Some(before) = expected {
            if name.max > before.txid {
                // A wider file holds its transactions as well.
                continue;
            }
            if read.decoded.pos != before {
                let file = found.in_log.last().copied().unwrap_or(name);
                found.part(None, RecoverError::Gap { file, before });
            }
        }
        let span = read.decoded.header.wal;
        let span = span.filter(|span| log.is_some_and(|log| log.salts == (span.salt1, span.salt2)));
        expected = Some(read.decoded.header.pre_apply_pos());
        found.newest.get_or_insert(read);
        match span {
            Some(span) => {
                found.in_log.push(name);
                if span.offset_bytes <= wal::HEADER_BYTES as u64 {
                    break;
                }
            }
            None => break,
        }
    }
    if found.newest.is_none()
        && let Some(error) = found.why.take()
    {
        return Err(error);
    }
    Ok(found)
}

impl Found {
    /// What was found up to now is newer than what is missing.
    fn part(&mut self, damaged: Option<FileName>, why: RecoverError) {
        self.newest = None;
        self.lost.append(&mut self.in_log);
        self.lost.extend(damaged);
        self.why = Some(why);
    }
}

/// Sees to it that all `lost` files were made again, and removes what was not overwritten.
///
/// * `pos`: what the database got to.
///
/// # Errors
/// `why`, when the log did not hold them: then they stay.
pub(super) fn replaced(
    disk: &dyn Disk,
    directory: &Path,
    pos: Pos,
    lost: &[FileName],
    why: RecoverError,
) -> Result<(), RecoverError> {
    if lost.iter().any(|name| name.max > pos.txid) {
        return Err(why);
    }
    for name in lost.iter().filter(|name| name.min != name.max) {
        disk.remove_file(LABEL, &directory.join(name.to_string()))?;
    }
    Ok(disk.sync_dir(LABEL, directory)?)
}

fn read(disk: &dyn Disk, directory: &Path, name: FileName) -> Result<Newest, RecoverError> {
    let damaged = |source| RecoverError::Ltx { file: name, source };
    let decoder = Decoder::new(input(disk, directory, name)?, Version::V1).map_err(damaged)?;
    let decoded = decoder.finish().map_err(damaged)?;
    if decoded.header.file_name() != name {
        return Err(RecoverError::Misnamed {
            file: name,
            says: decoded.header.file_name(),
        });
    }
    Ok(Newest { name, decoded })
}

impl Newest {
    /// Does to the database what the file says, durably.
    pub(super) fn apply(&self, files: &mut DatabaseFiles, directory: &Path) -> Result<(), RecoverError> {
        let damaged = |source| RecoverError::Ltx {
            file: self.name,
            source,
        };
        files.create(FileKind::Database)?;
        let input = input(&**files.disk(), directory, self.name)?;
        let mut decoder = Decoder::new(input, Version::V1).map_err(damaged)?;
        let page_bytes = u64::from(self.decoded.header.page_size.bytes());
        let mut page = Vec::new();
        while let Some(pgno) = decoder.next_page(&mut page).map_err(damaged)? {
            files.write(FileKind::Database, &page, u64::from(pgno.get() - 1) * page_bytes)?;
        }
        let commit_pages = u64::from(self.decoded.header.commit_pages);
        files.set_len(FileKind::Database, commit_pages * page_bytes)?;
        files.sync(FileKind::Database)?;
        Ok(())
    }

    /// Tells whether the database is as the file leaves it once its pages are written, however many of them are already.
    ///
    /// * `found`: what the database adds up to now.
    pub(super) fn completes(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        found: &PageChecksums,
    ) -> Result<bool, RecoverError> {
        let damaged = |source| RecoverError::Ltx {
            file: self.name,
            source,
        };
        let header = &self.decoded.header;
        if header.is_snapshot() {
            return Ok(true);
        }
        let mut decoder = Decoder::new(input(disk, directory, self.name)?, Version::V1).map_err(damaged)?;
        let (mut page, mut changed) = (Vec::new(), BTreeMap::new());
        while let Some(pgno) = decoder.next_page(&mut page).map_err(damaged)? {
            changed.insert(pgno, Checksum::of_page(pgno, &page));
        }
        Ok(found.after(header.commit_pages, &changed) == self.decoded.pos.checksum)
    }

    /// Tells whether the file is that of the journal's transaction: it leaves another size, or another copy of a page than
    /// the one from before.
    pub(super) fn is_of<F: Files>(
        &self,
        files: &DatabaseFiles,
        mut playback: Playback<'_, F>,
    ) -> Result<bool, RecoverError> {
        let damaged = |source| RecoverError::Ltx {
            file: self.name,
            source,
        };
        let header = &self.decoded.header;
        if header.page_size != playback.page_size() || header.commit_pages != playback.pages() {
            return Ok(true);
        }
        let input = input(&**files.disk(), &files.ltx_directory(), self.name)?;
        let mut decoder = Decoder::new(input, Version::V1).map_err(damaged)?;
        let (mut page, mut after) = (Vec::new(), BTreeMap::new());
        while let Some(pgno) = decoder.next_page(&mut page).map_err(damaged)? {
            after.insert(pgno, Checksum::of_page(pgno, &page));
        }
        // Of a page that comes twice the first copy counts.
        while let Some(pgno) = playback.next_page(&mut page)? {
            if after
                .remove(&pgno)
                .is_some_and(|after| after != Checksum::of_page(pgno, &page))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the file, durably: its transaction was not committed in the other databases.
    pub(super) fn remove(&self, disk: &dyn Disk, directory: &Path) -> Result<(), RecoverError> {
        disk.remove_file(LABEL, &directory.join(self.name.to_string()))?;
        disk.sync_dir(LABEL, directory)?;
        Ok(())
    }
}

fn input(
    disk: &dyn Disk,
    directory: &Path,
    name: FileName,
) -> Result<impl std::io::Read + use<>, RecoverError> {
    let file = disk.open(LABEL, &directory.join(name.to_string()), OpenOptions::READ)?;
    Ok(std::io::BufReader::with_capacity(
        BUFFER_BYTES,
        FromStart::new(file),
    ))
}
