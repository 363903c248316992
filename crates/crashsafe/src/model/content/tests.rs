use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

const EVERYTHING: Luck = Luck {
    survival: 1.0,
    tear: 0.0,
};
const NOTHING: Luck = Luck {
    survival: 0.0,
    tear: 0.0,
};
const TORN: Luck = Luck {
    survival: 0.5,
    tear: 1.0,
};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn synced(bytes: &[u8]) -> CachedFile {
    let mut file = CachedFile::default();
    file.write_at(bytes, 0);
    file.sync();
    file
}

/// One random operation on a file and on plain bytes alike.
fn step(file: &mut CachedFile, plain: &mut Vec<u8>, rng: &mut impl Rng) {
    let offset = rng.random_range(0..20_000_usize);
    let len = rng.random_range(0..9_000_usize);
    match rng.random_range(0..5) {
        0 | 1 => {
            let byte: u8 = rng.random_range(1..=255);
            file.write_at(&vec![byte; len], offset as u64);
            if len > 0 {
                plain.resize(plain.len().max(offset + len), 0);
                plain[offset..offset + len].fill(byte);
            }
        }
        2 => {
            file.set_len(offset as u64);
            plain.resize(offset, 0);
        }
        3 => {
            let end = plain.len().min(offset + len);
            let start = offset.min(end);
            file.punch_hole(start as u64, (end - start) as u64);
            plain[start..end].fill(0);
        }
        _ => {
            file.allocate(offset as u64, len as u64 + 1);
            plain.resize(plain.len().max(offset + len + 1), 0);
        }
    }
}

#[test]
fn prop_a_reader_sees_what_plain_bytes_would_hold() {
    for seed in 0..300 {
        let mut rng = rng(seed);
        let (mut file, mut plain) = (CachedFile::default(), Vec::new());
        for _ in 0..30 {
            step(&mut file, &mut plain, &mut rng);
            if rng.random_bool(0.2) {
                file.sync();
            }
            assert_eq!(file.len(), plain.len() as u64, "seed {seed}");
            let mut read = vec![7; plain.len() + 10];
            assert_eq!(file.read_at(&mut read, 0), plain.len(), "seed {seed}");
            assert!(read[..plain.len()] == plain[..], "seed {seed}");
            assert!(file.seen().to_vec() == plain, "seed {seed}");
        }
    }
}

#[test]
fn prop_whatever_no_run_of_data_covers_reads_zero() {
    for seed in 0..200 {
        let mut rng = rng(seed);
        let (mut file, mut plain) = (CachedFile::default(), Vec::new());
        for _ in 0..12 {
            step(&mut file, &mut plain, &mut rng);
        }
        let (mut at, mut covered) = (0, 0);
        while let Some(run) = file.next_data(at) {
            assert!(
                run.start >= at && run.end > run.start && run.end <= file.len(),
                "seed {seed}: {run:?}"
            );
            let hole = usize::try_from(at).unwrap()..usize::try_from(run.start).unwrap();
            assert!(plain[hole].iter().all(|byte| *byte == 0), "seed {seed}");
            covered += run.end - run.start;
            at = run.end;
        }
        assert!(
            plain[usize::try_from(at).unwrap()..]
                .iter()
                .all(|byte| *byte == 0),
            "seed {seed}"
        );
        assert!(
            covered <= file.allocated_bytes().max(covered.next_multiple_of(PAGE_BYTES)),
            "seed {seed}"
        );
    }
}

#[test]
fn prop_a_synced_file_survives_every_power_cut_as_it_is() {
    for seed in 0..300 {
        let mut rng = rng(seed);
        let (mut file, mut plain) = (CachedFile::default(), Vec::new());
        for _ in 0..10 {
            step(&mut file, &mut plain, &mut rng);
        }
        file.sync();
        let left = file.crash(&Luck::draw(&mut rng), &mut rng);
        assert!(left.to_vec() == plain, "seed {seed}");
    }
}

#[test]
fn with_all_luck_everything_survives_and_with_none_only_what_was_synced() {
    let mut file = synced(&[1; 10_000]);
    file.write_at(&[2; 10_000], 5_000);
    file.set_len(12_000);
    assert!(file.crash(&EVERYTHING, &mut rng(0)).len() >= 12_000);
    assert!(file.crash(&NOTHING, &mut rng(0)).to_vec() == [1; 10_000]);
}

#[test]
fn a_torn_page_mixes_old_and_new_sectors_and_nothing_else() {
    let mut file = synced(&[1; 4096]);
    file.write_at(&[2; 4096], 0);
    let mut mixed = 0;
    for seed in 0..200 {
        let left = file.crash(&TORN, &mut rng(seed)).to_vec();
        assert_eq!(left.len(), 4096);
        for sector in left.chunks(SECTOR_BYTES) {
            assert!(
                sector == [1; SECTOR_BYTES] || sector == [2; SECTOR_BYTES],
                "seed {seed}"
            );
        }
        mixed += usize::from(left.contains(&1) && left.contains(&2));
    }
    assert!(mixed > 50, "{mixed} of 200 were torn");
}

