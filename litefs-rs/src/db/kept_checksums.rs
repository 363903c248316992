//! What a database at rest adds up to, kept beside it: the next start need not read all of it.
//!
//! The file `checksums` in the database's directory, all numbers big endian:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | `LFSSUM01` |
//! | 8 | 8 | the last transaction |
//! | 16 | 8 | the database's checksum after it |
//! | 24 | 4 | page size in bytes |
//! | 28 | 4 | pages |
//! | 32 | 8 · pages | each page's checksum, page 1 first; 0 for the lock page |
//!
//! It is there only while nobody serves the database, and is believed when it is the newest transaction's, the database has
//! the length that it says, there is neither log nor journal, and its checksums make up the database's. LiteFS leaves it alone;
//! after a transaction of LiteFS it is another's, and is removed.

use std::{io, path::Path};

use bytes::{Buf as _, BufMut as _};
use crashsafe::{Disk, OpenOptions};
use ltx::{Checksum, FileName, PageSize, Pos, Txid};

use super::{checksum::PageChecksums, commit::History, database_files::ltx_directory};

const LABEL: &str = "checksums";
const NAME: &str = "checksums";
const MAGIC: &[u8; 8] = b"LFSSUM01";
const HEADER_BYTES: usize = 32;
const MODE: u32 = 0o666;

/// Keeps what a database at rest adds up to. Nothing is kept of one without pages.
pub(super) fn keep(disk: &dyn Disk, directory: &Path, history: &History) -> io::Result<()> {
    let (Some(page_size), checksums) = (history.page_size(), history.checksums()) else {
        return Ok(());
    };
    let pos = history.pos();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 * checksums.all().len());
    bytes.extend_from_slice(MAGIC);
    bytes.put_u64(pos.txid.get());
    bytes.put_u64(pos.checksum.bits());
    bytes.put_u32(page_size.bytes());
    bytes.put_u32(checksums.pages());
    checksums
        .all()
        .iter()
        .for_each(|checksum| bytes.put_u64(checksum.bits()));
    crashsafe::write_atomic(disk, LABEL, &directory.join(NAME), &bytes, MODE)
}

/// Takes what was kept, if it can be believed. It is gone afterwards, durably: whoever serves the database changes it.
pub(super) fn take(disk: &dyn Disk, directory: &Path) -> io::Result<Option<History>> {
    let path = directory.join(NAME);
    let Some(stat) = disk.stat(&path)? else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(stat.len).unwrap_or(0)];
    let file = disk.open(LABEL, &path, OpenOptions::READ)?;
    file.read_exact_at(&mut bytes, 0)?;
    drop(file);
    let history = match decode(&bytes) {
        Some((pos, page_size, checksums)) if is_at(disk, directory, pos, page_size, &checksums)? => {
            let ltx = ltx_directory(directory);
            Some(History::new(ltx, pos, Some(page_size), checksums))
        }
        Some(_) | None => None,
    };
    disk.remove_file(LABEL, &path)?;
    disk.sync_dir(LABEL, directory)?;
    Ok(history)
}

fn decode(bytes: &[u8]) -> Option<(Pos, PageSize, PageChecksums)> {
    let mut fields = bytes.strip_prefix(MAGIC)?;
    if fields.len() < HEADER_BYTES - MAGIC.len() {
        return None;
    }
    let pos = Pos {
        txid: Txid::new(fields.get_u64()),
        checksum: Checksum::from_bits(fields.get_u64()),
    };
    let page_size = PageSize::new(fields.get_u32())?;
    let pages = fields.get_u32();
    let (checksums, []) = fields.as_chunks::<8>() else {
        return None;
    };
    if checksums.len() != pages as usize || pages == 0 {
        return None;
    }
    let checksums = checksums
        .iter()
        .map(|bits| Checksum::from_bits(u64::from_be_bytes(*bits)));
    let checksums = PageChecksums::of(page_size, checksums.collect());
    (checksums.database() == pos.checksum).then_some((pos, page_size, checksums))
}

/// Tells whether the files are those of then.
fn is_at(
    disk: &dyn Disk,
    directory: &Path,
    pos: Pos,
    page_size: PageSize,
    checksums: &PageChecksums,
) -> io::Result<bool> {
    for other in ["wal", "journal"] {
        if disk.stat(&directory.join(other))?.is_some() {
            return Ok(false);
        }
    }
    let len = disk.stat(&directory.join("database"))?.map(|stat| stat.len);
    if len != Some(u64::from(checksums.pages()) * u64::from(page_size.bytes())) {
        return Ok(false);
    }
    let ltx = ltx_directory(directory);
    if disk.stat(&ltx)?.is_none() {
        return Ok(false);
    }
    let entries = disk.list(&ltx)?;
    let names = entries
        .iter()
        .filter_map(|entry| entry.name.parse::<FileName>().ok());
    Ok(names.map(|name| name.max).max() == Some(pos.txid))
}

#[cfg(test)]
mod tests;
