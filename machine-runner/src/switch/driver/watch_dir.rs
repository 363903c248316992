//! Tells when the names in a directory change.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

const EVENTS_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct WatchDir {
    events: AsyncFd<OwnedFd>,
}

impl WatchDir {
    /// Starts watching: changes from now on are told.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let renames = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
        let whole = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(
            &events,
            dir,
            renames | WatchFlags::DELETE | WatchFlags::CLOSE_WRITE | whole,
        )?;
        // Deprecated because a type might close its descriptor while it is registered; an `OwnedFd` does not, and the
        // replacement would need unsafe code here.
        #[allow(deprecated)]
        let events = AsyncFd::new(events)?;
        Ok(Self { events })
    }

    /// Waits for a change; several at once count as one.
    ///
    /// # Errors
    /// `NotFound` when the directory itself is gone.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable_mut().await?;
            let drained = ready.try_io(|events| drain(events.get_ref()));
            match drained {
                Ok(result) => return result,
                // Readiness was stale.
                Err(_would_block) => {}
            }
        }
    }
}

fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = Reader::new(events, &mut buffer);
    let mut seen = false;
    loop {
        match reader.next() {
            Ok(event)
                if event
                    .events()
                    .intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) =>
            {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the directory of ports is gone",
                ));
            }
            Ok(_) => seen = true,
            Err(rustix::io::Errno::AGAIN) if seen => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
