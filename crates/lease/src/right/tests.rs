use super::*;

#[test]
fn a_right_ends_by_itself_and_at_once_when_it_is_taken_away() {
    let right = Right::default();
    let now = right.began + Duration::from_secs(1);
    assert_eq!(right.at(now), None);
    right.grant(Epoch(4), now + Duration::from_secs(2));
    assert_eq!(right.at(now), Some(Epoch(4)));
    assert_eq!(right.at(now + Duration::from_millis(1999)), Some(Epoch(4)));
    assert_eq!(right.at(now + Duration::from_secs(2)), None);
    right.grant(Epoch(4), now + Duration::from_secs(9));
    right.revoke();
    assert_eq!(right.at(now), None);
}

#[test]
fn a_right_by_hand_has_no_end() {
    let right = Right::forever();
    assert_eq!(
        right.at(right.began + Duration::from_secs(1 << 33)),
        Some(Epoch::NONE)
    );
}

#[test]
fn what_has_begun_may_end_while_a_lease_is_let_go_and_nothing_new_begins() {
    let right = Right::forever();
    right.close();
    assert_eq!(right.now(), None);
    assert!(right.lasts(Epoch::NONE) && !right.lasts(Epoch(1)));
    right.revoke();
    assert!(!right.lasts(Epoch::NONE));
}