#[test]
fn unsynced_pages_survive_in_any_subset_not_only_as_a_prefix() {
    let mut file = synced(&[1; 4 * 4096]);
    for page in 0..4 {
        file.write_at(&[2; 4096], page * PAGE_BYTES);
    }
    let luck = Luck {
        survival: 0.5,
        tear: 0.0,
    };
    let seen: std::collections::BTreeSet<Vec<u8>> = (0..400)
        .map(|seed| {
            file.crash(&luck, &mut rng(seed))
                .to_vec()
                .chunks(4096)
                .map(|page| page[0])
                .collect()
        })
        .collect();
    assert_eq!(seen.len(), 16, "every one of the 2^4 subsets");
}

#[test]
fn an_unsynced_page_may_be_on_the_disk_in_a_version_between() {
    let mut file = synced(&[1; 4096]);
    file.write_at(&[2; 4096], 0);
    file.write_at(&[3; 4096], 0);
    let seen: std::collections::BTreeSet<u8> = (0..200)
        .map(|seed| {
            file.crash(
                &Luck {
                    survival: 0.5,
                    tear: 0.0,
                },
                &mut rng(seed),
            )
            .to_vec()[0]
        })
        .collect();
    assert_eq!(seen, [1, 2, 3].into());
}

#[test]
fn an_unsynced_cut_to_nothing_may_or_may_not_have_happened() {
    let mut file = synced(&[1; 4096]);
    file.set_len(0);
    let lens: std::collections::BTreeSet<u64> = (0..100)
        .map(|seed| {
            file.crash(
                &Luck {
                    survival: 0.5,
                    tear: 0.0,
                },
                &mut rng(seed),
            )
            .len()
        })
        .collect();
    assert_eq!(lens, [0, 4096].into());
}

#[test]
fn bytes_past_an_old_end_never_come_back_when_the_file_grows() {
    let mut file = synced(&[1; 5_000]);
    file.set_len(100);
    file.set_len(5_000);
    let mut expected = vec![1; 100];
    expected.resize(5_000, 0);
    assert!(file.seen().to_vec() == expected);
}

#[test]
fn a_reflink_has_what_was_seen_then_and_nothing_of_it_is_durable() {
    let mut source = synced(&[1; 8192]);
    source.write_at(&[2; 4096], 0);
    let mut copy = source.reflinked();
    source.write_at(&[3; 8192], 0);
    assert!(copy.seen().to_vec() == [[2; 4096], [1; 4096]].concat());
    assert!(copy.crash(&NOTHING, &mut rng(0)).is_empty());
    copy.sync();
    assert!(copy.crash(&NOTHING, &mut rng(0)).to_vec() == [[2; 4096], [1; 4096]].concat());
}

#[test]
fn room_is_taken_by_writes_and_reservations_and_given_back_by_holes() {
    let mut file = CachedFile::default();
    file.allocate(0, 3 * PAGE_BYTES);
    assert_eq!(
        (file.allocated_bytes(), file.next_data(0)),
        (3 * PAGE_BYTES, None)
    );
    assert_eq!(file.missing_bytes(2 * PAGE_BYTES, 2 * PAGE_BYTES), PAGE_BYTES);
    file.write_at(&[1; 4096], 0);
    file.punch_hole(0, 2 * PAGE_BYTES);
    assert_eq!((file.allocated_bytes(), file.len()), (PAGE_BYTES, 3 * PAGE_BYTES));
    file.set_len(1);
    assert_eq!(file.allocated_bytes(), 0);
}

#[test]
fn what_a_failed_sync_dropped_is_still_seen_and_no_later_sync_saves_it() {
    let mut file = synced(&[1; 64 * 4096]);
    file.write_at(&[2; 64 * 4096], 0);
    file.fail_sync(&mut rng(0));
    file.sync();
    assert!(file.seen().to_vec() == [2; 64 * 4096]);
    let left = file.crash(&NOTHING, &mut rng(0)).to_vec();
    assert!(left.contains(&1) && left.contains(&2));
    file.write_at(&[3; 64 * 4096], 0);
    file.sync();
    assert!(file.crash(&NOTHING, &mut rng(0)).to_vec() == [3; 64 * 4096]);
}

#[test]
fn a_synced_range_stays_and_its_neighbours_may_go() {
    let mut file = synced(&[1; 4 * 4096]);
    file.write_at(&[2; 4 * 4096], 0);
    file.sync_range(4096 + 100, 4096);
    let left = file.crash(&NOTHING, &mut rng(1)).to_vec();
    assert_eq!(left[..4096], [1; 4096]);
    assert_eq!(left[4096..3 * 4096], [2; 2 * 4096]);
    assert_eq!(left[3 * 4096..], [1; 4096]);
    assert_eq!(file.seen().to_vec(), [2; 4 * 4096]);
}
