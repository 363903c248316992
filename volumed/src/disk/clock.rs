//! The clock of a disk: microseconds since the host was booted, those that it slept included.

use log_disk::Time;
use rustix::time::{ClockId, clock_gettime};

/// Returns the time now. It never goes back, and goes on while the host sleeps: a right to answer that has run out meanwhile
/// is known to have.
pub(super) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (
        u64::try_from(time.tv_sec).unwrap_or(0),
        u64::try_from(time.tv_nsec).unwrap_or(0),
    );
    Time(seconds * 1_000_000 + nanos / 1_000)
}
