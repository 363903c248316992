//! PURE. Tells whether the wall clock may decide that something is to be removed.
//!
//! A clock that is wrong for a moment (no battery, a bad time server, a host that slept) must not expire a year of
//! snapshots. So nothing is removed on its word until it has gone in step with the machine's own time for a while;
//! after a start that has to be seen first. What is to be made does not wait.

use std::time::Duration;

use jiff::Timestamp;

#[cfg(test)]
mod tests;

/// How far wall and machine may drift apart between two looks: slewing, and looks that take their time.
const DRIFT_MAX: Duration = Duration::from_secs(60);

/// Compares two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockWatch {
    settle: Duration,
    last: Option<Look>,
    steady_since: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    wall: Timestamp,
    machine: Duration,
}

impl ClockWatch {
    /// Believes the wall clock once it was steady for `settle`; zero believes it always.
    pub(crate) fn new(settle: Duration) -> Self {
        Self {
            settle,
            last: None,
            steady_since: Duration::ZERO,
        }
    }

    /// Looks at both clocks and says whether the wall clock is believed.
    ///
    /// * `machine`: time since some fixed moment, by a clock that nobody sets.
    pub(crate) fn look(&mut self, wall: Timestamp, machine: Duration) -> bool {
        let jumped = match self.last {
            None => true,
            Some(last) => {
                let walked = wall.duration_since(last.wall).as_millis();
                let passed = machine.saturating_sub(last.machine).as_millis();
                walked.abs_diff(i128::try_from(passed).unwrap_or(i128::MAX)) > DRIFT_MAX.as_millis()
            }
        };
        if jumped {
            self.steady_since = machine;
        }
        self.last = Some(Look { wall, machine });
        machine.saturating_sub(self.steady_since) >= self.settle
    }
}
