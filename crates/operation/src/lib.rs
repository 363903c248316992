//! Durable operations: lists of idempotent steps that survive a crash at any point.
//!
//! A product describes its steps ([`StepSet`]) and where records are kept ([`Log`]); the [`Runner`] runs them, one
//! operation per subject, resumes what a crash left behind, backs off, and undoes what was aborted. What happens next
//! is decided by the pure functions of [`plan`].

mod log;
mod memory_log;
mod outcome;
pub mod plan;
mod probe;
mod record;
mod runner;
mod step;

pub use log::{Log, LogError};
pub use memory_log::MemoryLog;
pub use outcome::{Fault, Outcome, Undone};
pub use probe::{KillProbe, Moment, NoProbe, Probe, ProbeSpecError, Verdict};
pub use record::{OperationId, Record, Status};
pub use runner::{Backoff, DriveError, Driver, Handle, Runner, SubmitError};
pub use step::{StepSet, StepSpec};
