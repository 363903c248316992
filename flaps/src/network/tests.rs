use super::*;

#[test]
fn two_apps_meet_only_where_both_asked_for_the_same_network() {
    assert_ne!(name("a", DEFAULT), name("b", DEFAULT));
    assert_eq!(name("a", "lab"), name("b", "lab"));
    assert_ne!(name("a", "b"), name("b", DEFAULT));
}
