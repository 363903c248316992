//! Calls of the system that nobody else wraps.
#![allow(unsafe_code, reason = "locks of a part of an open file")]

use std::{fs::File, io, os::fd::AsRawFd as _};

use libc::{F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_UNLCK, F_WRLCK, SEEK_SET, c_int, c_short, flock};

/// Locks one byte of an open file for itself alone, and waits until that is granted. Whoever inherits the open file has the lock too;
/// it ends when the last of them closes it.
///
/// # Errors
/// As the system.
pub fn lock_byte(file: &File, offset: i64) -> io::Result<()> {
    loop {
        match set(file, F_OFD_SETLKW, F_WRLCK, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// Gives the lock of one byte of an open file up.
///
/// # Errors
/// As the system.
pub fn unlock_byte(file: &File, offset: i64) -> io::Result<()> {
    set(file, F_OFD_SETLK, F_UNLCK, offset)
}

/// Tells whether anybody else has the file open, whoever can tell: not every file system does.
#[must_use]
pub fn is_open_elsewhere(file: &File) -> bool {
    // SAFETY: the descriptor is open as long as the file is borrowed; what is asked for is a number.
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, F_WRLCK) };
    if leased == 0 {
        // SAFETY: as above. Nobody else is to wait for a lease that was only a question.
        unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, F_UNLCK) };
        return false;
    }
    io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

fn set(file: &File, command: c_int, kind: c_int, offset: i64) -> io::Result<()> {
    let lock = flock {
        l_type: c_short::try_from(kind).map_err(io::Error::other)?,
        l_whence: c_short::try_from(SEEK_SET).map_err(io::Error::other)?,
        l_start: offset,
        l_len: 1,
        // As locks of open files ask for.
        l_pid: 0,
    };
    // SAFETY: the descriptor is open as long as the file is borrowed, and the system only reads the lock that is pointed to, which
    // lives until it returns.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
