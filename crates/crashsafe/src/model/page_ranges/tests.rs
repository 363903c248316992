use std::collections::BTreeSet;

use rand::{RngExt as _, SeedableRng as _};

use super::*;

#[test]
fn prop_runs_equal_a_plain_set_of_pages() {
    for seed in 0..200 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let (mut runs, mut plain) = (PageRanges::default(), BTreeSet::new());
        for _ in 0..40 {
            let start = rng.random_range(0..60);
            let range = start..start + rng.random_range(0..12);
            let missing = range.clone().filter(|page| !plain.contains(page)).count() as u64;
            assert_eq!(runs.missing(range.clone()), missing, "seed {seed}");
            if rng.random_bool(0.5) {
                runs.insert(range.clone());
                plain.extend(range);
            } else {
                runs.remove(range.clone());
                plain.retain(|page| !range.contains(page));
            }
            assert_eq!(runs.pages(), plain.len() as u64, "seed {seed}");
            let listed: BTreeSet<u64> = runs.runs.iter().flat_map(|(start, end)| *start..*end).collect();
            assert_eq!(listed, plain, "seed {seed}");
        }
    }
}
