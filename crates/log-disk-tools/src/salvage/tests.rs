use log_disk::{Role, Sealer};

use super::*;
use crate::testing::{DISK, Made, Picture, SIZE_BLOCKS, name, sealer};

fn salvaged(made: &mut Made, beyond: bool) -> (Salvaged, Picture) {
    let mut picture = Picture::default();
    let salvaged = salvage(made, &sealer(), &mut picture, beyond).unwrap();
    assert_eq!(picture.bytes, SIZE_BLOCKS * BLOCK_BYTES as u64);
    (salvaged, picture)
}

fn blocks(picture: &Picture, lbas: impl IntoIterator<Item = u64>) -> Vec<u8> {
    lbas.into_iter().map(|lba| picture.block(lba)).collect()
}

#[test]
fn the_newest_write_of_each_block_is_in_the_image() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 4, 1), (100, 2, 1)]);
    made.data(2, 1, &[(1, 2, 2), (30_000, 16, 2)]);
    made.data(4, 1, &[(2, 1, 0), (101, 3, 4)]);
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(
        blocks(&picture, [0, 1, 2, 3, 4, 100, 101, 103, 104, 30_015]),
        [1, 2, 0, 1, 0, 1, 4, 4, 0, 2]
    );
    assert_eq!(
        (salvaged.last, salvaged.beyond, salvaged.collected),
        (ObjectSeq(4), 0, 0)
    );
    assert_eq!(
        (salvaged.blocks, salvaged.lost.len(), salvaged.findings.len()),
        (3 + 1 + 3 + 16, 0, 0)
    );
}

#[test]
fn what_was_collected_comes_from_where_it_was_kept_in_its_place_in_the_order() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 4, 1)]);
    made.data(2, 1, &[(0, 1, 2), (10, 1, 2)]);
    made.data(3, 1, &[(1, 1, 3)]);
    // Collection kept the last two blocks of the first, and one block of the second that nothing has replaced.
    made.gc(5, 1, &[(2, 2, 1, 1), (10, 1, 2, 2)]);
    made.data(6, 1, &[(3, 1, 6)]);
    made.remove(name(Role::Data, 1, 1));
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(blocks(&picture, [0, 1, 2, 3, 10]), [2, 3, 1, 6, 2]);
    assert_eq!(
        (salvaged.last, salvaged.collected, salvaged.beyond),
        (ObjectSeq(6), 1, 0)
    );
}

#[test]
fn what_follows_a_hole_near_the_end_is_left_out_unless_it_is_asked_for() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 1, 1)]);
    made.data(2, 1, &[(1, 1, 2)]);
    made.data(3, 1, &[(2, 1, 3)]);
    made.data(4, 1, &[(3, 1, 4)]);
    made.remove(name(Role::Data, 3, 1));
    let (cut, picture) = salvaged(&mut made, false);
    assert_eq!(blocks(&picture, 0..4), [1, 2, 0, 0]);
    assert_eq!((cut.last, cut.beyond), (ObjectSeq(2), 1));
    let (all, picture) = salvaged(&mut made, true);
    assert_eq!(blocks(&picture, 0..4), [1, 2, 0, 4]);
    assert_eq!((all.last, all.beyond, all.collected), (ObjectSeq(4), 0, 1));
}

#[test]
fn a_beginning_that_was_collected_does_not_hide_a_hole_near_the_end() {
    let mut made = Made::default();
    for seq in 1..=5 {
        made.data(seq, 1, &[(seq, 1, u8::try_from(seq).unwrap())]);
    }
    for gone in [1, 4] {
        made.remove(name(Role::Data, gone, 1));
    }
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(
        (salvaged.last, salvaged.beyond, salvaged.collected),
        (ObjectSeq(3), 1, 1)
    );
    assert_eq!(blocks(&picture, 1..6), [0, 2, 3, 0, 0]);
}

#[test]
fn a_hole_that_many_objects_follow_was_collected() {
    let mut made = Made::default();
    for seq in 1..=20 {
        made.data(seq, 1, &[(seq, 1, u8::try_from(seq).unwrap())]);
    }
    made.remove(name(Role::Data, 5, 1));
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!((salvaged.last, salvaged.collected), (ObjectSeq(20), 1));
    assert_eq!(blocks(&picture, [4, 5, 6, 20]), [4, 0, 6, 20]);
}

