//! Decides what comes next. Pure: no clock, no I/O.

use std::time::Duration;

use serde_json::Value;

use crate::outcome::Fault;
use crate::record::{Record, Status};
use crate::step::StepSpec;

#[cfg(test)]
mod tests;

/// What the driver does next with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this step.
    Run(&'static str),
    /// Undo this step.
    Undo(&'static str),
    /// Nothing: the operation has ended.
    End,
}

/// A step's outcome without its catalog change.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The step is in place; this patch is merged into the state.
    Done(Value),
    /// Later.
    Retry {
        /// The step's own wish for the delay.
        after: Option<Duration>,
        /// What was in the way.
        why: String,
    },
    /// Give up.
    Abort {
        /// Whose fault.
        fault: Fault,
        /// The sentence for the user.
        why: String,
    },
    /// Somebody else carries on.
    Handoff {
        /// Who.
        to: String,
    },
    /// An undo is in place.
    Undone,
}

/// What the driver does after a report was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Ask [`next`] at once.
    Continue,
    /// Wait: the step's wish, else the back-off for the record's attempts.
    Wait(Option<Duration>),
}

/// Returns what comes next.
///
/// # Panics
/// When `record.next` lies outside the list: the log is damaged, or a released list lost a step.
pub fn next(record: &Record, steps: &[StepSpec]) -> Next {
    assert!(
        record.next <= steps.len(),
        "{}: step {} of {}",
        record.id,
        record.next,
        steps.len()
    );
    match &record.status {
        Status::Running => steps.get(record.next).map_or(Next::End, |s| Next::Run(s.name)),
        Status::Undoing { .. } => match record.next.checked_sub(1) {
            Some(index) => Next::Undo(steps[index].name),
            None => Next::End,
        },
        Status::Done | Status::Aborted { .. } | Status::Handoff { .. } => Next::End,
    }
}

/// Merges a report into the record.
///
/// An abort undoes the aborting step too, for it may have had half its effect. After a pivot step an abort becomes a
/// retry: the operation can only go forward.
///
/// # Panics
/// When the report does not fit the record's direction; that is a mistake of the driver.
pub fn apply(record: &mut Record, steps: &[StepSpec], report: Report) -> Then {
    match report {
        Report::Done(patch) => {
            assert_eq!(
                record.status,
                Status::Running,
                "{}: a step ended while undoing",
                record.id
            );
            merge(&mut record.state, patch);
            advance(record, record.next + 1);
            if record.next == steps.len() {
                record.status = Status::Done;
            }
            Then::Continue
        }
        Report::Retry { after, why } => wait(record, after, why),
        Report::Abort { fault, why } => {
            assert_eq!(
                record.status,
                Status::Running,
                "{}: an undo cannot abort",
                record.id
            );
            if past_pivot(record, steps) {
                return wait(record, None, why);
            }
            let undo_from = record.next + 1;
            advance(record, undo_from.min(steps.len()));
            record.status = Status::Undoing { fault, why };
            Then::Continue
        }
        Report::Handoff { to } => {
            assert_eq!(
                record.status,
                Status::Running,
                "{}: a handoff while undoing",
                record.id
            );
            advance(record, record.next);
            record.status = Status::Handoff { to };
            Then::Continue
        }
        Report::Undone => {
            let Status::Undoing { fault, why } = record.status.clone() else {
                panic!("{}: an undo ended while {}", record.id, record.status.name());
            };
            let left = record.next.saturating_sub(1);
            advance(record, left);
            if left == 0 {
                record.status = Status::Aborted { fault, why };
            }
            Then::Continue
        }
    }
}

/// Returns the abort of an operation that was asked to give up, while it can: forwards and before its pivot.
pub fn cancellation(record: &Record, steps: &[StepSpec]) -> Option<Report> {
    let why = record.cancelled.clone()?;
    let can = record.status == Status::Running && !past_pivot(record, steps);
    can.then_some(Report::Abort {
        fault: Fault::User,
        why,
    })
}

/// Says whether a step that cannot be taken back is done.
pub fn past_pivot(record: &Record, steps: &[StepSpec]) -> bool {
    steps.iter().take(record.next).any(|s| s.pivot)
}

fn advance(record: &mut Record, next: usize) {
    record.next = next;
    record.attempts = 0;
    record.last_error = None;
}

fn wait(record: &mut Record, after: Option<Duration>, why: String) -> Then {
    record.attempts = record.attempts.saturating_add(1);
    record.last_error = Some(why);
    Then::Wait(after)
}

fn merge(state: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return };
    if !state.is_object() {
        *state = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(state) = state {
        for (key, value) in patch {
            if value.is_null() {
                state.remove(&key);
            } else {
                state.insert(key, value);
            }
        }
    }
}
