use std::time::Duration;

use super::*;

#[test]
fn a_manual_clock_stands_still_until_it_is_moved() {
    let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    clock.advance(Duration::from_secs(60));
    assert_eq!(clock.now(), Timestamp::from_second(60).unwrap());
    clock.set(Timestamp::UNIX_EPOCH);
    assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
}
