//! What the tier can run.

use crate::Guest;

/// One test, or one for each of some seeds.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The function's path, which is the test's name.
    pub name: &'static str,
    /// What it does.
    pub body: Body,
    /// How it must end.
    pub end: End,
}

/// How a test must end.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// Well.
    Passes,
    /// With a report that holds all these words: a test of the harness, which must be able to fail.
    Fails(&'static [&'static str]),
}

/// What a test does.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// Runs inside the guest that all such tests share; panics when something is wrong.
    Shared(fn(&Guest)),
    /// Runs inside a guest of its own, which it may ruin.
    Alone(fn(&Guest)),
    /// Runs once for each point from 0 on, each time as a test of its own inside a guest of its own; [`Guest::point`] tells which.
    Points {
        /// What is run.
        run: fn(&Guest),
        /// How many points there are.
        count: u64,
    },
    /// A power cut, in guests of its own.
    PowerCut(PowerCut),
}

/// A workload whose machine loses its power, and what must hold afterwards. Each seed is a test of its own.
#[derive(Debug, Clone, Copy)]
pub struct PowerCut {
    /// Prepares the disk, calls [`Guest::arm`], and goes on writing; each thing that is then done for good it
    /// [acknowledges](Guest::acknowledge). When it returns the power is cut all the same.
    pub workload: fn(&Guest),
    /// Runs on what the cut left, in a fresh guest; [`Guest::acknowledged`] tells what was done for good.
    pub check: fn(&Guest),
    /// The cut comes at one of this many writes, flushes and discards after the arming.
    pub requests: u64,
    /// How many seeds the short set has.
    pub short_seeds: u64,
    /// How many the long set has.
    pub long_seeds: u64,
}

/// Which function of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Part {
    /// [`Body::Shared`], [`Body::Alone`] and [`Body::Points`]
    Whole,
    /// [`PowerCut::workload`]
    Workload,
    /// [`PowerCut::check`]
    Check,
}

impl Case {
    /// Returns the function of a part, if the case has it.
    pub(crate) fn part(&self, part: Part) -> Option<fn(&Guest)> {
        match (self.body, part) {
            (Body::Shared(run) | Body::Alone(run) | Body::Points { run, .. }, Part::Whole) => Some(run),
            (Body::PowerCut(cut), Part::Workload) => Some(cut.workload),
            (Body::PowerCut(cut), Part::Check) => Some(cut.check),
            (Body::Shared(_) | Body::Alone(_) | Body::Points { .. }, Part::Workload | Part::Check)
            | (Body::PowerCut(_), Part::Whole) => None,
        }
    }
}

/// Makes a list of [`Case`]s from paths of functions that take a [`Guest`].
#[macro_export]
macro_rules! cases {
    ($($path:path),* $(,)?) => {
        vec![$($crate::Case {
            name: stringify!($path),
            body: $crate::Body::Shared($path),
            end: $crate::End::Passes,
        }),*]
    };
}
