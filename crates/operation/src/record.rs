use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::Fault;

/// Names one operation; opaque, chosen by the product, unique for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(String);

impl OperationId {
    /// Wraps an id made by the product.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Steps are being run forwards.
    Running,
    /// A step aborted; finished steps are being undone, newest first.
    Undoing {
        /// Whose fault the abort was.
        fault: Fault,
        /// The sentence shown to the user.
        why: String,
    },
    /// Every step is done.
    Done,
    /// Everything was undone.
    Aborted {
        /// Whose fault the abort was.
        fault: Fault,
        /// The sentence shown to the user.
        why: String,
    },
    /// The rest belongs to somebody else (another operation, a person).
    Handoff {
        /// Who carries on.
        to: String,
    },
}

impl Status {
    /// Says whether nothing is left to do.
    pub fn ended(&self) -> bool {
        match self {
            Self::Running | Self::Undoing { .. } => false,
            Self::Done | Self::Aborted { .. } | Self::Handoff { .. } => true,
        }
    }

    /// Returns the one-word name used in catalogs and answers.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing { .. } => "undoing",
            Self::Done => "done",
            Self::Aborted { .. } => "aborted",
            Self::Handoff { .. } => "handoff",
        }
    }
}

/// One operation as the log keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Unique id.
    pub id: OperationId,
    /// What the operation changes (a volume id, a machine id); at most one operation runs per subject.
    pub subject: String,
    /// Which list of steps.
    pub kind: String,
    /// Which version of that list, so that a newer program finishes what an older one began.
    pub version: u32,
    /// What was asked; never changes.
    pub params: Value,
    /// What the steps found out so far: the merged patches of their results.
    pub state: Value,
    /// Forwards: index of the next step to run. Undoing: number of steps still to undo.
    pub next: usize,
    /// How often the current step was tried and did not end.
    pub attempts: u32,
    /// How far it is.
    pub status: Status,
    /// Why the last attempt did not end, if it did not.
    pub last_error: Option<String>,
    /// Why it was asked to give up, if it was. Kept by [`Log::cancel`](crate::Log::cancel), so a crash forgets nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<String>,
}

impl Record {
    /// Makes the record of an operation that has not begun.
    pub fn new(id: OperationId, subject: impl Into<String>, kind: &str, version: u32, params: Value) -> Self {
        Self {
            id,
            subject: subject.into(),
            kind: kind.to_owned(),
            version,
            params,
            state: Value::Object(serde_json::Map::new()),
            next: 0,
            attempts: 0,
            status: Status::Running,
            last_error: None,
            cancelled: None,
        }
    }

    /// Returns a text field of the state.
    pub fn state_str(&self, key: &str) -> Option<&str> {
        self.state.get(key).and_then(Value::as_str)
    }

    /// Returns a text field of the parameters.
    pub fn param_str(&self, key: &str) -> Option<&str> {
        self.params.get(key).and_then(Value::as_str)
    }
}
