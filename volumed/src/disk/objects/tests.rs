#![allow(clippy::unwrap_used)]

use log_disk::{
    Compression, DiskId, Epoch, Lba, ObjectHeader, ObjectKind, Role, Salt, Seq, Source, SourceRun, ToSeal,
    seal_object,
};
use objstore::MemoryStore;

use super::super::store::purpose;
use super::*;

const DISK: DiskId = DiskId([3; 16]);

/// An object of `extents` extents of two blocks each, every second block of the disk being left out.
async fn stored(bucket: &Bucket, sealer: &Sealer, extents: u64) -> ObjectName {
    let header = ObjectHeader {
        kind: ObjectKind::Data,
        disk: DISK,
        epoch: Epoch(1),
        seq: ObjectSeq(1),
        previous: ObjectSeq(0),
        journal_seq: Seq(1),
        size_blocks: 1 << 20,
        salt: Salt([1; 8]),
        wrapped_key: vec![1, 2, 3],
    };
    let source = Source::Journal {
        seq: Seq(1),
        position: 0,
        piece: 0,
        skip: 0,
    };
    let runs: Vec<ToSeal> = (0..extents)
        .map(|number| ToSeal {
            lba: Lba(number * 3),
            blocks: 2,
            origin: ObjectSeq(0),
            sources: vec![SourceRun { blocks: 2, source }],
        })
        .collect();
    let data: Vec<Bytes> = (0..extents).map(|number| plain(2 * number, 2)).collect();
    let object = seal_object(sealer, Compression::None, header, &runs, &data);
    let name = ObjectName {
        role: Role::Data,
        seq: ObjectSeq(1),
        epoch: Epoch(1),
    };
    bucket.put(name, object.body).await;
    name
}

/// What the object's blocks hold, from block `at` on.
fn plain(at: u64, blocks: u64) -> Bytes {
    (at..at + blocks)
        .flat_map(|block| std::iter::repeat_n(block.to_le_bytes(), BLOCK_BYTES / 8).flatten())
        .collect()
}

#[tokio::test]
async fn runs_come_back_as_they_were_stored_over_however_many_extents() {
    let sealer = Arc::new(Sealer::new(&[1; 32], DISK));
    let bucket = Bucket::new(Arc::new(MemoryStore::new()), DISK);
    // More extents than the first 64 KiB have room for.
    let name = stored(&bucket, &sealer, 4000).await;
    let object = Object { name, sealer };
    let reader = Reader::new(bucket);
    let runs = [(5000, 30), (0, 1), (7999, 1), (3, 2)].map(|(at, blocks)| Run {
        object: object.clone(),
        at,
        blocks,
    });
    let read = reader.read(&runs, purpose::READ).await.unwrap();
    for (run, bytes) in runs.iter().zip(read) {
        assert!(bytes == plain(u64::from(run.at), run.blocks), "{run:?}");
    }
    let past = Run {
        object,
        at: 8000,
        blocks: 1,
    };
    let refused = reader.read(&[past], purpose::READ).await;
    assert!(matches!(refused, Err(ReadError::Damaged { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_object_that_is_not_there_is_named() {
    let sealer = Arc::new(Sealer::new(&[1; 32], DISK));
    let reader = Reader::new(Bucket::new(Arc::new(MemoryStore::new()), DISK));
    let name = ObjectName {
        role: Role::Data,
        seq: ObjectSeq(9),
        epoch: Epoch(1),
    };
    let object = Object { name, sealer };
    let run = Run {
        object,
        at: 0,
        blocks: 1,
    };
    let missing = reader.read(&[run], purpose::READ).await.unwrap_err();
    assert_eq!(missing.to_string(), "object 9 is missing");
}
