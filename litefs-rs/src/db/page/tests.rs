use ltx::PageSize;

use super::*;
use crate::db::testing::{Memory, OnDisk, open};

#[test]
fn a_database_of_every_page_size_and_mode_is_read_as_sqlite_wrote_it() {
    for page_size in PageSize::all() {
        for (mode, expected) in [("delete", JournalMode::Rollback), ("wal", JournalMode::Wal)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("db");
            let connection = open(&path, page_size.bytes(), mode);
            connection
                .execute_batch("INSERT INTO t (b) VALUES (zeroblob(300000)); PRAGMA wal_checkpoint;")
                .unwrap();
            let pages: u32 = connection
                .query_row("PRAGMA page_count", [], |row| row.get(0))
                .unwrap();
            let files = OnDisk(path);
            let header = DatabaseHeader::read(&files).unwrap().unwrap();
            assert_eq!((header.page_size, header.journal_mode), (page_size, expected));
            assert_eq!(
                header.pages(u64::MAX),
                Ok(pages),
                "by the count that SQLite keeps"
            );
        }
    }
}

#[test]
fn pages_that_an_old_writer_did_not_count_are_counted_by_the_file() {
    let mut bytes = sample();
    bytes[27] ^= 1;
    assert_eq!(
        DatabaseHeader::decode(&bytes).unwrap().pages(10 * 4096 + 5),
        Ok(10)
    );
    bytes[27] ^= 1;
    assert_eq!(DatabaseHeader::decode(&bytes).unwrap().pages(10 * 4096), Ok(7));
    let short = DatabaseHeaderError::Short {
        pages: 7,
        file_bytes: 7 * 4096 - 1,
    };
    assert_eq!(
        DatabaseHeader::decode(&bytes).unwrap().pages(7 * 4096 - 1),
        Err(short)
    );
}

#[test]
fn what_is_no_database_is_told() {
    let check = |change: &dyn Fn(&mut [u8; HEADER_BYTES]), expected| {
        let mut bytes = sample();
        change(&mut bytes);
        assert_eq!(DatabaseHeader::decode(&bytes), Err(expected));
    };
    check(&|bytes| bytes[3] = b'x', DatabaseHeaderError::Magic);
    check(
        &|bytes| bytes[16] = 3,
        DatabaseHeaderError::PageSize { bytes: 768 },
    );
    check(
        &|bytes| bytes[19] = 3,
        DatabaseHeaderError::Version { version: 3 },
    );
}

#[test]
fn an_empty_file_has_no_header_and_a_cut_one_is_no_database() {
    let empty = Memory::default();
    assert!(DatabaseHeader::read(&empty).unwrap().is_none());
    let cut = Memory::with(FileKind::Database, sample()[..99].to_vec());
    assert!(matches!(
        DatabaseHeader::read(&cut),
        Err(ReadHeaderError::Header(DatabaseHeaderError::Magic))
    ));
}

fn sample() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16] = 0x10;
    bytes[18..20].fill(1);
    bytes[31] = 7;
    bytes
}
