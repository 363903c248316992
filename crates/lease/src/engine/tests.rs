use super::*;

const TTL: Duration = Duration::from_secs(10);

fn settings(me: &str) -> Settings {
    Settings {
        me: NodeId(me.to_owned()),
        candidate: true,
        timing: Timing {
            ttl: TTL,
            renew_after: TTL / 3,
            look_interval: Duration::from_millis(500),
        },
        demote_delay: TTL,
        mutant: None,
    }
}

fn engine(now: Instant, txids: u64) -> Engine {
    let mut engine = Engine::new(now, settings("b"));
    engine.set_progress(progress(1, txids), Some("LFSC1".to_owned()));
    engine
}

fn progress(epoch: u64, txids: u64) -> Progress {
    Progress {
        epoch: Epoch(epoch),
        txids,
    }
}

fn held(renewal: u64) -> View {
    let holder = Holder {
        node: NodeId("a".to_owned()),
        ..Holder::default()
    };
    View {
        held: Held::By(holder),
        epoch: Epoch(4),
        renewal,
        ttl: Some(TTL),
        cluster: Some("LFSC1".to_owned()),
        ..View::default()
    }
}

fn grant(epoch: u64) -> Grant {
    Grant {
        epoch: Epoch(epoch),
        token: String::new(),
    }
}

/// Answers every look with `view` of the time passed, and tells announcements, until the engine acquires or `until`.
fn until_acquired(
    engine: &mut Engine,
    began: Instant,
    until: Duration,
    mut view: impl FnMut(Duration, &BTreeMap<NodeId, Candidate>) -> View,
) -> Option<Duration> {
    let (mut now, mut announced) = (began, BTreeMap::new());
    while now < began + until {
        match engine.next(now) {
            Step::Ask(Request::Look) => {
                let seen = view(now - began, &announced);
                engine.answer(now, Answer::Looked(seen));
            }
            Step::Ask(Request::Announce(_, candidate)) => {
                announced.insert(NodeId("b".to_owned()), candidate);
                engine.answer(now, Answer::Done);
            }
            Step::Ask(Request::Acquire(_)) => return Some(now - began),
            Step::Ask(other) => panic!("{other:?}"),
            Step::Wait(until) => now = until,
            Step::Stopped => panic!("it was not stopped"),
        }
    }
    None
}

use std::collections::BTreeMap;

#[test]
fn a_lease_is_taken_when_no_renewal_was_seen_for_longer_than_it_lasts() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = engine(now, 5);
    let renewed_last = Duration::from_secs(7);
    let taken = until_acquired(&mut engine, now, TTL * 4, |at, announced| View {
        candidates: announced.clone(),
        ..held(at.min(renewed_last).as_secs())
    });
    let taken = taken.unwrap();
    assert!(taken > renewed_last + TTL, "{taken:?}");
    assert!(taken <= renewed_last + TTL + Duration::from_secs(2), "{taken:?}");
}

#[test]
fn a_lease_that_is_renewed_is_never_taken() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = engine(now, 5);
    let taken = until_acquired(&mut engine, now, TTL * 20, |at, _| held(at.as_secs() / 9));
    assert_eq!(taken, None);
    assert!(matches!(
        engine.standing(),
        Standing::Replica { epoch: Epoch(4), .. }
    ));
}

