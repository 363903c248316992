use bytes::Bytes;
use log_disk::{BLOCK_BYTES, Epoch, JournalId, Lba, RecordHeader, Salt, Seq};

use super::*;
use crate::testing::{DISK, Made, name, sealer};

#[test]
fn head_checkpoint_and_objects_are_told_in_lines() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 4, 1), (20, 100, 0)]);
    made.gc(2, 1, &[(0, 2, 1, 1)]);
    let first = name(Role::Data, 1, 1);
    let reference = made.checkpoint(3, 1, &[(0, 4, first)]);
    made.head(1, Some(reference));
    let object = |name: log_disk::ObjectName| &made.objects[&name.key(DISK)];
    let told = dump_object(&Layout::open(&sealer(), object(first)).unwrap());
    assert!(told.starts_with("Data object 1 of epoch 1, disk 0707"), "{told}");
    assert!(
        told.contains("\n0+4 in ") && told.contains("\n20+100 zeros\n"),
        "{told}"
    );
    let told = dump_object(&Layout::open(&sealer(), object(name(Role::Gc, 2, 1))).unwrap());
    assert!(told.contains(", first written by data object 1\n"), "{told}");
    let told = dump_checkpoint(&Checkpoint::open(&sealer(), object(name(Role::Checkpoint, 3, 1))).unwrap());
    assert!(told.contains("leaf 0 in c/0000000000000003-00000001: "), "{told}");
    assert!(
        told.contains("4 of 4 blocks needed, since checkpoint 1\n"),
        "{told}"
    );
    let head = &made.objects[&log_disk::head_key(DISK)];
    let told = dump_head(&Head::decode(&sealer(), head).unwrap());
    assert!(
        told.contains("\ncheckpoint 1 in c/0000000000000003-00000001: up to data object 1, "),
        "{told}"
    );
    assert!(
        told.contains("\nstream of epoch 1: objects from 1 on, after data object 0, "),
        "{told}"
    );
}

/// A journal of two records, one of them with zeros.
fn journal() -> ([Vec<u8>; 2], Vec<u8>) {
    let superblock = Superblock {
        disk: DISK,
        journal: JournalId([5; 16]),
        revision: 8,
        ring_pages: 64,
        epoch: Epoch(3),
        adopting: Epoch(0),
        tail_position: 64,
        tail_seq: Seq(10),
        tail_epoch: Epoch(3),
        tail_crc: 77,
        durable_seq: Seq(11),
    };
    let mut ring = vec![0; 64 * PAGE_BYTES];
    let mut header = RecordHeader {
        kind: RecordKind::Writes,
        disk: DISK,
        epoch: Epoch(3),
        pages: 0,
        seq: Seq(10),
        position: 64,
        salt: Salt([9; 8]),
        previous_crc: 77,
        durable_seq: Seq(0),
    };
    for pieces in [
        vec![(Lba(5), 2, Some(Bytes::from(vec![1; 2 * BLOCK_BYTES])))],
        vec![
            (Lba(9), 1, Some(Bytes::from(vec![2; BLOCK_BYTES]))),
            (Lba(100), 50, None),
        ],
    ] {
        let (bytes, record) = Record::encode(&sealer(), header, &pieces);
        let at = usize::try_from(header.position % 64).unwrap() * PAGE_BYTES;
        ring[at..at + bytes.len()].copy_from_slice(&bytes);
        header.position = record.header.end();
        header.seq = header.seq.next();
        header.previous_crc = record.crc;
    }
    ([superblock.encode(), vec![0; PAGE_BYTES]], ring)
}

fn told(superblocks: &[Vec<u8>; 2], ring: &[u8]) -> String {
    dump_journal(
        &sealer(),
        [&superblocks[0], &superblocks[1]],
        &mut |position, pages| {
            let at = usize::try_from(position % 64).unwrap() * PAGE_BYTES;
            let bytes = usize::try_from(pages).unwrap() * PAGE_BYTES;
            ring.get(at..at + bytes).map(<[u8]>::to_vec)
        },
    )
}

#[test]
fn a_journal_is_told_record_by_record_up_to_its_end() {
    let (superblocks, ring) = journal();
    let told = told(&superblocks, &ring);
    assert!(told.contains("page 1: no superblock: "), "{told}");
    assert!(
        told.contains("record 10 at page 64, 3 pages, epoch 3: 5+2\n"),
        "{told}"
    );
    assert!(
        told.contains("record 11 at page 67, 2 pages, epoch 3: 9+1 100+50 zeros\n"),
        "{told}"
    );
    assert!(told.ends_with("end at page 69 before record 12\n"), "{told}");
}

#[test]
fn a_damaged_journal_is_told_with_what_to_do() {
    let (superblocks, mut ring) = journal();
    ring[3 * PAGE_BYTES + 100] ^= 1;
    let damaged = told(&superblocks, &ring);
    assert!(
        damaged.contains("end at page 67 before record 11\ndamaged: records up to 11 were durable; keep"),
        "{damaged}"
    );
    let nothing = told(&[vec![0; PAGE_BYTES], vec![0; PAGE_BYTES]], &ring);
    assert!(
        nothing.ends_with("what the journal held beyond the bucket is lost\n"),
        "{nothing}"
    );
}
