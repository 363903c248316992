//! Pipes and terminals of processes, read and written without blocking.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use guest_init::proto::message::TtySize;

use crate::sys;

/// Our end of a pipe or terminal.
#[derive(Debug)]
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// Takes over a descriptor.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(sys::watch(fd, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Reads at least a byte, unless the other end is closed: then 0.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.readable().await?;
            match self.read_now(buffer)? {
                Some(count) => return Ok(count),
                None => guard.clear_ready(),
            }
        }
    }

    /// Reads what is there; `None` when there is nothing now.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(self.0.get_ref(), buffer) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            // A terminal whose last user has closed it.
            Err(Errno::IO) => Ok(Some(0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes some of `bytes`.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.writable().await?;
            match rustix::io::write(self.0.get_ref(), bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN | Errno::INTR) => guard.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns a new terminal: our end, and the end for a process.
pub(crate) fn terminal(size: TtySize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    let size = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&theirs, size)?;
    Ok((ours, theirs))
}
