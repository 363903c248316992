use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testing::{DISK, Damage, SALT, damage, mend_crc, sealer};
use crate::{BLOCK_BYTES, Epoch, Flaw, JournalId, Lba, Seq};

fn header(seq: u64, position: u64, epoch: u32, previous_crc: u32) -> RecordHeader {
    RecordHeader {
        kind: RecordKind::Writes,
        disk: DISK,
        epoch: Epoch(epoch),
        pages: 0,
        seq: Seq(seq),
        position,
        salt: SALT,
        previous_crc,
        durable_seq: Seq(0),
    }
}

fn block(byte: u8, blocks: usize) -> Bytes {
    Bytes::from(vec![byte; blocks * BLOCK_BYTES])
}

fn superblock() -> Superblock {
    Superblock {
        disk: DISK,
        journal: JournalId([5; 16]),
        revision: 8,
        ring_pages: 64,
        epoch: Epoch(3),
        adopting: Epoch(0),
        tail_position: 100,
        tail_seq: Seq(10),
        tail_epoch: Epoch(2),
        tail_crc: 77,
        durable_seq: Seq(0),
    }
}

/// A ring in memory.
struct Ring {
    pages: Vec<[u8; PAGE_BYTES]>,
}

impl Ring {
    fn new(pages: usize) -> Self {
        Self {
            pages: vec![[0; PAGE_BYTES]; pages],
        }
    }

    fn write(&mut self, position: u64, bytes: &[u8]) {
        for (at, page) in (position..).zip(bytes.as_chunks::<PAGE_BYTES>().0) {
            let len = self.pages.len() as u64;
            self.pages[usize::try_from(at % len).unwrap()] = *page;
        }
    }

    fn scan(&self, superblock: &Superblock) -> (Vec<u64>, ScanEnd) {
        let sealer = sealer();
        let mut scan = Scan::new(superblock);
        let mut seqs = Vec::new();
        let mut step = scan.begin();
        loop {
            step = match step {
                ScanStep::Read { position, pages } => {
                    let at = usize::try_from(position % superblock.ring_pages).unwrap();
                    let end = at + usize::try_from(pages).unwrap();
                    assert!(end <= self.pages.len(), "read past the ring's end");
                    scan.read(&sealer, Some(self.pages[at..end].as_flattened()))
                }
                ScanStep::Record(record) => {
                    seqs.push(record.header.seq.0);
                    scan.begin()
                }
                ScanStep::End(end) => return (seqs, end),
            }
        }
    }
}

/// Writes `count` records of two blocks each; returns the end and the last CRC.
fn fill(ring: &mut Ring, from: RecordHeader, count: u64) -> Vec<(u64, u32)> {
    let mut next = from;
    let mut ends = Vec::new();
    for _ in 0..count {
        let pieces = [(Lba(4), 2, Some(block(1, 2))), (Lba(99), 1 << 30, None)];
        let (bytes, record) = Record::encode(&sealer(), next, &pieces);
        ring.write(next.position, &bytes);
        ends.push((record.header.end(), record.crc));
        next = header(next.seq.0 + 1, record.header.end(), next.epoch.0, record.crc);
    }
    ends
}

#[test]
fn a_scan_takes_the_whole_chain_and_nothing_after_it() {
    let mut ring = Ring::new(64);
    let ends = fill(&mut ring, header(10, 100, 3, 77), 5);
    let (seqs, end) = ring.scan(&superblock());
    assert_eq!(seqs, [10, 11, 12, 13, 14]);
    let expected = ScanEnd {
        position: ends[4].0,
        seq: Seq(15),
        crc: ends[4].1,
        damaged: false,
        known_durable: Seq(0),
    };
    assert_eq!(end, expected);
}

#[test]
fn a_torn_page_ends_the_scan_before_its_record() {
    let mut ring = Ring::new(64);
    let ends = fill(&mut ring, header(10, 100, 3, 77), 5);
    let second_data_page = usize::try_from((ends[1].0 + 2) % 64).unwrap();
    ring.pages[second_data_page][4000] ^= 1;
    assert_eq!(ring.scan(&superblock()).0, [10, 11]);
}

/// Writes ten records, each of which knows that the `behind` last ones before it may not be durable yet.
fn fill_knowing(ring: &mut Ring, behind: u64) -> Vec<(u64, u32)> {
    let mut next = header(10, 100, 3, 77);
    let mut ends = Vec::new();
    for seq in 10..20 {
        next.durable_seq = Seq(seq - behind);
        ends.extend(fill(ring, next, 1));
        let (end, crc) = *ends.last().unwrap();
        next = header(seq + 1, end, 3, crc);
    }
    ends
}

