//! The real SQLite on our databases, through a file system of its own that stands in for the kernel's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod applied;
mod costs;
mod faults;
mod file_system;
mod kernel_locks;
mod names;
mod power_cuts;
mod recovery;
mod regressions;
mod rng;
mod sys;
mod workloads;