#[test]
fn what_a_former_owner_uploaded_late_is_left_out() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 2, 1)]);
    made.data(2, 1, &[(1, 1, 2)]);
    // Epoch 2 goes on after object 2; epoch 1 does not know it and goes on too, under numbers that both use.
    made.data(7, 2, &[(2, 1, 7)]);
    made.data(8, 2, &[(3, 1, 8)]);
    made.data_after(2, 3, 1, &[(0, 1, 99)]);
    made.data_after(3, 7, 1, &[(2, 1, 99)]);
    made.data_after(7, 8, 1, &[(3, 1, 99), (4, 1, 99)]);
    made.gc(9, 1, &[(0, 1, 99, 3), (1, 1, 2, 2)]);
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(blocks(&picture, 0..5), [1, 2, 7, 8, 0]);
    assert_eq!((salvaged.last, salvaged.collected), (ObjectSeq(8), 0));
}

#[test]
fn damaged_blocks_are_named_and_lost_unless_another_copy_has_them() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 8, 1)]);
    made.data(2, 1, &[(2, 2, 2), (20, 2, 2)]);
    // The last bytes before the CRC are those of the second extent.
    made.flip(name(Role::Data, 2, 1), 10);
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(salvaged.lost, [(20, 2)]);
    assert_eq!(blocks(&picture, [1, 2, 4, 20, 21]), [1, 2, 1, 0, 0]);
    let told = salvaged.findings[0].to_string();
    assert!(
        told.contains("d/0000000000000002-00000001: blocks 20+2: its seal does not open"),
        "{told}"
    );
    let mut made = Made::default();
    made.data(1, 1, &[(0, 8, 1)]);
    made.data(2, 1, &[(20, 2, 2)]);
    made.gc(3, 1, &[(0, 8, 1, 1)]);
    made.flip(name(Role::Data, 1, 1), 10);
    let (salvaged, picture) = self::salvaged(&mut made, false);
    assert_eq!((salvaged.lost.len(), salvaged.findings.len()), (0, 1));
    assert_eq!(blocks(&picture, [0, 7, 20]), [1, 1, 2]);
}

#[test]
fn an_older_copy_does_not_take_the_place_of_a_damaged_one() {
    let mut made = Made::default();
    made.data(1, 1, &[(0, 8, 1)]);
    made.data(2, 1, &[(4, 4, 2)]);
    made.flip(name(Role::Data, 2, 1), 10);
    let (salvaged, picture) = salvaged(&mut made, false);
    assert_eq!(salvaged.lost, [(4, 4)]);
    assert_eq!(blocks(&picture, [3, 4, 7]), [1, 0, 0]);
}

#[test]
fn a_bucket_with_nothing_left_and_another_key_are_told() {
    let mut picture = Picture::default();
    let nothing = salvage(&mut Made::default(), &sealer(), &mut picture, false);
    assert!(matches!(nothing, Err(SalvageError::Nothing { damaged: 0 })));
    let mut made = Made::default();
    made.data(1, 1, &[(0, 1, 1)]);
    let other = Sealer::new(&[4; 32], DISK);
    let nothing = salvage(&mut made, &other, &mut picture, false);
    assert!(matches!(nothing, Err(SalvageError::Nothing { damaged: 1 })));
    assert_eq!(picture.bytes, 0, "no image is made of nothing");
}

#[test]
fn the_wrapped_key_is_found_in_any_object() {
    let mut made = Made::default();
    assert_eq!(find_wrapped_key(&mut made, DISK).unwrap(), None);
    made.data(1, 1, &[(0, 1, 1)]);
    made.data(2, 1, &[(0, 1, 1)]);
    let damaged = made.objects.values_mut().next().unwrap();
    damaged.truncate(90);
    let found = find_wrapped_key(&mut made, DISK).unwrap();
    assert_eq!(found.as_deref(), Some(&b"a wrapped key"[..]));
}
