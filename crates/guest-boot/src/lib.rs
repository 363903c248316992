//! What it takes to boot a guest by hand: the initramfs, the host's programs with their libraries, the kernel's
//! place, and the clock rate that the kernel cannot find out for itself.
//!
//! For the build (`xtask`) and for tests; machine-runner boots from what the build made.

mod archive;
mod assets;
mod closure;
mod sys;
mod tsc;

pub use archive::{Archive, ArchiveError};
pub use assets::assets_dir;
pub use closure::{ClosureError, HostFile, closure, find, libraries};
pub use tsc::tsc_khz;
