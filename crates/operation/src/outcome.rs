use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whose fault an abort is; decides between a 4xx and a 5xx answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request cannot be done as asked.
    User,
    /// This host, or something it needs, cannot do it.
    System,
}

/// What one run of a step came to. `C` is the product's own catalog change, committed together with the result.
#[derive(Debug)]
pub enum Outcome<C> {
    /// The step's effect is in place and durable.
    Done {
        /// Merged into the record's state, key by key; `null` removes a key.
        patch: Value,
        /// Catalog change that commits in the same transaction as the step's end.
        change: C,
    },
    /// Not now; run the step again later.
    Retry {
        /// How long to wait; the runner's back-off when absent.
        after: Option<Duration>,
        /// What was in the way.
        why: String,
    },
    /// It cannot be done: undo this step and every one before it.
    Abort {
        /// Whose fault it is.
        fault: Fault,
        /// The sentence shown to the user.
        why: String,
    },
    /// The operation ends here, without undo; somebody else carries on.
    Handoff {
        /// Who.
        to: String,
        /// Catalog change that commits with the end.
        change: C,
    },
}

impl<C: Default> Outcome<C> {
    /// Reports an effect that changes nothing in the catalog.
    pub fn done() -> Self {
        Self::Done {
            patch: Value::Null,
            change: C::default(),
        }
    }
}

impl<C> Outcome<C> {
    /// Reports an effect together with its catalog change.
    pub fn changed(change: C) -> Self {
        Self::Done {
            patch: Value::Null,
            change,
        }
    }

    /// Asks for another run after the runner's back-off.
    pub fn retry(why: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            why: why.into(),
        }
    }

    /// Gives up for a reason in the request.
    pub fn refuse(why: impl Into<String>) -> Self {
        Self::Abort {
            fault: Fault::User,
            why: why.into(),
        }
    }

    /// Gives up for a reason in this host.
    pub fn fail(why: impl Into<String>) -> Self {
        Self::Abort {
            fault: Fault::System,
            why: why.into(),
        }
    }
}

/// What one run of an undo came to.
#[derive(Debug)]
pub enum Undone<C> {
    /// Nothing of the step is left.
    Done {
        /// Catalog change that commits in the same transaction.
        change: C,
    },
    /// Not now; undo again later. An undo never gives up.
    Retry {
        /// What was in the way.
        why: String,
    },
}
