use super::*;

#[test]
fn a_handful_of_seeds_holds() {
    for seed in 0..8 {
        run_seed(seed).unwrap();
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    assert_eq!(run_seed(7).unwrap().to_string(), run_seed(7).unwrap().to_string());
}

/// A mistake in the engine is found by one of the hundred worlds that begin at `from`.
fn is_found(mutant: Mutant, from: u64) -> bool {
    (from..from + 100).any(|seed| run_mutant(seed, mutant).is_err())
}

#[test]
fn a_flush_over_a_hole_in_the_journal_is_found() {
    assert!(is_found(Mutant::FlushOverHole, 60));
}

#[test]
fn a_journal_whose_old_tail_comes_back_is_found() {
    assert!(is_found(Mutant::TrustTail, 60));
}

#[test]
fn writes_that_take_effect_in_another_order_than_they_are_replayed_are_found() {
    assert!(is_found(Mutant::CompletionOrder, 1));
}

#[test]
fn a_collection_that_believes_in_writes_that_are_not_uploaded_is_found() {
    assert!(is_found(Mutant::CollectAgainstFuture, 1));
}

#[test]
fn a_journal_that_is_given_up_over_a_missing_object_is_found() {
    assert!(is_found(Mutant::TrimOverGap, 1));
}

#[test]
fn a_collection_that_wins_over_newer_writes_is_found() {
    assert!(is_found(Mutant::CollectOverNewer, 1));
}

#[test]
fn a_map_that_is_switched_before_the_object_is_there_is_found() {
    assert!(is_found(Mutant::SwitchBeforePut, 1));
}

#[test]
fn a_deletion_before_a_checkpoint_allows_it_is_found() {
    assert!(is_found(Mutant::DeleteBeforeCommit, 1));
}

#[test]
fn zeroes_that_are_not_logged_are_found() {
    assert!(is_found(Mutant::ForgetZeroes, 1));
}

#[test]
fn late_objects_of_a_former_epoch_that_count_are_found() {
    assert!(is_found(Mutant::LateObjectsCount, 1));
}

#[test]
fn an_owner_that_takes_its_own_swap_for_another_s_is_found() {
    assert!(is_found(Mutant::OwnSwapIsFencing, 20));
}

#[test]
fn a_former_owner_that_goes_on_answering_is_found() {
    assert!(is_found(Mutant::ZombieAnswers, 1));
}

#[test]
fn a_parent_that_does_not_look_for_forks_again_is_found() {
    assert!(is_found(Mutant::OldPins, 1));
}

#[test]
fn a_fork_without_a_pin_is_found() {
    assert!(is_found(Mutant::ForkWithoutPin, 1));
}

#[test]
fn a_fork_of_a_snapshot_that_went_meanwhile_is_found() {
    assert!(is_found(Mutant::ForkOfWhatWas, 1));
}

#[test]
fn a_pin_that_goes_before_its_fork_is_found() {
    assert!(is_found(Mutant::PinGoesFirst, 1));
}

#[test]
fn a_hundred_thousand_damaged_and_forged_inputs_are_borne_by_every_reader() {
    for seed in 0..100_000 / INPUTS {
        run_decoders(seed).unwrap();
    }
}