#[test]
fn a_record_that_later_ones_know_to_have_been_durable_is_missed() {
    let mut ring = Ring::new(64);
    let ends = fill_knowing(&mut ring, 2);
    // All of record 12 is gone: its place holds what was there before.
    for at in ends[1].0..ends[2].0 {
        ring.pages[usize::try_from(at % 64).unwrap()] = [7; PAGE_BYTES];
    }
    let (seqs, end) = ring.scan(&superblock());
    assert_eq!(seqs, [10, 11]);
    assert!(end.damaged);
    assert_eq!(end.known_durable, Seq(17));
}

#[test]
fn records_that_nothing_knows_to_have_been_durable_are_torn_and_not_missed() {
    let mut ring = Ring::new(64);
    let ends = fill_knowing(&mut ring, 9);
    ring.pages[usize::try_from(ends[1].0 % 64).unwrap()] = [7; PAGE_BYTES];
    let (seqs, end) = ring.scan(&superblock());
    assert_eq!(seqs, [10, 11]);
    assert!(!end.damaged, "{end:?}");
}

#[test]
fn what_an_earlier_writer_knew_proves_nothing() {
    let mut ring = Ring::new(64);
    let ends = fill_knowing(&mut ring, 2);
    ring.pages[usize::try_from(ends[1].0 % 64).unwrap()] = [7; PAGE_BYTES];
    let reopened = Superblock {
        epoch: Epoch(4),
        ..superblock()
    };
    assert!(!ring.scan(&reopened).1.damaged);
}

#[test]
fn what_a_torn_record_left_behind_it_is_not_taken_up_again() {
    let mut ring = Ring::new(64);
    let ends = fill(&mut ring, header(10, 100, 3, 77), 5);
    // Record 12 is torn; after recovery, epoch 4 writes another one of the same length in its place.
    fill(&mut ring, header(12, ends[1].0, 4, ends[1].1), 1);
    let reopened = Superblock {
        epoch: Epoch(4),
        ..superblock()
    };
    let (seqs, end) = ring.scan(&reopened);
    assert_eq!(seqs, [10, 11, 12]);
    assert_eq!(end.position, ends[2].0);
}

#[test]
fn records_of_epochs_that_cannot_be_here_do_not_count() {
    let mut ring = Ring::new(64);
    fill(&mut ring, header(10, 100, 4, 77), 1);
    assert_eq!(ring.scan(&superblock()).0, [0; 0]);
    fill(&mut ring, header(10, 100, 1, 77), 1);
    assert_eq!(ring.scan(&superblock()).0, [0; 0]);
}

#[test]
fn records_of_an_earlier_lap_do_not_count() {
    let mut ring = Ring::new(64);
    fill(&mut ring, header(10, 100 - 64, 3, 77), 3);
    assert_eq!(ring.scan(&superblock()).0, [0; 0]);
}

#[test]
fn a_journal_that_ends_before_what_was_durable_is_damaged() {
    let mut ring = Ring::new(64);
    fill(&mut ring, header(10, 100, 3, 77), 2);
    let damaged = |durable| {
        let superblock = Superblock {
            durable_seq: Seq(durable),
            ..superblock()
        };
        ring.scan(&superblock).1.damaged
    };
    assert!(!damaged(11));
    assert!(damaged(12));
}

#[test]
fn a_pad_leads_around_the_end_of_the_ring() {
    let mut ring = Ring::new(64);
    let pad = RecordHeader {
        kind: RecordKind::Pad,
        pages: 63 - 100 % 64,
        ..header(10, 100, 3, 77)
    };
    let (bytes, record) = Record::encode(&sealer(), pad, &[]);
    assert_eq!(bytes.len(), PAGE_BYTES);
    ring.write(100, &bytes);
    assert_eq!(record.header.end(), 128);
    fill(&mut ring, header(11, 128, 3, record.crc), 2);
    assert_eq!(ring.scan(&superblock()).0, [10, 11, 12]);
}

#[test]
fn the_newer_sound_superblock_counts() {
    let old = superblock();
    let new = Superblock { revision: 9, ..old };
    let mut torn = new.encode();
    torn[50] ^= 1;
    assert_eq!(newest_superblock([&old.encode(), &new.encode()]), Ok(new));
    assert_eq!(newest_superblock([&old.encode(), &torn]), Ok(old));
    assert_eq!(newest_superblock([&torn, &new.encode()]), Ok(new));
    assert_eq!(newest_superblock([&torn, &torn]), Err(Flaw::Checksum));
}

#[test]
fn another_version_is_refused_by_name() {
    let mut page = superblock().encode();
    page[4] = 2;
    assert_eq!(Superblock::decode(&page), Err(Flaw::Version { found: 2 }));
    let (mut page, _) = Record::encode(&sealer(), header(1, 0, 1, 0), &[]);
    page[4] = 9;
    assert_eq!(Record::open(&sealer(), &page), Err(Flaw::Version { found: 9 }));
}

