use lease::Mutant;

use super::*;

#[test]
fn a_handful_of_clusters_holds() {
    for seed in 0..12 {
        run_seed(seed).unwrap();
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    assert_eq!(run_seed(7).unwrap().to_string(), run_seed(7).unwrap().to_string());
}

/// A mistake is found by one of a hundred worlds.
fn is_found(mistake: Mistake) -> bool {
    (1..=100).any(|seed| run_mistake(seed, mistake).is_err())
}

#[test]
fn a_lease_that_others_take_before_its_end_is_found() {
    assert!(is_found(Mistake::Engine(Mutant::TakeEarly)));
}

#[test]
fn a_holder_that_does_not_notice_its_end_is_found() {
    assert!(is_found(Mistake::Engine(Mutant::NeverExpire)));
}

#[test]
fn an_empty_node_that_wins_is_found() {
    assert!(is_found(Mistake::Engine(Mutant::EmptyWins)));
}

#[test]
fn an_election_of_whoever_comes_first_is_found() {
    assert!(is_found(Mistake::Engine(Mutant::FirstWins)));
}

#[test]
fn a_former_primary_that_wins_by_what_nobody_else_has_is_found() {
    assert!(is_found(Mistake::Engine(Mutant::ForgetEpoch)));
}

#[test]
fn a_lease_that_is_passed_on_while_something_is_under_way_is_found() {
    assert!(is_found(Mistake::SaysDrained));
}

#[test]
fn an_acknowledgement_after_the_lease_s_end_is_found() {
    assert!(is_found(Mistake::AcknowledgesLate));
}

#[test]
fn a_replica_that_believes_too_early_that_it_has_everything_is_found() {
    assert!(is_found(Mistake::SyncedAtOnce));
}

#[test]
fn a_replica_that_takes_what_does_not_follow_is_found() {
    assert!(is_found(Mistake::TakesAnything));
}
