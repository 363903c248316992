//! Restart policy: whether and when a machine that ended by itself starts again. Pure; milliseconds are an argument.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Window in which `on-failure` counts its tries, in milliseconds; the pauses before them do not count as time, or they
/// would grow until no window holds all tries, and a machine that cannot work would be started for ever.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;
/// Tries of `on-failure` within [`WINDOW_MS`] when the configuration names none.
pub const RETRIES_DEFAULT: u32 = 10;
/// First pause before a restart, in milliseconds; doubles up to [`BACKOFF_MS_MAX`].
pub const BACKOFF_MS_MIN: i64 = 1_000;
/// Longest pause before a restart, in milliseconds.
pub const BACKOFF_MS_MAX: i64 = 60_000;
/// A run longer than this forgets earlier failures, in milliseconds.
pub const STABLE_MS: i64 = 60_000;

/// When to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Never.
    No,
    /// After a failure, a limited number of times.
    OnFailure,
    /// After any exit.
    Always,
}

/// The policy of one machine version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When.
    pub mode: Mode,
    /// Tries within the window; counts for [`Mode::OnFailure`] only.
    pub retries_max: u32,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether the process succeeded: exit code 0, no signal, no crash of the machine.
    pub success: bool,
    /// Whether a user asked for the end.
    pub requested: bool,
    /// Whether another start would end the same way, whatever happens meanwhile.
    pub lasting: bool,
    /// How long it ran, in milliseconds.
    pub ran_ms: i64,
    /// When it ended, in milliseconds of the same clock as `ran_ms` and the history.
    pub at_ms: i64,
}

/// What to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again at this time, in milliseconds.
    RestartAt(i64),
    /// Stay stopped.
    Stay,
    /// Stay stopped: the tries of the window are used up.
    GaveUp,
}

/// History of restarts of one machine version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When each promised restart of the window was decided, less the pauses promised before.
    restarts_ms: VecDeque<i64>,
    /// Sum of the pauses promised, in milliseconds.
    #[serde(default)]
    paused_ms: i64,
    streak: u32,
    /// Restarts since the machine was last started on request.
    pub count: u32,
}

impl History {
    /// Decides, and records the restart it promises.
    pub fn ended(&mut self, policy: Policy, ended: Ended) -> Verdict {
        if ended.requested || ended.lasting {
            return Verdict::Stay;
        }
        let wanted = match policy.mode {
            Mode::No => false,
            Mode::OnFailure => !ended.success,
            Mode::Always => true,
        };
        if !wanted {
            return Verdict::Stay;
        }
        let at_ms = ended.at_ms.saturating_sub(self.paused_ms);
        while self
            .restarts_ms
            .front()
            .is_some_and(|first| *first <= at_ms - WINDOW_MS)
        {
            self.restarts_ms.pop_front();
        }
        let used = u32::try_from(self.restarts_ms.len()).unwrap_or(u32::MAX);
        if policy.mode == Mode::OnFailure && used >= policy.retries_max {
            return Verdict::GaveUp;
        }
        if ended.ran_ms >= STABLE_MS {
            self.streak = 0;
        }
        let pause = BACKOFF_MS_MIN
            .saturating_mul(1_i64 << self.streak.min(16))
            .min(BACKOFF_MS_MAX);
        self.streak = self.streak.saturating_add(1);
        self.count = self.count.saturating_add(1);
        self.restarts_ms.push_back(at_ms);
        self.paused_ms = self.paused_ms.saturating_add(pause);
        // `always` is not limited, its history is: only the window's newest entries can matter.
        while self.restarts_ms.len() > 1024 {
            self.restarts_ms.pop_front();
        }
        Verdict::RestartAt(ended.at_ms + pause)
    }

    /// Forgets everything: the user started the machine.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
