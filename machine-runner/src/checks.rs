//! Health checks: when each is due and what its results mean. Pure; milliseconds are an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest output that a check keeps, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 1024;

/// One check of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// Name as the API shows it.
    pub name: String,
    /// What is tried.
    pub kind: CheckKind,
    /// Port in the guest.
    pub port: u16,
    /// Time between two tries.
    pub interval: Duration,
    /// Longest time of one try.
    pub timeout: Duration,
    /// Time after the start in which failures do not count.
    pub grace: Duration,
}

/// What a check tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection that is accepted.
    Tcp,
    /// A request that is answered with 200 to 299.
    Http(HttpCheck),
}

/// The request of an HTTP check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Upper-case method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
}

/// State of a check, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// The last try succeeded.
    Passing,
    /// Not tried yet, or failed within the grace period.
    Warning,
    /// The last try failed.
    Critical,
}

/// A check as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Name.
    pub name: String,
    /// State.
    pub status: CheckState,
    /// What the last try said.
    pub output: String,
    /// When the state was last confirmed, RFC 3339.
    pub updated_at: jiff::Timestamp,
}

/// Result of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether it succeeded.
    pub success: bool,
    /// One line about it.
    pub output: String,
}

#[derive(Clone, Debug)]
struct Slot {
    spec: CheckSpec,
    due_ms: i64,
    running: bool,
    state: CheckState,
}

/// When the checks of one running machine are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    started_ms: i64,
    slots: Vec<Slot>,
}

impl Schedule {
    /// The schedule of a machine that started at `started_ms`. The first try of each check is made at once: a
    /// machine that is up early should be known to be up early; only failures wait for the grace period.
    #[must_use]
    pub fn new(specs: &[CheckSpec], started_ms: i64) -> Self {
        let slot = |spec: &CheckSpec| Slot {
            spec: spec.clone(),
            due_ms: started_ms,
            running: false,
            state: CheckState::Warning,
        };
        Self {
            started_ms,
            slots: specs.iter().map(slot).collect(),
        }
    }

    /// Takes the checks that are due at `now_ms`; each counts as running until [`Schedule::tried`].
    pub fn take_due(&mut self, now_ms: i64) -> Vec<CheckSpec> {
        let due = self
            .slots
            .iter_mut()
            .filter(|slot| !slot.running && slot.due_ms <= now_ms);
        due.map(|slot| {
            slot.running = true;
            slot.spec.clone()
        })
        .collect()
    }

    /// When the next check is due, in milliseconds; `None` while all are running or there are none.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<i64> {
        self.slots
            .iter()
            .filter(|slot| !slot.running)
            .map(|slot| slot.due_ms)
            .min()
    }

    /// Takes in a result and returns the check's state, and whether it changed.
    pub fn tried(&mut self, name: &str, tried: &Tried, now_ms: i64) -> Option<(CheckState, bool)> {
        let slot = self.slots.iter_mut().find(|slot| slot.spec.name == name)?;
        slot.running = false;
        let in_grace = now_ms - self.started_ms <= millis(slot.spec.grace);
        let state = match (tried.success, in_grace && slot.state != CheckState::Passing) {
            (true, _) => CheckState::Passing,
            (false, true) => CheckState::Warning,
            (false, false) => CheckState::Critical,
        };
        // A check that has never passed is retried each second: readiness is noticed soon, load stays bounded.
        let pause = if state == CheckState::Warning {
            1_000.min(millis(slot.spec.interval))
        } else {
            millis(slot.spec.interval)
        };
        slot.due_ms = now_ms + pause;
        let changed = slot.state != state;
        slot.state = state;
        Some((state, changed))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Cuts an output to [`OUTPUT_BYTES_MAX`] at a character's border.
#[must_use]
pub fn cut_output(text: &str) -> String {
    let mut end = text.len().min(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
