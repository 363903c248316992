//! What happens to a request: drawn once, when it is sent.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::{Dice, Reads};

/// The fastest answer.
const LATENCY_MIN_US: f64 = 2_000.0;
/// The slowest answer that is not lost.
const LATENCY_MAX_US: f64 = 20_000_000.0;
/// The shape of the tail: one request in a hundred takes twenty times the fastest.
const LATENCY_ALPHA: f64 = 1.5;
/// How long after its client gave up a late request may arrive.
const LATE_MAX: Duration = Duration::from_secs(600);

/// How often things go wrong, each a chance in 0.0–1.0 for each request; the first that strikes, in this order, counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoreFaults {
    /// A burst of 503 begins, of 0.1 to 60 seconds; while it lasts, nine requests of ten are refused.
    pub burst: f64,
    /// The request never arrives; its client waits in vain.
    pub lost_before: f64,
    /// The request takes effect; its answer never arrives.
    pub lost_after: f64,
    /// The request takes effect up to ten minutes after its client gave up.
    pub late: f64,
    /// A put takes effect, its answer is lost, and it is sent again: what it finds then is what its client learns.
    pub retried: f64,
    /// A get brings fewer bytes than announced; a list gives half a page.
    pub short: f64,
}

impl StoreFaults {
    /// Nothing goes wrong; latency only.
    pub const CALM: Self = Self {
        burst: 0.0,
        lost_before: 0.0,
        lost_after: 0.0,
        late: 0.0,
        retried: 0.0,
        short: 0.0,
    };
    /// A bad day: one request in five meets something.
    pub const ROUGH: Self = Self {
        burst: 0.005,
        lost_before: 0.03,
        lost_after: 0.04,
        late: 0.03,
        retried: 0.05,
        short: 0.05,
    };
    /// Nothing arrives.
    pub const OUTAGE: Self = Self {
        lost_before: 1.0,
        ..Self::CALM
    };
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    Busy,
    LostBefore,
    LostAfter,
    Late,
    Retried,
    Short,
}

/// A request's whole course.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) fate: Fate,
    /// From the client to the instant of its effect.
    pub(crate) before: Duration,
    /// From there back to the client.
    pub(crate) after: Duration,
}

impl Dice {
    pub(crate) fn plan(&mut self, now: Instant, reads: Reads) -> Plan {
        self.requests += 1;
        let fate = self.fate(now, reads);
        let (mut before, after) = (self.latency(), self.latency());
        if fate == Fate::Late {
            before += super::DEADLINE + self.up_to(LATE_MAX);
        }
        Plan {
            number: self.requests,
            fate,
            before,
            after,
        }
    }

    fn fate(&mut self, now: Instant, reads: Reads) -> Fate {
        let faults = self.faults;
        if self.rng.random_bool(faults.burst) {
            self.busy_until = Some(now + Duration::from_millis(100) + self.up_to(Duration::from_secs(60)));
        }
        if self.busy_until.is_some_and(|until| now < until) && self.rng.random_bool(0.9) {
            return Fate::Busy;
        }
        let changes = reads == Reads::Nothing;
        let draws = [
            (faults.lost_before, Fate::LostBefore, true),
            (faults.lost_after, Fate::LostAfter, true),
            (faults.late, Fate::Late, changes),
            (faults.retried, Fate::Retried, changes),
            (faults.short, Fate::Short, !changes),
        ];
        for (chance, fate, possible) in draws {
            if self.rng.random_bool(chance) && possible {
                return fate;
            }
        }
        Fate::Answered
    }

    /// A latency with a heavy tail (Pareto).
    pub(crate) fn latency(&mut self) -> Duration {
        let uniform: f64 = self.rng.random_range(f64::EPSILON..1.0);
        let micros = LATENCY_MIN_US / uniform.powf(1.0 / LATENCY_ALPHA);
        Duration::from_secs_f64(micros.min(LATENCY_MAX_US) / 1e6)
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.rng.random_range(0.0..1.0))
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }
}
