//! The status: in memory for those who wait, on disk for a daemon that comes back.

use std::path::Path;
use std::sync::Mutex;

use crashsafe::RealDisk;
use tokio::sync::watch;

use super::facts::{STATUS_FILE, Status};

/// Holder of the status.
#[derive(Debug)]
pub struct Board {
    status: watch::Sender<Status>,
    writing: Mutex<()>,
}

impl Board {
    /// Publishes the first status.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(first: Status) -> std::io::Result<Self> {
        write(&first)?;
        Ok(Self {
            status: watch::Sender::new(first),
            writing: Mutex::new(()),
        })
    }

    /// Changes the status: first on disk, then for those who wait. Nothing happens when `change` changes nothing.
    ///
    /// # Errors
    /// When it cannot be written; the change is published all the same, because the daemon is told by the socket
    /// as long as this process lives.
    pub fn update(&self, change: impl FnOnce(&mut Status)) -> std::io::Result<()> {
        let _one_at_a_time = self
            .writing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut next = self.status.borrow().clone();
        change(&mut next);
        if next == *self.status.borrow() {
            return Ok(());
        }
        next.seq += 1;
        let written = write(&next);
        self.status.send_replace(next);
        written
    }

    /// The status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Follows the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

fn write(status: &Status) -> std::io::Result<()> {
    let bytes = serde_json::to_vec_pretty(status).map_err(std::io::Error::other)?;
    crashsafe::write_atomic(&RealDisk, "shim:status", Path::new(STATUS_FILE), &bytes, 0o600)
}

/// Reads the status that the last run of a machine left.
#[must_use]
pub fn read(machine_dir: &Path) -> Option<Status> {
    serde_json::from_slice(&std::fs::read(machine_dir.join(STATUS_FILE)).ok()?).ok()
}
