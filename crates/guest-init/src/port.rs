//! A virtio-serial port as a non-blocking byte stream.
//!
//! Such a port tells "no host connected" by end-of-file and by a hang-up condition that lasts. Tokio takes a
//! hang-up for final, so the port is watched through an epoll instance of its own, edge-triggered: a change of
//! any kind wakes us once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing, and no host is connected.
    Disconnected,
}

/// An open port.
#[derive(Debug)]
pub(crate) struct Port {
    file: OwnedFd,
    changes: AsyncFd<OwnedFd>,
}

impl Port {
    /// Opens the port's node.
    pub(crate) fn open(node: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(node, flags, Mode::empty())?;
        let changes = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &changes,
            &file,
            EventData::new_u64(0),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        Ok(Self {
            file,
            changes: sys::watch(changes, Interest::READABLE)?,
        })
    }

    /// Returns another descriptor of the port, for last words.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Waits until the port may be readable or writable again, or its host came or went.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        let mut guard = self.changes.readable().await?;
        // Cleared first: an event that comes from here on wakes us again.
        guard.clear_ready();
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 4];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        epoll::wait(guard.get_inner(), &mut events[..], Some(&now))?;
        Ok(())
    }

    /// Reads what is there.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(&self.file, buffer) {
            Ok(0) => Ok(Read::Disconnected),
            Ok(count) => Ok(Read::Bytes(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the port takes; 0 when it takes nothing now, connected or not.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.file, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            other => Ok(other?),
        }
    }
}