#[test]
fn a_holder_stops_before_anybody_else_begins_and_counts_from_when_it_asked() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = engine(now, 5);
    let free = |_: Duration, announced: &BTreeMap<_, _>| View {
        candidates: announced.clone(),
        ..View::default()
    };
    let asked = now + until_acquired(&mut engine, now, TTL, free).unwrap();
    engine.answer(asked + TTL / 5, Answer::Granted(Some(grant(5))));
    let (epoch, until) = engine.right().unwrap();
    assert_eq!(epoch, Epoch(5));
    assert!(until < asked + TTL, "however long the answer took");
    // Renewals fail from now on.
    let mut at = asked + TTL / 5;
    while engine.right().is_some() {
        match engine.next(at) {
            Step::Ask(Request::Renew(_)) => engine.answer(at, Answer::Failed),
            Step::Wait(next) => at = next,
            Step::Ask(Request::Look) | Step::Stopped => break,
            Step::Ask(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(at, until);
    assert_eq!(engine.take_lost(), Some(Lost::Expired));
}

#[test]
fn who_has_come_further_goes_first_and_who_has_gone_silent_does_not_count() {
    let now = tokio::time::Instant::now().into_std();
    let rival = |progress, beat| (NodeId("a".to_owned()), Candidate { progress, beat });
    let waits_for = |theirs: Progress, beats: bool| {
        let mut engine = engine(now, 5);
        until_acquired(&mut engine, now, TTL, |at, announced| {
            let beat = if beats { at.as_secs() } else { 1 };
            let mut candidates = announced.clone();
            candidates.extend([rival(theirs, beat)]);
            View {
                candidates,
                ..View::default()
            }
        })
    };
    let alone = waits_for(progress(1, 4), true).unwrap();
    assert!(alone <= Duration::from_secs(2), "{alone:?}");
    assert_eq!(waits_for(progress(1, 6), true), None);
    assert_eq!(
        waits_for(progress(2, 1), true),
        None,
        "the epoch counts more than the number"
    );
    assert!(waits_for(progress(1, 6), false).unwrap() > alone);
}

#[test]
fn who_has_nothing_or_belongs_elsewhere_takes_no_lease_from_those_who_had_something() {
    let now = tokio::time::Instant::now().into_std();
    let cluster = |id: &str| Some(id.to_owned());
    for (own, txids, theirs, had, refused) in [
        (cluster("LFSC1"), 0, cluster("LFSC1"), 1, Some(Refused::Empty)),
        (cluster("LFSC1"), 0, cluster("LFSC1"), 0, None),
        (None, 0, cluster("LFSC1"), 1, Some(Refused::NoCluster)),
        // Acquired once, and nothing was done with it.
        (None, 0, cluster("LFSC1"), 0, None),
        (None, 0, None, 0, None),
        (
            cluster("LFSC2"),
            9,
            cluster("LFSC1"),
            1,
            Some(Refused::OtherCluster),
        ),
    ] {
        let mut engine = Engine::new(now, settings("b"));
        engine.set_progress(progress(0, txids), own);
        let taken = until_acquired(&mut engine, now, TTL * 3, |_, announced| View {
            candidates: announced.clone(),
            cluster: theirs.clone(),
            progress: progress(0, had),
            begun: had > 0,
            ..View::default()
        });
        assert_eq!((engine.refused(), taken.is_none()), (refused, refused.is_some()));
    }
}

#[test]
fn who_is_behind_what_the_last_holder_said_waits_for_others_as_long_as_the_lease_lasts() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = engine(now, 5);
    let taken = until_acquired(&mut engine, now, TTL * 3, |_, announced| View {
        candidates: announced.clone(),
        progress: progress(1, 6),
        ..View::default()
    });
    let taken = taken.unwrap();
    assert!(taken >= TTL && taken < TTL + Duration::from_secs(2), "{taken:?}");
}

fn primary(now: Instant) -> Engine {
    let mut engine = engine(now, 5);
    engine.handle(now, Input::Offered("object/4".to_owned()));
    assert_eq!(
        engine.next(now),
        Step::Ask(Request::TakeOver("object/4".to_owned()))
    );
    engine.answer(now, Answer::Granted(Some(grant(5))));
    assert_eq!(engine.standing(), Standing::Primary { epoch: Epoch(5) });
    engine
}

#[test]
fn a_lease_is_passed_on_only_when_nothing_is_acknowledged_any_more() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = primary(now);
    let to = NodeId("c".to_owned());
    engine.handle(now, Input::HandOff(to.clone()));
    assert_eq!(engine.right(), None);
    assert!(
        matches!(engine.next(now), Step::Wait(_)),
        "something may still be under way"
    );
    engine.handle(now, Input::Drained);
    assert_eq!(engine.next(now), Step::Ask(Request::PassOn(grant(5), to.clone())));
    engine.answer(now, Answer::PassedOn(Some("object/5".to_owned())));
    let lease = Some("object/5".to_owned());
    assert_eq!(engine.standing(), Standing::HandingOver { to, lease });
    engine.handle(now, Input::HandedOff);
    assert_eq!(engine.standing(), Standing::Nobody);
    assert_eq!(engine.next(now), Step::Ask(Request::Look));
}

#[test]
fn a_lease_that_could_not_be_handed_over_is_taken_back() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = primary(now);
    engine.handle(now, Input::HandOff(NodeId("c".to_owned())));
    engine.handle(now, Input::Drained);
    let _passing = engine.next(now);
    engine.answer(now, Answer::PassedOn(Some("object/5".to_owned())));
    engine.handle(now, Input::HandOffFailed);
    assert_eq!(
        engine.next(now),
        Step::Ask(Request::TakeOver("object/5".to_owned()))
    );
    engine.answer(now, Answer::Granted(Some(grant(6))));
    assert_eq!(engine.standing(), Standing::Primary { epoch: Epoch(6) });
}

#[test]
fn who_was_asked_to_step_down_does_not_want_the_lease_for_a_while_and_who_stops_never() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = primary(now);
    engine.handle(now, Input::Demote);
    assert_eq!((engine.standing(), engine.right()), (Standing::Leaving, None));
    engine.handle(now, Input::Drained);
    assert_eq!(engine.next(now), Step::Ask(Request::Release(grant(5))));
    engine.answer(now, Answer::Done);
    let free = |_: Duration, announced: &BTreeMap<_, _>| View {
        candidates: announced.clone(),
        ..View::default()
    };
    let taken = until_acquired(&mut engine, now, TTL * 3, free).unwrap();
    assert!(taken >= TTL, "{taken:?}");
    engine.answer(now + taken, Answer::Granted(Some(grant(6))));
    engine.handle(now + taken, Input::Stop);
    engine.handle(now + taken, Input::Drained);
    assert_eq!(engine.next(now + taken), Step::Ask(Request::Release(grant(6))));
    engine.answer(now + taken, Answer::Done);
    assert_eq!(engine.next(now + taken), Step::Stopped);
}

#[test]
fn an_answer_that_comes_after_the_lease_has_ended_gives_it_back_to_nobody() {
    let now = tokio::time::Instant::now().into_std();
    let mut engine = primary(now);
    let at = now + TTL / 2;
    assert_eq!(engine.next(at), Step::Ask(Request::Renew(grant(5))));
    engine.expire(now + TTL);
    assert_eq!(engine.right(), None);
    engine.answer(now + TTL, Answer::Granted(Some(grant(5))));
    assert_eq!((engine.right(), engine.standing()), (None, Standing::Nobody));
    // It is still written there, and nobody else has had it: under another epoch it is ours at once.
    assert_eq!(engine.next(now + TTL), Step::Ask(Request::Look));
    let ours = View {
        ours: true,
        ..held(1)
    };
    engine.answer(now + TTL, Answer::Looked(ours.clone()));
    assert_eq!(engine.next(now + TTL), Step::Ask(Request::Acquire(ours)));
}
