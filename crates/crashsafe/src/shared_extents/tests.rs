#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

fn at(start: u64, end: u64, place: u64) -> Extent {
    Extent {
        start,
        end,
        place: Place::At(place),
    }
}

/// Says where two files differ within their first `len` bytes, in words.
fn shown(one: &[Extent], other: &[Extent], len: u64) -> String {
    let ranges = compare(one, other, len);
    let words: Vec<String> = ranges.iter().map(|range| format!("{range:?}")).collect();
    words.join(" ")
}

fn odd(start: u64, end: u64, place: Place) -> Extent {
    Extent { start, end, place }
}

#[test]
fn the_same_blocks_at_the_same_place_are_the_same_however_they_are_cut() {
    let whole = [at(0, 100, 1000)];
    let cut = [at(0, 30, 1000), at(30, 100, 1030)];
    assert_eq!(shown(&whole, &cut, 100), "");
    assert_eq!(shown(&cut, &whole, 100), "");
    assert_eq!(shown(&[], &[], 100), "");
}

#[test]
fn other_blocks_holes_and_what_moved_within_a_file_differ() {
    let one = [at(0, 100, 1000)];
    let written = [at(0, 40, 1000), at(40, 50, 7000), at(50, 100, 1050)];
    assert_eq!(shown(&one, &written, 100), "40..50");
    assert_eq!(shown(&one, &[at(0, 20, 1000), at(90, 100, 1090)], 100), "20..90");
    assert_eq!(shown(&one, &[at(0, 50, 1050), at(50, 100, 1000)], 100), "0..100");
    let (near, far) = (at(10, 40, 1010), at(70, 100, 1070));
    assert_eq!(
        shown(&one, &[near, far], 60),
        "0..10 40..60",
        "and nothing behind the end"
    );
}

#[test]
fn what_is_reserved_is_a_hole_and_what_is_unsure_is_believed_nowhere() {
    let reserved = [odd(0, 50, Place::Unwritten)];
    assert_eq!(shown(&reserved, &[], 100), "");
    assert_eq!(shown(&reserved, &[at(0, 50, 1000)], 100), "0..50");
    let unsure = [odd(0, 50, Place::Unsure), at(50, 100, 50)];
    assert_eq!(shown(&unsure, &unsure, 100), "0..50");
}

/// What two files look like to whoever reads every byte: for each byte its block, or a number of its own where that is unsure.
fn by_byte(extents: &[Extent], len: u64, unsure: u64) -> Vec<Option<u64>> {
    let mut bytes = vec![None; usize::try_from(len).unwrap()];
    for extent in extents {
        for byte in extent.start..extent.end.min(len) {
            bytes[usize::try_from(byte).unwrap()] = match extent.place {
                Place::At(place) => Some(place + byte - extent.start),
                Place::Unwritten => None,
                Place::Unsure => Some(unsure + byte),
            };
        }
    }
    bytes
}

fn random_extents(rng: &mut ChaCha8Rng) -> Vec<Extent> {
    let (mut extents, mut end) = (Vec::new(), 0);
    for _ in 0..rng.random_range(0..8) {
        let start = end + rng.random_range(0..3);
        end = start + rng.random_range(1..6);
        let place = match rng.random_range(0..10) {
            0 => Place::Unwritten,
            1 => Place::Unsure,
            // Few places, so that many are the same.
            _ => Place::At(start + 100 * rng.random_range(1..3)),
        };
        extents.push(Extent { start, end, place });
    }
    extents
}

#[test]
fn a_comparison_by_extents_is_one_byte_by_byte() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let (one, other) = (random_extents(&mut rng), random_extents(&mut rng));
        let len = rng.random_range(0..50);
        let (mine, theirs) = (by_byte(&one, len, 10_000), by_byte(&other, len, 20_000));
        let mut wanted = Vec::new();
        for byte in 0..len {
            let index = usize::try_from(byte).unwrap();
            if mine[index] != theirs[index] {
                add(&mut wanted, byte..byte + 1);
            }
        }
        assert_eq!(compare(&one, &other, len), wanted, "{one:?} and {other:?}");
    }
}

#[test]
fn a_file_system_without_shared_extents_tells_nothing() {
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(&[1; 4096]).unwrap();
    assert_eq!(differences(&file, &file).unwrap(), None);
}
