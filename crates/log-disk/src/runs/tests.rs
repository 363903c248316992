use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl RunValue for u64 {
    fn advance(self, blocks: u64) -> Self {
        self + blocks
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set(u64, u64, u64),
    Clear(u64, u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..64_u64, 1..20_u64, 0..40_u64).prop_map(|(start, blocks, value)| Op::Set(start, blocks, value)),
        (0..64_u64, 1..20_u64).prop_map(|(start, blocks)| Op::Clear(start, blocks)),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #[test]
    fn prop_runs_equal_a_map_of_blocks(ops in ops()) {
        let mut runs = RunMap::default();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for op in ops {
            let mut removed = BTreeMap::new();
            let mut expected = BTreeMap::new();
            let gone = |part: Part<u64>| {
                for block in 0..part.blocks {
                    removed.insert(part.start + block, part.value.unwrap() + block);
                }
            };
            let (start, blocks) = match op {
                Op::Set(start, blocks, value) => {
                    runs.set(start, blocks, value, gone);
                    for block in 0..blocks {
                        if let Some(old) = model.insert(start + block, value + block) {
                            expected.insert(start + block, old);
                        }
                    }
                    (start, blocks)
                }
                Op::Clear(start, blocks) => {
                    runs.clear(start, blocks, gone);
                    for block in start..start + blocks {
                        if let Some(old) = model.remove(&block) {
                            expected.insert(block, old);
                        }
                    }
                    (start, blocks)
                }
            };
            prop_assert_eq!(removed, expected);
            let mut at = start.saturating_sub(3);
            for part in runs.parts(at, blocks + 6) {
                prop_assert_eq!(part.start, at);
                for block in 0..part.blocks {
                    prop_assert_eq!(part.value.map(|value| value + block), model.get(&(at + block)).copied());
                }
                at += part.blocks;
            }
            prop_assert_eq!(at, start.saturating_sub(3) + blocks + 6);
            let total: u64 = runs.iter().map(|part| part.blocks).sum();
            prop_assert_eq!(total, model.len() as u64);
        }
    }
}

#[test]
fn runs_that_continue_each_other_are_one() {
    let mut runs = RunMap::default();
    runs.set(10, 5, 100, |_| {});
    runs.set(20, 5, 110, |_| {});
    runs.set(15, 5, 105, |_| {});
    assert_eq!(runs.len(), 1);
    runs.set(12, 1, 102, |_| {});
    assert_eq!(runs.len(), 1);
}
