use log_disk::{Flaw, Role, head_key};

use super::*;
use crate::testing::{DISK, Made, name, sealer};

/// A disk with two leaves, a GC object, a checkpoint and two data objects after it.
fn made() -> Made {
    let mut made = Made::default();
    let (first, second, collected) = (
        name(Role::Data, 1, 1),
        name(Role::Data, 2, 1),
        name(Role::Gc, 3, 1),
    );
    made.data(1, 1, &[(0, 4, 1), (20_000, 16, 1)]);
    made.data(2, 1, &[(1, 2, 2)]);
    made.gc(3, 1, &[(0, 1, 1, 1)]);
    let map = [
        (0, 1, collected),
        (1, 2, second),
        (3, 1, first),
        (20_000, 16, first),
    ];
    let reference = made.checkpoint(4, 1, &map);
    made.data(5, 1, &[(100, 4, 5)]);
    made.data(6, 1, &[(100, 1, 6), (200, 1, 0)]);
    made.head(1, Some(reference));
    made
}

fn findings(made: &mut Made, depth: Depth) -> Vec<(String, What)> {
    let checked = fsck(made, &sealer(), depth).unwrap();
    let prefix = format!("disk/{DISK}/");
    let damaged = checked.findings.iter().any(|finding| finding.what.is_damage());
    assert_eq!(checked.is_damaged(), damaged);
    let found = checked.findings.into_iter();
    found
        .map(|finding| (finding.key.replace(&prefix, ""), finding.what))
        .collect()
}

const D1: &str = "d/0000000000000001-00000001";
const D6: &str = "d/0000000000000006-00000001";
const G3: &str = "g/0000000000000003-00000001";
const C4: &str = "c/0000000000000004-00000001";

#[test]
fn a_sound_disk_has_nothing_to_tell() {
    let checked = fsck(&mut made(), &sealer(), Depth::Blocks).unwrap();
    assert_eq!(checked.findings, []);
    assert_eq!(
        (checked.mapped_blocks, checked.objects, checked.snapshots),
        (20 + 5, 6, 0)
    );
    assert_eq!(checked.size_blocks, Some(crate::testing::SIZE_BLOCKS));
}

#[test]
fn a_head_that_is_gone_or_damaged_is_told_with_what_to_do() {
    let mut gone = made();
    gone.objects.remove(&head_key(DISK));
    let told = findings(&mut gone, Depth::Fronts);
    assert_eq!(told, [("HEAD".to_owned(), What::NoHead)]);
    assert!(What::NoHead.advice().contains("salvage"));
    let mut damaged = made();
    damaged.objects.get_mut(&head_key(DISK)).unwrap()[30] ^= 1;
    assert_eq!(
        findings(&mut damaged, Depth::Fronts),
        [("HEAD".to_owned(), What::Damaged(Flaw::Checksum))]
    );
}

#[test]
fn every_object_that_is_needed_is_missed_by_name() {
    for (missing, told, what) in [
        (name(Role::Data, 1, 1), D1, What::Missing),
        (name(Role::Gc, 3, 1), G3, What::Missing),
        (name(Role::Checkpoint, 4, 1), C4, What::Missing),
        (
            name(Role::Data, 5, 1),
            D6,
            What::Hole {
                previous: ObjectSeq(5),
            },
        ),
    ] {
        let mut made = made();
        made.remove(missing);
        let found = findings(&mut made, Depth::Blocks);
        assert!(found.contains(&(told.to_owned(), what)), "{missing:?}: {found:?}");
    }
}

#[test]
fn a_flipped_bit_in_any_object_is_found_when_blocks_are_read() {
    let sound = made();
    for (key, object) in &sound.objects {
        for at in [0, 5, object.len() / 3, object.len() / 2, object.len() - 5] {
            let mut made = made();
            made.objects.get_mut(key).unwrap()[at] ^= 0x10;
            let checked = fsck(&mut made, &sealer(), Depth::Blocks).unwrap();
            assert!(checked.is_damaged(), "byte {at} of {key}");
            assert!(
                checked.findings.iter().any(|finding| finding.key == *key),
                "{:?}",
                checked.findings
            );
        }
    }
}

#[test]
fn an_object_that_was_cut_is_told_by_its_size() {
    let mut made = made();
    let object = made.objects.get_mut(&name(Role::Data, 1, 1).key(DISK)).unwrap();
    let expected = object.len() as u64;
    object.pop();
    let size = What::Size {
        found: expected - 1,
        expected,
    };
    assert!(findings(&mut made, Depth::Fronts).contains(&(D1.to_owned(), size)));
}

#[test]
fn a_map_that_points_elsewhere_and_a_table_that_counts_wrong_are_told() {
    let mut made = Made::default();
    let (first, second) = (name(Role::Data, 1, 1), name(Role::Data, 2, 1));
    made.data(1, 1, &[(0, 4, 1)]);
    made.data(2, 1, &[(8, 4, 1)]);
    // Blocks 4..6 were never in the first object.
    let reference = made.checkpoint(3, 1, &[(0, 4, first), (4, 2, second)]);
    made.head(1, Some(reference));
    let found = findings(&mut made, Depth::Fronts);
    let misplaced = What::Misplaced { lba: 4, blocks: 2 };
    assert!(found.iter().any(|(_, what)| *what == misplaced), "{found:?}");
}

#[test]
fn what_nobody_needs_and_what_is_none_of_ours_is_noted_and_no_damage() {
    let mut made = made();
    made.data_after(6, 9, 7, &[(0, 1, 9)]);
    made.objects.insert(format!("disk/{DISK}/d/readme"), Vec::new());
    let found = findings(&mut made, Depth::Blocks);
    assert_eq!(
        found,
        [
            ("d/readme".to_owned(), What::Stranger),
            ("d/0000000000000009-00000007".to_owned(), What::Orphan),
        ]
    );
    assert!(found.iter().all(|(_, what)| !what.is_damage()));
}
