//! The rate of the time stamp counter, which emulated machines see too.

use std::{sync::OnceLock, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::sys;

const WINDOW: Duration = Duration::from_millis(20);

/// Returns the counter's rate in kHz, for `tsc_early_khz=` on a guest's command line: without it the kernel of an
/// emulated microvm may hang while it looks for a clock. Takes 60 ms of processor time, once a process.
#[must_use]
pub fn tsc_khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(|| {
        let mut rates = [measure(), measure(), measure()];
        // The median: one preemption between the two reads does not matter.
        rates.sort_unstable();
        rates[1]
    })
}

fn measure() -> u64 {
    let (start, first) = (now(), sys::time_stamp());
    loop {
        let elapsed = now().saturating_sub(start);
        if elapsed >= WINDOW {
            let ticks = sys::time_stamp().saturating_sub(first);
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            return ticks.saturating_mul(1000) / micros;
        }
    }
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}
