use proptest::prelude::*;

use super::*;
use crate::testing::{DISK, SALT, damage, mend_crc, sealer};

fn stream(epoch: u32, begin: u64, after: u64) -> Stream {
    Stream {
        epoch: Epoch(epoch),
        owner: JournalId([2; 16]),
        begin: ObjectSeq(begin),
        after: ObjectSeq(after),
    }
}

#[test]
fn an_epochs_objects_count_up_to_where_the_next_one_cut_them_off() {
    let mut head = Head::new(DISK, 100, vec![]);
    head.epoch = Epoch(5);
    head.streams = vec![stream(1, 1, 0), stream(3, 8, 5), stream(4, 12, 9)];
    let counts = |seq, epoch| head.counts(ObjectSeq(seq), Epoch(epoch));
    assert!(counts(1, 1) && counts(5, 1));
    assert!(!counts(6, 1), "uploaded after the cut");
    assert!(!counts(8, 1), "of the next one's numbers");
    assert!(!counts(7, 3) && counts(8, 3) && counts(9, 3) && !counts(10, 3));
    assert!(!counts(8, 2), "an epoch that never began");
    assert!(counts(12, 4) && counts(1000, 4));
    assert!(!counts(1000, 5), "a claim that is not complete");
}

#[test]
fn a_cut_far_back_cuts_everything_between() {
    let mut head = Head::new(DISK, 100, vec![]);
    head.epoch = Epoch(3);
    head.streams = vec![stream(1, 1, 0), stream(2, 8, 7), stream(3, 12, 5)];
    assert!(!head.counts(ObjectSeq(6), Epoch(1)));
    assert!(!head.counts(ObjectSeq(9), Epoch(2)));
}

fn base(number: u64) -> Base {
    Base {
        disk: DiskId([u8::try_from(100 + number).unwrap(); 16]),
        last: ObjectSeq(number * 50),
        number,
        wrapped_key: vec![5; 85],
    }
}

fn heads() -> impl Strategy<Value = Head> {
    let checkpoint =
        (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(number, seq, epoch, bytes)| {
            CheckpointRef {
                number,
                seq: ObjectSeq(seq),
                epoch: Epoch(epoch),
                front_bytes: bytes / 2,
                total_bytes: bytes,
                data_seq: ObjectSeq(seq / 3),
            }
        });
    let snapshot =
        ("[a-z0-9]{1,12}", 0..1_u64 << 48, checkpoint.clone()).prop_map(|(name, size_blocks, checkpoint)| {
            Snapshot {
                name,
                size_blocks,
                checkpoint,
            }
        });
    (
        any::<u64>(),
        0..1_u64 << 48,
        prop::collection::vec(any::<u8>(), 0..=255),
        prop::option::of(checkpoint),
        prop::collection::vec(snapshot, 0..4),
        0..4_u32,
        (0..4_u64, any::<bool>()),
    )
        .prop_map(
            |(revision, size_blocks, wrapped_key, checkpoint, snapshots, streams, (bases, deleted))| Head {
                bases: (1..=bases.min(if checkpoint.is_some() { 9 } else { 0 }))
                    .map(base)
                    .collect(),
                deleted,
                disk: DISK,
                revision,
                size_blocks,
                epoch: Epoch(streams + 1),
                owner: JournalId([3; 16]),
                wrapped_key,
                streams: (0..streams)
                    .map(|epoch| stream(epoch + 1, u64::from(epoch) * 9, 4))
                    .collect(),
                checkpoint,
                snapshots,
            },
        )
}

proptest! {
    #[test]
    fn prop_a_head_reads_as_it_was_written(head in heads()) {
        let bytes = head.encode(&sealer(), SALT);
        prop_assert_eq!(Head::wrapped_key(&bytes).unwrap(), head.wrapped_key.clone());
        prop_assert_eq!(Head::decode(&sealer(), &bytes), Ok(head));
    }

    #[test]
    fn prop_a_damaged_head_is_refused(
        head in heads(),
        damages in prop::collection::vec(damage(), 1..4),
        mend in any::<bool>(),
    ) {
        let bytes = head.encode(&sealer(), SALT);
        let mut damaged = bytes.clone();
        damages.iter().for_each(|damage| damage.apply(&mut damaged));
        if mend {
            mend_crc(&mut damaged);
        }
        prop_assert!(Head::decode(&sealer(), &damaged).is_err() || damaged == bytes);
    }

    #[test]
    fn prop_arbitrary_bytes_behind_a_magic_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 8..300)) {
        bytes[..6].copy_from_slice(b"HGHD\x01\x00");
        mend_crc(&mut bytes);
        prop_assert!(Head::decode(&sealer(), &bytes).is_err());
    }
}
