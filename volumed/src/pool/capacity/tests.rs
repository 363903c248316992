use super::*;

#[test]
fn captures_have_what_nobody_was_promised_and_half_of_the_reserve() {
    let strict = Capacity {
        reserve_bytes: 100,
        overcommit_ratio: 1.0,
    };
    assert!(!strict.is_short(1050, 1000));
    assert!(strict.is_short(1049, 1000));
    let overcommitted = Capacity {
        overcommit_ratio: 2.0,
        ..strict
    };
    assert!(
        !overcommitted.is_short(100, 1000),
        "the promise is not kept anyway"
    );
    assert!(overcommitted.is_short(99, 0));
    assert!(strict.is_short(u64::MAX - 1, u64::MAX));
}
