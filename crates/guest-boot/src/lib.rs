//! What it takes to boot a guest by hand: the initramfs, the host's programs with their libraries, the kernel's
//! place, and the clock rate that the kernel cannot find out for itself.
//!
//! For the build (`xtask`), for tests, and for what machine-runner shares with them.

mod archive;
mod assets;
mod closure;
mod sys;
mod tsc;

pub use archive::{Archive, ArchiveError};
pub use assets::assets_dir;
pub use closure::{ClosureError, HostFile, closure, find, libraries};
pub use tsc::tsc_khz;

/// What the kernel of an emulated guest need not do (`initcall_blacklist`): it checks the certificates that it was
/// built with, which takes an emulated processor a third of the boot. Debian's kernel takes modules without them too.
pub const EMULATED_SKIPS: &str = "load_system_certificate_list,load_revocation_certificate_list";
