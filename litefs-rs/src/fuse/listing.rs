//! What the directory lists.

use fuser::{FileType, INodeNo};

use super::{
    fs::Mount,
    inodes::{LAG, PRIMARY, ROOT, name_of},
};
use crate::db::files::FileKind;

/// Returns the entries in the order that LiteFS has: special files, then each database with its side files.
///
/// Numbers of files here are of no use to anybody: the kernel asks for each by name.
pub(super) fn entries(mount: &Mount) -> Vec<(INodeNo, FileType, String)> {
    const UNKNOWN: u64 = u64::MAX;
    let directory = |name: &str| (INodeNo(ROOT), FileType::Directory, name.to_owned());
    let file = |number, name: String| (INodeNo(number), FileType::RegularFile, name);
    let mut entries = vec![directory("."), directory(".."), file(LAG, ".lag".to_owned())];
    if mount.node.primary().is_some() {
        entries.push(file(PRIMARY, ".primary".to_owned()));
    }
    for slot in mount.store.all() {
        let len = std::fs::metadata(slot.path(FileKind::Database)).map_or(0, |metadata| metadata.len());
        if len == 0 {
            continue;
        }
        entries.push(file(UNKNOWN, slot.name().to_string()));
        entries.push(file(UNKNOWN, format!("{}-pos", slot.name())));
        for side in [FileKind::RollbackJournal, FileKind::Shm, FileKind::Wal] {
            if slot.path(side).exists() {
                entries.push(file(UNKNOWN, name_of(slot.name(), side)));
            }
        }
    }
    entries
}
