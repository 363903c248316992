//! The shim: one process a running machine. It holds QEMU, the guest's channels, the logs and the status file, so
//! that the daemon can die and come back without the guest noticing.

pub mod agent;
pub mod board;
pub mod client;
pub mod facts;
mod http;
pub mod logs;
mod run;
mod stall;
mod suspend;

pub use run::{ShimError, run};
