use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::db::{
    files::{FileKind, Files as _},
    testing::{OnDisk, open},
    wal::{WalHeader, WalPlace, transactions},
};

fn index_of(path: &Path) -> Vec<u8> {
    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    std::fs::read(index).unwrap()
}

#[test]
fn the_index_of_the_real_sqlite_says_what_its_log_says() {
    for page_size in PageSize::all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = open(&path, page_size.bytes(), "wal");
        connection
            .execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t (b) VALUES (randomblob(9000));")
            .unwrap();
        let files = OnDisk(path.clone());
        let index = WalIndexHeader::decode(&index_of(&path)).unwrap();
        let (log, checksum) = WalHeader::read(&files).unwrap().unwrap();
        let found = transactions(&files, &log, WalPlace::first(checksum), u64::MAX)
            .unwrap()
            .unwrap();
        assert_eq!(index.page_size, page_size);
        assert_eq!((index.order, index.salts), (log.order, log.salts));
        assert_eq!(index.frame_checksum, found.end.checksum);
        assert_eq!(index.pages, found.commit_pages);
        let frames = (found.end.offset - 32) / log.frame_bytes();
        assert_eq!(u64::from(index.last_frame), frames);
        assert_eq!(files.len(FileKind::Wal).unwrap(), found.end.offset);
    }
}

#[test]
fn a_written_header_is_read_and_no_flipped_bit_passes() {
    for page_size in PageSize::all() {
        let header = sample(page_size);
        let mut block = [0xaa; BLOCK_BYTES];
        header.write(&mut block);
        assert_eq!(WalIndexHeader::decode(&block), Some(header));
        assert!(block[136..].iter().all(|byte| *byte == 0xaa), "the rest stays");
        for bit in 0..8 * 2 * HEADER_BYTES {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(WalIndexHeader::decode(&damaged), None, "bit {bit}");
        }
    }
    assert_eq!(WalIndexHeader::decode(&[0; 95]), None);
}

/// A second process takes the index for what it says: it neither rebuilds it nor reads the log.
#[test]
fn sqlite_goes_on_with_an_index_that_says_the_log_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let connection = open(&path, 4096, "wal");
    connection
        .execute_batch("INSERT INTO t (b) VALUES (zeroblob(9000)); PRAGMA wal_checkpoint(TRUNCATE);")
        .unwrap();
    let files = OnDisk(path.clone());
    let pages = files.len(FileKind::Database).unwrap() / 4096;
    let before = WalIndexHeader::decode(&index_of(&path)).unwrap();
    let header = WalIndexHeader {
        change: before.change + 1,
        last_frame: 0,
        pages: u32::try_from(pages).unwrap(),
        ..before
    };
    let mut index = path.as_os_str().to_owned();
    index.push("-shm");
    let mut block: Box<[u8; BLOCK_BYTES]> = index_of(&path)[..BLOCK_BYTES].to_vec().try_into().unwrap();
    header.write(&mut block);
    let shm = std::fs::OpenOptions::new().write(true).open(index).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&shm, &block[..], 0).unwrap();
    let rows = |connection: &Connection| -> u32 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(rows(&connection), 1);
    connection.execute_batch("INSERT INTO t (b) VALUES (1)").unwrap();
    let after = WalIndexHeader::decode(&index_of(&path)).unwrap();
    assert!(after.change > header.change, "SQLite counted on from ours");
    assert_eq!(rows(&Connection::open(&path).unwrap()), 2);
}

fn sample(page_size: PageSize) -> WalIndexHeader {
    WalIndexHeader {
        change: 5,
        order: ByteOrder::Big,
        page_size,
        last_frame: 12,
        pages: 77,
        frame_checksum: WalChecksum(1, 2),
        salts: (3, 4),
    }
}
