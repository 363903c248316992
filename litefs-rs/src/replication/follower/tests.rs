use ltx::{Checksum, Flags, PageSize};

use super::*;

#[allow(clippy::disallowed_methods, reason = "the beginning of virtual time")]
fn start() -> Instant {
    Instant::now()
}

fn follower(now: Instant) -> Follower {
    Follower::new(now, NodeId::new(7), PositionMap::new(), false)
}

fn handle(follower: &mut Follower, now: Instant, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    follower.handle(now, input, &mut out);
    out
}

fn ltx(database: &str, node: u64) -> Input {
    Input::Ltx {
        database: database.to_owned(),
        header: Header {
            flags: Flags::LZ4,
            page_size: PageSize::MIN,
            commit_pages: 1,
            min_txid: Txid::new(4),
            max_txid: Txid::new(4),
            timestamp_ms: 1,
            pre_apply: Checksum::EMPTY_DATABASE,
            wal: None,
            node: NodeId::new(node),
        },
    }
}

#[test]
fn what_we_made_ourselves_is_checked_and_dropped_and_foreign_names_are_skipped() {
    let now = start();
    let mut follower = follower(now);
    let database: DatabaseName = "db".parse().unwrap();
    assert_eq!(
        handle(&mut follower, now, ltx("db", 7)),
        [Output::Verify(database)]
    );
    let skipped = handle(&mut follower, now, ltx("../db", 1));
    assert!(
        matches!(skipped[..], [Output::Skip(NameError::NoFileName(_))]),
        "{skipped:?}"
    );
    let refused = handle(&mut follower, now, ltx("db", 1));
    assert!(matches!(
        refused[..],
        [Output::Disconnect(Disconnect::Mismatch { .. })]
    ));
    assert_eq!(
        handle(&mut follower, now, ltx("db", 7)),
        [],
        "nothing is done any more"
    );
}

#[test]
fn a_node_becomes_ready_once_and_is_as_far_as_the_primary_says() {
    let now = start();
    let mut follower = follower(now);
    let applied = |timestamp_ms| Input::Applied {
        database: "db".parse().unwrap(),
        pos: Pos::ZERO,
        timestamp_ms,
    };
    assert_eq!(handle(&mut follower, now, applied(1)), [], "of the first pass");
    assert_eq!(handle(&mut follower, now, Input::Ready), [Output::BecomeReady]);
    assert_eq!(handle(&mut follower, now, Input::Ready), []);
    assert_eq!(
        handle(&mut follower, now, applied(2)),
        [Output::Reached { timestamp_ms: 2 }]
    );
    let reached = handle(&mut follower, now, Input::Heartbeat(3));
    assert_eq!(reached, [Output::Reached { timestamp_ms: 3 }]);
    let mark = |database: &str| Input::HighWaterMark {
        database: database.to_owned(),
        txid: Txid::new(9),
    };
    let retain = Output::Retain {
        database: "db".parse().unwrap(),
        txid: Txid::new(9),
    };
    assert_eq!(handle(&mut follower, now, mark("db")), [retain]);
    assert_eq!(handle(&mut follower, now, mark("db-wal")), []);
}

#[test]
fn a_silent_primary_is_given_up_and_a_slow_one_is_not() {
    let now = start();
    let mut follower = follower(now);
    let almost = SILENCE_MAX - Duration::from_millis(1);
    assert_eq!(handle(&mut follower, now + almost, Input::Tick), []);
    handle(&mut follower, now + almost, Input::Heard);
    assert_eq!(follower.deadline(), now + almost + SILENCE_MAX);
    assert_eq!(handle(&mut follower, now + 2 * almost, Input::Tick), []);
    let silent = Output::Disconnect(Disconnect::Silent);
    assert_eq!(
        handle(&mut follower, now + almost + SILENCE_MAX, Input::Tick),
        [silent]
    );
}

#[test]
fn every_end_of_a_stream_is_told_apart() {
    let now = start();
    let end = |input| handle(&mut follower(now), now, input);
    assert_eq!(end(Input::End), [Output::Disconnect(Disconnect::Ended)]);
    let lease = || "lease".to_owned();
    let handed_off = [
        Output::TakeLease(lease()),
        Output::Disconnect(Disconnect::HandedOff),
    ];
    assert_eq!(end(Input::Handoff(lease())), handed_off);
    let broken = FrameError::Type(9);
    let expected = [Output::Disconnect(Disconnect::Broken(broken.clone()))];
    assert_eq!(end(Input::Broken(broken)), expected);
}
