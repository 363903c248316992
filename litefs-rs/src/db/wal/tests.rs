use proptest::prelude::*;

use super::*;
use crate::db::testing::{Memory, OnDisk, open};

#[test]
fn a_log_of_the_real_sqlite_gives_the_database_that_sqlite_reads() {
    for page_size in PageSize::all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = open(&path, page_size.bytes(), "wal");
        connection
            .execute_batch(
                "PRAGMA wal_autocheckpoint=0;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300)
                 INSERT INTO t (b) SELECT randomblob(500) FROM n;
                 BEGIN; UPDATE t SET b = randomblob(499); ROLLBACK;
                 DELETE FROM t WHERE a % 3 = 0;",
            )
            .unwrap();
        let files = OnDisk(path.clone());
        let (header, checksum) = WalHeader::read(&files).unwrap().unwrap();
        assert_eq!(header.page_size, page_size);
        let found = transactions(&files, &header, WalPlace::first(checksum), u64::MAX)
            .unwrap()
            .unwrap();
        let mut database = std::fs::read(&path).unwrap();
        database.resize(found.commit_pages as usize * page_size.as_usize(), 0);
        for (pgno, offset) in &found.pages {
            let at = (pgno.get() as usize - 1) * page_size.as_usize();
            let page = &mut database[at..at + page_size.as_usize()];
            assert!(read_whole(&files, FileKind::Wal, page, *offset).unwrap());
        }
        let read: u32 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .unwrap();
        assert_eq!(read, 0, "the checkpoint was not blocked");
        assert!(
            std::fs::read(&path).unwrap() == database,
            "pages of {page_size} bytes"
        );
    }
}

#[test]
fn a_header_is_read_as_it_was_written_and_no_flipped_bit_passes() {
    let header = sample(ByteOrder::Big, 65_536);
    let (bytes, checksum) = header.encode();
    assert_eq!(WalHeader::decode(&bytes), Some((header, checksum)));
    for bit in 0..8 * HEADER_BYTES {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(WalHeader::decode(&damaged), None, "bit {bit}");
    }
}

fn sample(order: ByteOrder, page_bytes: u32) -> WalHeader {
    WalHeader {
        order,
        page_size: PageSize::new(page_bytes).unwrap(),
        sequence: 7,
        salts: (0x0102_0304, 0xfffe_fdfc),
    }
}

fn pgno(number: u32) -> Pgno {
    Pgno::new(number).unwrap()
}

/// Transactions as lists of (page, content); the bool says whether the last frame commits.
fn any_transactions() -> impl Strategy<Value = Vec<(Vec<(u32, u8)>, bool)>> {
    let frames = prop::collection::vec((1_u32..6, any::<u8>()), 1..4);
    prop::collection::vec((frames, prop::bool::weighted(0.8)), 0..6)
}

proptest! {
    #[test]
    fn prop_committed_transactions_are_found_up_to_the_first_damage(
        list in any_transactions(),
        big in any::<bool>(),
        damage in prop::option::of(any::<prop::sample::Index>()),
        limit in prop::option::of(0_u64..30),
    ) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let header = sample(order, 512);
        let (bytes, first) = header.encode();
        let mut log = bytes.to_vec();
        let mut checksum = first;
        // What is committed after each frame.
        let mut states = vec![None];
        let mut pages = BTreeMap::new();
        for (index, (frames, commits)) in list.iter().enumerate() {
            for (position, (number, fill)) in frames.iter().enumerate() {
                let last = position + 1 == frames.len() && *commits;
                let commit_pages = if last { 10 + u32::try_from(index).unwrap() } else { 0 };
                pages.insert(pgno(*number), (log.len() + FRAME_HEADER_BYTES) as u64);
                checksum = header.encode_frame(&mut log, checksum, pgno(*number), commit_pages, &[*fill; 512]);
                let end = WalPlace { offset: log.len() as u64, checksum };
                let state = if last {
                    Some(WalTransactions { pages: pages.clone(), commit_pages, end })
                } else {
                    states.last().unwrap().clone()
                };
                states.push(state);
            }
        }
        let mut frames = states.len() - 1;
        if let (Some(damage), true) = (damage, frames > 0) {
            let byte = HEADER_BYTES + damage.index(log.len() - HEADER_BYTES);
            log[byte] ^= 0x10;
            frames = (byte - HEADER_BYTES) / usize::try_from(header.frame_bytes()).unwrap();
        }
        if let Some(limit) = limit {
            frames = frames.min(usize::try_from(limit).unwrap());
        }
        let limit = limit.map_or(u64::MAX, |limit| HEADER_BYTES as u64 + limit * header.frame_bytes());
        let files = Memory::with(FileKind::Wal, log);
        let found = transactions(&files, &header, WalPlace::first(first), limit).unwrap();
        prop_assert_eq!(&found, &states[frames]);
        if let Some(found) = found {
            prop_assert_eq!(transactions(&files, &header, found.end, found.end.offset).unwrap(), None);
        }
    }

    #[test]
    fn prop_transactions_taken_piece_by_piece_are_those_taken_at_once(
        list in any_transactions(),
        cut in any::<prop::sample::Index>(),
    ) {
        let header = sample(ByteOrder::Little, 512);
        let (bytes, first) = header.encode();
        let (mut log, mut checksum) = (bytes.to_vec(), first);
        for frame in list.iter().flat_map(|(frames, _)| frames) {
            checksum = header.encode_frame(&mut log, checksum, pgno(frame.0), u32::from(frame.1 % 3), &[frame.1; 512]);
        }
        let files = Memory::with(FileKind::Wal, log.clone());
        let whole = transactions(&files, &header, WalPlace::first(first), u64::MAX).unwrap();
        let limit = HEADER_BYTES as u64 + cut.index(log.len()) as u64;
        let mut pieces = transactions(&files, &header, WalPlace::first(first), limit).unwrap();
        let from = pieces.as_ref().map_or(WalPlace::first(first), |pieces| pieces.end);
        if let Some(rest) = transactions(&files, &header, from, u64::MAX).unwrap() {
            let mut pages = pieces.map(|pieces| pieces.pages).unwrap_or_default();
            pages.extend(rest.pages);
            pieces = Some(WalTransactions { pages, ..rest });
        }
        prop_assert_eq!(pieces, whole);
    }
}
