use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn prop_blocks_are_those_of_the_bytes(
        ranges in prop::collection::vec((0_u64..200, 0_u64..30), 0..20),
        block_bytes in 1_u64..9,
        blocks in 0_u64..60,
    ) {
        let mut set = ByteRanges::default();
        let mut model = BTreeSet::new();
        for (start, len) in ranges {
            set.insert(start..start + len);
            model.extend(start..start + len);
        }
        let expected: BTreeSet<u64> =
            model.iter().map(|byte| byte / block_bytes).filter(|block| *block < blocks).collect();
        let found: Vec<u64> = set.blocks(block_bytes, blocks).collect();
        prop_assert_eq!(found, Vec::from_iter(expected));
        let bytes: Vec<u64> = set.blocks(1, u64::MAX).collect();
        prop_assert_eq!(bytes, Vec::from_iter(model));
        let apart = set.ends.iter().zip(set.ends.keys().skip(1)).all(|((_, end), next)| end < next);
        prop_assert!(apart, "ranges that touch are one: {:?}", set);
    }
}

#[test]
fn a_range_without_end_is_cut_at_the_last_block() {
    let mut set = ByteRanges::default();
    set.insert(5000..u64::MAX);
    set.insert(0..1);
    assert_eq!(Vec::from_iter(set.blocks(1000, 8)), [0, 5, 6, 7]);
}
