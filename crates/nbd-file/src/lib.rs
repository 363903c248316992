//! One file that is an NBD export: for hosts whose kernel has no NBD, behind a loop device.
//!
//! The file outlives its server. While nobody serves, requests wait; once somebody does, those that were not answered are
//! sent again, in the order in which they came. Requests that touch the same bytes are never under way together, so that
//! repeating one cannot undo another. What bounds the wait is [`Config::requests_max`]: beyond it the kernel holds them.
//!
//! What was answered before the server died must still be there when it comes back, as after a kill of its process: a
//! flush that was answered is not repeated.

mod courier;
mod file;
mod link;
mod mount;
mod queue;

pub use mount::{Config, FILE_NAME, MountError, Mounted, mount};
