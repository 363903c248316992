use std::io;

use proptest::prelude::*;

use super::*;
use crate::testing::page_seal;

/// Leaves in a map.
#[derive(Debug, Default)]
struct Memory(BTreeMap<u32, Vec<u8>>);

impl PageStore for Memory {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        self.0.insert(leaf, bytes.to_vec());
    }

    fn load(&mut self, leaf: u32) -> io::Result<Vec<u8>> {
        self.0
            .get(&leaf)
            .cloned()
            .ok_or_else(|| io::Error::other("not there"))
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set(u64, u64, u64),
    Clear(u64, u64),
    Relocate(u64, u64, u64, u64),
}

/// Around the edge between two leaves, and within a third.
fn lba() -> impl Strategy<Value = u64> {
    prop_oneof![
        LEAF_BLOCKS - 30..LEAF_BLOCKS + 30,
        4 * LEAF_BLOCKS..4 * LEAF_BLOCKS + 30
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (lba(), 1..40_u64, 1..4_u64).prop_map(|(lba, blocks, object)| Op::Set(lba, blocks, object)),
        (lba(), 1..40_u64).prop_map(|(lba, blocks)| Op::Clear(lba, blocks)),
        (lba(), 1..40_u64, 1..4_u64, 4..6_u64)
            .prop_map(|(lba, blocks, from, to)| Op::Relocate(lba, blocks, from, to)),
    ];
    prop::collection::vec(op, 1..50)
}

/// In these tests object `n` holds block `lba` at `lba`.
fn place(object: u64, lba: u64) -> Location {
    Location {
        object: ObjectSeq(object),
        at: u32::try_from(lba).unwrap(),
    }
}

proptest! {
    #[test]
    fn prop_a_paged_map_equals_a_map_of_blocks_and_its_checkpoints_rebuild_it(ops in ops(), runs_max in 0..6_usize) {
        let mut map = ExtentMap::new(Memory::default(), page_seal(), runs_max);
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let mut leaves: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for (index, op) in ops.into_iter().enumerate() {
            let mut removed = 0;
            let mut expected = 0;
            match op {
                Op::Set(lba, blocks, object) => {
                    map.set(Lba(lba), blocks, place(object, lba), |part| removed += part.blocks).unwrap();
                    for lba in lba..lba + blocks {
                        expected += u64::from(model.insert(lba, object).is_some());
                    }
                }
                Op::Clear(lba, blocks) => {
                    map.clear(Lba(lba), blocks, |part| removed += part.blocks).unwrap();
                    for lba in lba..lba + blocks {
                        expected += u64::from(model.remove(&lba).is_some());
                    }
                }
                Op::Relocate(lba, blocks, from, to) => {
                    removed = map.relocate(Lba(lba), blocks, place(from, lba), place(to, lba)).unwrap();
                    for (_, object) in model.range_mut(lba..lba + blocks).filter(|(_, object)| **object == from) {
                        *object = to;
                        expected += 1;
                    }
                }
            }
            prop_assert_eq!(removed, expected);
            if index % 7 == 6 {
                for (leaf, bytes) in map.take_dirty().unwrap() {
                    match bytes {
                        Some(bytes) => leaves.insert(leaf, bytes),
                        None => leaves.remove(&leaf),
                    };
                }
                let mut rebuilt = ExtentMap::new(Memory::default(), page_seal(), 1000);
                for (leaf, bytes) in &leaves {
                    rebuilt.install(*leaf, bytes).unwrap();
                }
                prop_assert_eq!(blocks_of(&mut rebuilt), model.clone());
            }
        }
        prop_assert_eq!(blocks_of(&mut map), model);
    }

    #[test]
    fn prop_arbitrary_bytes_are_no_leaf_or_one_that_encodes_to_them(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(runs) = decode_leaf(3, &bytes) {
            prop_assert!(runs.len() * 16 <= bytes.len());
            prop_assert_eq!(decode_leaf(3, &encode_leaf(3, &runs)).unwrap(), runs);
        }
    }
}

fn blocks_of(map: &mut ExtentMap<Memory>) -> BTreeMap<u64, u64> {
    let mut blocks = BTreeMap::new();
    for start in [LEAF_BLOCKS - 70, 4 * LEAF_BLOCKS] {
        for part in map.lookup(Lba(start), 200).unwrap() {
            for lba in part.start..part.start + part.blocks {
                if let Some(location) = part.value.map(|value| value.advance(lba - part.start)) {
                    assert_eq!(u64::from(location.at), lba);
                    blocks.insert(lba, location.object.0);
                }
            }
        }
    }
    let mut runs = 0;
    map.for_each(|part| runs += part.blocks).unwrap();
    assert_eq!(runs, blocks.len() as u64);
    blocks
}

#[test]
fn a_discard_of_everything_costs_what_is_mapped_and_not_what_could_be() {
    let mut map = ExtentMap::new(Memory::default(), page_seal(), 1000);
    map.set(Lba(5), 1, place(1, 5), |_| {}).unwrap();
    map.clear(Lba(0), 1 << 40, |_| {}).unwrap();
    assert_eq!(map.runs_in_memory(), 0);
    assert_eq!(map.take_dirty().unwrap(), [(0, None)]);
}

/// All that was ever kept of each leaf.
type Kept = BTreeMap<u32, Vec<Vec<u8>>>;

/// A cache on a disk that fails: it gives back what `spoil` makes of what it was handed.
#[derive(Debug)]
struct Failing {
    kept: Kept,
    spoil: fn(&Kept, u32) -> Vec<u8>,
}

impl PageStore for Failing {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        self.kept.entry(leaf).or_default().push(bytes.to_vec());
    }

    fn load(&mut self, leaf: u32) -> io::Result<Vec<u8>> {
        Ok((self.spoil)(&self.kept, leaf))
    }
}

fn is_lost(spoil: fn(&Kept, u32) -> Vec<u8>) -> bool {
    let pages = Failing {
        kept: BTreeMap::new(),
        spoil,
    };
    let mut map = ExtentMap::new(pages, page_seal(), 1);
    let mut write = |lba| map.set(Lba(lba), 2, place(1, lba), |_| {});
    (0..3).any(|_| write(0).is_err() || write(LEAF_BLOCKS).is_err() || write(5).is_err())
}

#[test]
fn a_page_that_is_damaged_misplaced_or_old_is_lost_and_never_believed() {
    assert!(!is_lost(|kept, leaf| kept[&leaf].last().unwrap().clone()));
    assert!(is_lost(|kept, leaf| {
        let mut bytes = kept[&leaf].last().unwrap().clone();
        bytes[3] ^= 1;
        bytes
    }));
    assert!(is_lost(|kept, leaf| kept
        .get(&(1 - leaf))
        .map_or(Vec::new(), |kept| kept[0].clone())));
    assert!(is_lost(|kept, leaf| kept[&leaf].first().unwrap().clone()));
}
