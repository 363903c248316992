use proptest::prelude::*;

use super::*;
use crate::objects::{ObjectFacts, ObjectName, Role};
use crate::testing::{DISK, SALT, damage, sealer};

fn header() -> CheckpointHeader {
    CheckpointHeader {
        disk: DISK,
        epoch: Epoch(4),
        seq: ObjectSeq(50),
        number: 6,
        data_seq: ObjectSeq(48),
        journal_seq: crate::Seq(900),
        salt: SALT,
    }
}

/// A checkpoint with the leaves `changed`, and two that older ones hold.
fn checkpoint(changed: &[(u32, Vec<u8>)], objects: u64) -> Checkpoint {
    let old = LeafRef {
        object: ObjectSeq(40),
        epoch: Epoch(3),
        offset: 1234,
        bytes: 500,
    };
    let mut leaves = BTreeMap::from([(3, old), (900, old)]);
    let mut table = Objects::default();
    for seq in 1..=objects {
        table.add(
            ObjectSeq(seq * 3),
            ObjectFacts {
                role: [Role::Data, Role::Gc, Role::Checkpoint][usize::try_from(seq % 3).unwrap()],
                epoch: Epoch(2),
                bytes: seq << 20,
                blocks: 100 + seq,
                live: seq,
                born: 1,
                dead: seq % 2 * 5,
            },
        );
    }
    leaves.extend(changed.iter().map(|(leaf, _)| (*leaf, old)));
    let mut offset = Checkpoint::front_bytes(leaves.len(), usize::try_from(objects).unwrap());
    for (leaf, bytes) in changed {
        let bytes = Checkpoint::leaf_bytes(bytes.len());
        let at = LeafRef {
            object: ObjectSeq(50),
            epoch: Epoch(4),
            offset,
            bytes: u32::try_from(bytes).unwrap(),
        };
        leaves.insert(*leaf, at);
        offset += bytes;
    }
    Checkpoint {
        header: header(),
        leaves,
        objects: table,
    }
}

fn changed() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    prop::collection::btree_map(0..2000_u32, prop::collection::vec(any::<u8>(), 0..100), 0..5)
        .prop_map(|leaves| leaves.into_iter().collect())
}

proptest! {
    #[test]
    fn prop_a_checkpoint_reads_as_it_was_written(changed in changed(), objects in 0..9_u64) {
        let written = checkpoint(&changed, objects);
        let (bytes, reference) = written.encode(&sealer(), &changed);
        let at = |byte: u64| usize::try_from(byte).unwrap();
        prop_assert_eq!(reference.total_bytes, bytes.len() as u64);
        let read = Checkpoint::open(&sealer(), &bytes[..at(reference.front_bytes)]).unwrap();
        prop_assert_eq!(&read, &written);
        for (leaf, plain) in &changed {
            let place = read.leaves[leaf];
            let stored = &bytes[at(place.offset)..at(place.offset) + place.bytes as usize];
            prop_assert_eq!(&Checkpoint::open_leaf(&sealer(), *leaf, &place, stored).unwrap(), plain);
            prop_assert_eq!(Checkpoint::open_leaf(&sealer(), leaf + 1, &place, stored), Err(Flaw::Seal));
        }
    }

    #[test]
    fn prop_a_damaged_checkpoint_never_reads_as_something_else(
        changed in changed(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let written = checkpoint(&changed, 5);
        let (bytes, reference) = written.encode(&sealer(), &changed);
        let mut damaged = bytes.to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut damaged));
        damaged.truncate(usize::try_from(reference.front_bytes).unwrap());
        if let Ok(read) = Checkpoint::open(&sealer(), &damaged) {
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn prop_names_are_read_back_and_nothing_else_is_a_name(seq in any::<u64>(), epoch in any::<u32>(), junk in ".{0,30}") {
        let name = ObjectName { role: Role::Gc, seq: ObjectSeq(seq), epoch: Epoch(epoch) };
        let key = name.key(DISK);
        let rest = key.strip_prefix(&ObjectName::prefix(DISK, Role::Gc)).unwrap();
        prop_assert_eq!(ObjectName::parse(Role::Gc, rest), Some(name));
        if let Some(parsed) = ObjectName::parse(Role::Data, &junk) {
            prop_assert!(parsed.key(DISK).ends_with(&junk));
        }
    }
}

#[test]
fn an_object_is_deleted_when_it_is_dead_and_no_snapshot_is_of_its_time() {
    let mut objects = Objects::default();
    let facts = ObjectFacts {
        role: Role::Data,
        epoch: Epoch(1),
        bytes: 10,
        blocks: 4,
        live: 4,
        born: 2,
        dead: 0,
    };
    objects.add(ObjectSeq(1), facts);
    objects.release(ObjectSeq(1), 3);
    objects.bury(4);
    assert_eq!(objects.deletable(9, &[]), []);
    objects.release(ObjectSeq(1), 1);
    objects.bury(5);
    objects.bury(6);
    let name = ObjectName {
        role: Role::Data,
        seq: ObjectSeq(1),
        epoch: Epoch(1),
    };
    assert_eq!(objects.deletable(4, &[]), [], "checkpoint 5 is not committed yet");
    assert_eq!(objects.deletable(5, &[]), [name]);
    assert_eq!(
        objects.deletable(5, &[1, 5]),
        [name],
        "those snapshots are of other times"
    );
    assert_eq!(objects.deletable(5, &[2]), []);
    assert_eq!(objects.deletable(5, &[4]), []);
}
