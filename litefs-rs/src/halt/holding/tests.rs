use std::time::Duration;

use ltx::{Checksum, Pos, Txid};
use tokio::time::Instant as Clock;

use super::{Holding, Reached};
use crate::halt::wire::LITEFS_LASTS;

fn pos(txid: u64, bits: u64) -> Pos {
    Pos {
        txid: Txid::new(txid),
        checksum: Checksum::from_bits(bits),
    }
}

#[test]
fn a_lock_of_litefs_ends_thirty_seconds_after_it_was_asked_for_and_nothing_begins_shortly_before() {
    let asked_at = Clock::now().into_std();
    let holding = Holding::new(77, Pos::ZERO, asked_at, None);
    let end = asked_at + LITEFS_LASTS;
    assert_eq!(
        (holding.until(), holding.next()),
        (end, end),
        "it is not asked for again"
    );
    let moment = Duration::from_nanos(1);
    assert!(holding.may_write(asked_at + Duration::from_secs(26)));
    assert!(!holding.may_write(asked_at + Duration::from_secs(27)));
    assert!(holding.may_commit(end - moment) && !holding.may_commit(end));
}

#[test]
fn a_lock_that_is_renewed_is_asked_for_three_times_as_long_as_it_lasts() {
    let asked_at = Clock::now().into_std();
    let lasts = Duration::from_secs(3);
    let mut holding = Holding::new(77, Pos::ZERO, asked_at, Some(lasts));
    let second = Duration::from_secs(1);
    assert_eq!(holding.next(), asked_at + second);
    holding.unanswered(asked_at + second);
    assert_eq!(holding.next(), asked_at + 2 * second);
    assert_eq!(holding.until(), asked_at + 3 * second, "no answer is no renewal");
    holding.renewed(asked_at + 2 * second, Some(lasts));
    assert_eq!(holding.next(), asked_at + 3 * second);
    assert_eq!(holding.until(), asked_at + 5 * second);
    assert!(holding.may_write(asked_at + 4 * second));
    assert!(!holding.may_write(asked_at + 5 * second - Duration::from_millis(300)));
}

#[test]
fn what_has_ended_lets_nobody_write_or_commit() {
    let now = Clock::now().into_std();
    let mut holding = Holding::new(77, Pos::ZERO, now, None);
    assert!(holding.may_write(now) && holding.may_commit(now));
    holding.end();
    assert!(!holding.may_write(now) && !holding.may_commit(now));
}

#[test]
fn a_replica_waits_until_it_is_where_the_primary_was_and_nowhere_else() {
    let holding = Holding::new(77, pos(5, 1), Clock::now().into_std(), None);
    assert_eq!(holding.reached(pos(4, 9)), Reached::Behind);
    assert_eq!(holding.reached(pos(5, 1)), Reached::There);
    assert_eq!(holding.reached(pos(5, 2)), Reached::Elsewhere);
    assert_eq!(holding.reached(pos(6, 1)), Reached::Elsewhere);
}
