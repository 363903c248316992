use std::{collections::BTreeSet, path::Path};

use bytes::BufMut as _;
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::db::testing::{Memory, open};

/// Undoes a transaction as SQLite would: pages from the journal, each once, then the file's old length.
fn rolled_back(files: &Memory) -> Option<Vec<u8>> {
    let mut playback = Playback::new(files).unwrap()?;
    let mut database = files.0[&FileKind::Database].clone();
    let page_bytes = playback.page_size().as_usize();
    database.resize(playback.pages() as usize * page_bytes, 0);
    let (mut data, mut done) = (Vec::new(), BTreeSet::new());
    while let Some(pgno) = playback.next_page(&mut data).unwrap() {
        if done.insert(pgno) {
            let at = (pgno.get() as usize - 1) * page_bytes;
            database[at..at + page_bytes].copy_from_slice(&data);
        }
    }
    Some(database)
}

fn fill(connection: &Connection, rows: u32) {
    let mut insert = connection
        .prepare("INSERT INTO t (b) VALUES (randomblob(700))")
        .unwrap();
    for _ in 0..rows {
        insert.execute([]).unwrap();
    }
}

/// The files in the midst of a transaction that has spilled into the database, and the database before it.
fn spilled(path: &Path, page_bytes: u32, mode: &str, synchronous: &str) -> (Memory, Vec<u8>) {
    let connection = open(path, page_bytes, mode);
    connection
        .execute_batch(&format!("PRAGMA synchronous={synchronous}"))
        .unwrap();
    connection.execute_batch("BEGIN").unwrap();
    fill(&connection, 200);
    connection.execute_batch("COMMIT").unwrap();
    let before = std::fs::read(path).unwrap();
    connection
        .execute_batch("BEGIN; UPDATE t SET b = randomblob(701)")
        .unwrap();
    fill(&connection, 200);
    (Memory::copy(path), before)
}

#[test]
fn the_journal_of_a_writer_that_died_brings_the_database_back_byte_for_byte() {
    for page_bytes in [512, 1024, 4096, 65_536] {
        for mode in ["delete", "truncate", "persist"] {
            for synchronous in ["full", "normal", "off"] {
                let directory = tempfile::tempdir().unwrap();
                let (files, before) = spilled(&directory.path().join("db"), page_bytes, mode, synchronous);
                let database = &files.0[&FileKind::Database];
                assert_ne!(database, &before, "{page_bytes} {mode}: nothing was spilled");
                assert!(is_live(&files).unwrap());
                assert!(
                    rolled_back(&files).unwrap() == before,
                    "{page_bytes} {mode} {synchronous}: rolled back to something else"
                );
            }
        }
    }
}

#[test]
fn a_transaction_that_spills_often_leaves_several_segments() {
    let directory = tempfile::tempdir().unwrap();
    let (files, before) = spilled(&directory.path().join("db"), 1024, "delete", "full");
    let journal = &files.0[&FileKind::RollbackJournal];
    let segments = journal
        .chunks(512)
        .filter(|sector| sector.starts_with(&MAGIC))
        .count();
    assert!(segments > 2, "{segments} segments");
    assert!(rolled_back(&files).unwrap() == before);
}

#[test]
fn a_finished_journal_has_nothing_to_play_back() {
    for mode in ["truncate", "persist"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = open(&path, 4096, mode);
        fill(&connection, 10);
        let files = Memory::copy(&path);
        assert!(!is_live(&files).unwrap(), "{mode}");
        assert!(rolled_back(&files).is_none(), "{mode}");
    }
}

#[test]
fn no_journal_is_played_back_whose_sizes_make_no_sense() {
    for (offset, value) in [
        (20, 0_u32),
        (20, 48),
        (20, 131_072),
        (24, 0),
        (24, 100),
        (24, 1000),
    ] {
        let mut journal = header(1, 0, 4, 512, 1024);
        journal[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        let files = Memory::with(FileKind::RollbackJournal, journal);
        assert!(Playback::new(&files).unwrap().is_none(), "{offset} {value}");
    }
}

#[test]
fn the_name_of_a_super_journal_stands_at_the_end_with_its_sum() {
    for name in ["/x/db-mj0123456", "/ä/db-mj9ABCDEF"] {
        for signed in [false, true] {
            let mut journal = header(0, 0, 4, 512, 1024);
            // Zeros before the name would not change the sum of a longer one.
            journal.extend([0x11; 200]);
            journal.extend_from_slice(name.as_bytes());
            journal.put_u32(u32::try_from(name.len()).unwrap());
            let sum = name.bytes().fold(0_u32, |sum, byte| match signed {
                true => sum.wrapping_add_signed(i32::from(byte.cast_signed())),
                false => sum + u32::from(byte),
            });
            journal.put_u32(sum);
            journal.extend_from_slice(&MAGIC);
            let name_of = |journal: &[u8]| {
                super_journal(&Memory::with(FileKind::RollbackJournal, journal.to_vec())).unwrap()
            };
            assert_eq!(name_of(&journal).unwrap(), name.as_bytes());
            for at in journal.len() - 16 - name.len()..journal.len() {
                let mut damaged = journal.clone();
                damaged[at] ^= 0x40;
                assert_eq!(name_of(&damaged), None, "byte {at} is another");
            }
        }
    }
}

fn header(records: u32, nonce: u32, pages: u32, sector_bytes: u32, page_bytes: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for field in [records, nonce, pages, sector_bytes, page_bytes] {
        bytes.put_u32(field);
    }
    bytes.resize(sector_bytes as usize, 0);
    bytes
}

proptest! {
    #[test]
    fn prop_records_come_back_segment_by_segment_up_to_the_first_damage(
        segments in prop::collection::vec(prop::collection::vec((1_u32..100, any::<u8>()), 0..5), 1..5),
        nonce in any::<u32>(),
        sector_power in 5_u32..13,
        damage in prop::option::of(any::<prop::sample::Index>()),
    ) {
        const PAGE: usize = 512;
        let sector = 1_u32 << sector_power;
        let mut journal = Vec::new();
        let mut expected = Vec::new();
        let mut ends = Vec::new();
        for (index, records) in segments.iter().enumerate() {
            journal.resize(journal.len().next_multiple_of(sector as usize), 0);
            let nonce = nonce.wrapping_add(u32::try_from(index).unwrap());
            journal.extend(header(u32::try_from(records.len()).unwrap(), nonce, 200, sector, 512));
            // SQLite reads a last header only where a whole sector holds it; so it is with ours.
            for (pgno, fill) in records {
                let page = vec![*fill; PAGE];
                journal.put_u32(*pgno);
                journal.extend_from_slice(&page);
                journal.put_u32(nonce.wrapping_add(2 * u32::from(*fill)));
                expected.push((*pgno, page));
                ends.push(journal.len());
            }
        }
        let mut kept = expected.len();
        if let (Some(damage), false) = (damage, ends.is_empty()) {
            kept = damage.index(ends.len());
            let last = ends[kept] - 1;
            journal[last] ^= 1;
        }
        let files = Memory::with(FileKind::RollbackJournal, journal);
        let mut playback = Playback::new(&files).unwrap().unwrap();
        let (mut data, mut found) = (Vec::new(), Vec::new());
        while let Some(pgno) = playback.next_page(&mut data).unwrap() {
            found.push((pgno.get(), data.clone()));
        }
        prop_assert_eq!(&found[..], &expected[..kept]);
        prop_assert!(playback.next_page(&mut data).unwrap().is_none(), "the end stays the end");
    }
}