#[test]
fn room_is_taken_up_to_two_mib_or_a_full_table() {
    let mut room = RecordRoom::new(RECORD_BLOCKS_MAX);
    let pieces: Vec<_> = (0..40_u64)
        .filter(|_| room.take(PIECE_BLOCKS_MAX))
        .map(|index| (Lba(index * 16), 16, Some(block(1, 16))))
        .collect();
    assert_eq!(pieces.len() as u64 * PIECE_BLOCKS_MAX, RECORD_BLOCKS_MAX);
    assert_eq!(
        Record::encode(&sealer(), header(1, 0, 1, 0), &pieces).0.len(),
        513 * PAGE_BYTES
    );

    let mut room = RecordRoom::new(RECORD_BLOCKS_MAX);
    let pieces: Vec<_> = (0..200_u64)
        .filter(|_| room.take(1))
        .map(|index| (Lba(index * 16), 1, Some(block(1, 1))))
        .collect();
    assert!(pieces.len() >= 120, "{} single blocks", pieces.len());
    assert_eq!(
        Record::encode(&sealer(), header(1, 0, 1, 0), &pieces).0.len(),
        (pieces.len() + 1) * PAGE_BYTES
    );
}

fn pieces() -> impl Strategy<Value = Vec<(Lba, u64, Option<Bytes>)>> {
    let piece = prop_oneof![
        (0..1_u64 << 40, 1..5_u64, any::<u8>()).prop_map(|(lba, blocks, byte)| (
            Lba(lba),
            blocks,
            Some(block(byte, usize::try_from(blocks).unwrap()))
        )),
        (0..1_u64 << 40, 1..u64::from(u32::MAX)).prop_map(|(lba, blocks)| (Lba(lba), blocks, None)),
    ];
    prop::collection::vec(piece, 0..8)
}

proptest! {
    #[test]
    fn prop_a_record_reads_as_it_was_written(pieces in pieces(), seq in any::<u64>(), position in 0..1_u64 << 50) {
        let (bytes, written) = Record::encode(&sealer(), header(seq, position, 3, 5), &pieces);
        let read = Record::open(&sealer(), &bytes).unwrap();
        prop_assert_eq!(&read, &written);
        read.check_payload(&sealer(), &bytes[PAGE_BYTES..]).unwrap();
        for (index, (_, _, data)) in pieces.iter().enumerate() {
            if let Some(data) = data {
                let from = (1 + read.pieces[index].data.as_ref().unwrap().page as usize) * PAGE_BYTES;
                let opened = read.open_piece(&sealer(), index, &bytes[from..from + data.len()]).unwrap();
                prop_assert_eq!(&opened, data);
            }
        }
    }

    #[test]
    fn prop_a_damaged_record_is_refused_or_reads_as_it_was_written(
        pieces in pieces(),
        damages in prop::collection::vec(damage(), 1..4),
        mend in any::<bool>(),
    ) {
        let (bytes, written) = Record::encode(&sealer(), header(4, 6, 3, 5), &pieces);
        let mut damaged = bytes;
        damages.iter().for_each(|damage: &Damage| damage.apply(&mut damaged));
        if mend && damaged.len() >= PAGE_BYTES {
            mend_crc(&mut damaged[..PAGE_BYTES]);
        }
        if let Ok(read) = Record::open(&sealer(), &damaged)
            && read.check_payload(&sealer(), &damaged[PAGE_BYTES..]).is_ok()
        {
            prop_assert_eq!(read.pieces, written.pieces);
        }
    }

    #[test]
    fn prop_arbitrary_bytes_behind_a_magic_are_refused(mut bytes in prop::collection::vec(any::<u8>(), PAGE_BYTES)) {
        bytes[..6].copy_from_slice(b"HGJR\x01\x00");
        mend_crc(&mut bytes);
        prop_assert!(Record::open(&sealer(), &bytes).is_err());
        bytes[..6].copy_from_slice(b"HGJS\x01\x00");
        mend_crc(&mut bytes);
        let _any_superblock = Superblock::decode(&bytes);
    }

    #[test]
    fn prop_superblocks_read_as_written(revision in any::<u64>(), tail in 0..1_u64 << 50, seq in any::<u64>()) {
        let written = Superblock {
            revision,
            tail_position: tail,
            tail_seq: Seq(seq),
            durable_seq: Seq(seq / 2),
            adopting: Epoch(3),
            ..superblock()
        };
        prop_assert_eq!(Superblock::decode(&written.encode()), Ok(written));
    }
}
