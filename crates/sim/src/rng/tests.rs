use rand::RngExt as _;

use super::*;

#[test]
fn a_seed_gives_its_numbers_again_and_another_gives_others() {
    let draw = |seed| -> [u64; 4] { Rng::new(seed).random() };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_part_does_not_depend_on_what_was_drawn_elsewhere() {
    let mut rng = Rng::new(1);
    let before: u64 = rng.fork("disk").random();
    let drawn: u64 = rng.random();
    let after: u64 = rng.fork("disk").random();
    assert_eq!(before, after);
    assert_ne!(before, drawn);
    assert_ne!(before, rng.fork("store").random::<u64>());
}
