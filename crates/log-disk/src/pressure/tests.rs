use super::*;
use crate::Time;

#[test]
fn nobody_waits_below_half_and_then_ever_longer() {
    let at = |fill| delay(fill, 1 << 20, 10 << 20);
    assert_eq!(at(0), 0);
    assert_eq!(at(500), 0);
    let delays: Vec<u64> = (500..=950).map(at).collect();
    assert!(delays.is_sorted());
    assert_eq!(at(950), 100_000, "the whole time that the store needs");
    assert_eq!(at(1000), at(950));
}

#[test]
fn a_dead_store_does_not_stretch_one_write_beyond_half_a_second() {
    assert_eq!(delay(900, 1 << 30, 0), 500_000);
}

#[test]
fn the_rate_follows_what_arrives() {
    let mut rate = DrainRate::new(Time(0));
    for second in 1..20 {
        rate.count(Time(second * 1_000_000), 30 << 20);
    }
    let measured = rate.bytes_per_s();
    assert!(
        (29 << 20..31 << 20).contains(&measured),
        "{measured} bytes a second"
    );
}
