//! Packs directory entries into blocks. Pure.
//!
//! A block is an array of 12-byte entries, then their names in the same order. Entries are sorted by name, as bytes,
//! over the whole directory with `.` and `..` among them: the kernel finds a name by bisection.

use super::format::{BLOCK, DIRENT_BYTES};

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) node: u64,
    pub(super) file_type: u8,
}

/// Returns the size in bytes of a directory with these names, sorted: whole blocks, and the used part of the last.
pub(super) fn size_bytes<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut blocks_before = 0;
    let mut used = 0;
    for name in names {
        let need = DIRENT_BYTES + name.len();
        if used + need > BLOCK {
            blocks_before += 1;
            used = 0;
        }
        used += need;
    }
    blocks_before * BLOCK as u64 + used as u64
}

/// Returns the directory's bytes; their length is what [`size_bytes`] said.
pub(super) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let count = rest
            .iter()
            .take_while(|entry| {
                used += DIRENT_BYTES + entry.name.len();
                used <= BLOCK
            })
            .count();
        let (block, after) = rest.split_at(count);
        put_block(&mut out, block);
        if !after.is_empty() {
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        rest = after;
    }
    out
}

fn put_block(out: &mut Vec<u8>, entries: &[Entry<'_>]) {
    assert!(!entries.is_empty(), "one name always fits a block");
    let mut name_offset = entries.len() * DIRENT_BYTES;
    for entry in entries {
        out.extend_from_slice(&entry.node.to_le_bytes());
        out.extend_from_slice(
            &u16::try_from(name_offset)
                .expect("offsets stay below a block")
                .to_le_bytes(),
        );
        out.push(entry.file_type);
        out.push(0);
        name_offset += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}
