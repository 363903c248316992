use ltx::Pgno;

use super::{block_of, with_frames};
use crate::db::{files::FileKind, shm::BLOCK_BYTES, testing::Memory};

/// Compares the tables that SQLite makes of its own log with those that we make of the same frames.
#[test]
fn the_tables_are_those_that_sqlite_makes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("database");
    let connection = rusqlite::Connection::open(&path).expect("sqlite");
    connection
        .execute_batch(
            "PRAGMA page_size=512; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (v);
             INSERT INTO t VALUES (zeroblob(2500000)); UPDATE t SET v = zeroblob(2500000);
             INSERT INTO t VALUES (zeroblob(2500000))",
        )
        .expect("a log");
    let memory = Memory::copy(&path);
    let log = &memory.0[&FileKind::Wal];
    let index = &memory.0[&FileKind::Shm];
    let number = |frame: &[u8]| Pgno::new(u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]));
    let pages: Vec<Pgno> = log[32..].chunks(24 + 512).filter_map(number).collect();
    assert!(pages.len() > 2 * 4096, "{} frames", pages.len());
    let blocks = with_frames(&Memory::default(), 0, &pages).expect("blocks");
    assert_eq!(blocks.len(), index.len() / BLOCK_BYTES);
    for (block, theirs) in blocks.iter().zip(index.chunks(BLOCK_BYTES)) {
        let from = block.numbers_offset();
        assert!(block.bytes[from..] == theirs[from..], "block {}", block.number);
    }
    // In two steps it comes to the same, whatever a writer left who died.
    let first = with_frames(&Memory::default(), 0, &pages[..5000]).expect("blocks");
    let bytes = first.into_iter().flat_map(|block| block.bytes).collect();
    let left = Memory::with(FileKind::Shm, bytes);
    let second = with_frames(&left, 4500, &pages[4500..]).expect("blocks");
    for block in second {
        let theirs = &index[block.number as usize * BLOCK_BYTES..][..BLOCK_BYTES];
        assert!(block.bytes[block.numbers_offset()..] == theirs[block.numbers_offset()..]);
    }
    drop(connection);
}

#[test]
fn frames_fill_one_block_after_the_other() {
    for (frame, expected) in [
        (1, (0, 1)),
        (4062, (0, 1)),
        (4063, (1, 4063)),
        (8158, (1, 4063)),
        (8159, (2, 8159)),
    ] {
        assert_eq!(block_of(frame), expected, "frame {frame}");
    }
}
