//! Whether the kernel offers FUSE passthrough, asked of the kernel itself: a file system is mounted for a moment, and
//! the kernel's first message says what it can do.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Bytes of a request's header, before the message itself.
const HEADER_BYTES: usize = 40;
/// Where the second word of flags stands in the first message: after two version numbers, read-ahead and first flags.
const FLAGS2_AT: usize = HEADER_BYTES + 16;
/// Passthrough is bit 37 of the 64 flags.
const PASSTHROUGH: u32 = 1 << (37 - 32);
/// The message is there as soon as the mount is; this is for a host under load.
const PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// Asks the kernel. Needs the right to mount.
pub(super) fn is_offered(device: &mut File) -> std::io::Result<bool> {
    let place = tempfile::tempdir()?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options)?;
    mount(
        "hangar-doctor",
        place.path(),
        "fuse",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )?;
    let _mounted = Mounted(place.path());
    let mut ready = [PollFd::new(&*device, PollFlags::IN)];
    if poll(&mut ready, Some(&PATIENCE))? == 0 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    // The kernel refuses to write less than a whole message, whose largest first kind is far below this.
    let mut message = vec![0; 1 << 17];
    let bytes = device.read(&mut message)?;
    Ok(offers_passthrough(&message[..bytes]))
}

fn offers_passthrough(message: &[u8]) -> bool {
    let word = message
        .get(FLAGS2_AT..FLAGS2_AT + 4)
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    word.is_some_and(|bytes| u32::from_ne_bytes(bytes) & PASSTHROUGH != 0)
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Nobody uses it; should it be busy all the same, it goes with the last user.
        if let Err(error) = unmount(self.0, UnmountFlags::DETACH) {
            tracing::warn!(%error, "the probe's file system stays mounted");
        }
    }
}

#[cfg(test)]
mod tests;
