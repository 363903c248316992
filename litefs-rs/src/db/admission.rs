//! Who may make transactions in a database changes.

use lease::Epoch;

use super::{
    apply::{ApplyError, Changed},
    capture::Capture,
    files::{FileKind, Files as _},
    handle::Database,
    shm,
};

impl Database {
    /// Returns the epoch under which applications may make transactions.
    #[must_use]
    pub fn admitted(&self) -> Option<Epoch> {
        self.admitted
    }

    /// Lets applications make transactions under an epoch, or none any more. What is under way then cannot be committed, and can
    /// be rolled back.
    pub fn admit(&mut self, epoch: Option<Epoch>) {
        self.admitted = epoch;
    }

    /// Tells whether there is something in the log, be it this node's own as a replica or what a writer left that died. Nobody may append
    /// to that: see [`begin_anew`](Self::begin_anew).
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.capture.in_log().next().is_some()
            || self.files.exists(FileKind::Wal) && self.files.len(FileKind::Wal).is_ok_and(|len| len > 0)
    }

    /// Puts the log into the database and begins it anew, for whoever writes next. The caller holds the
    /// [whole](Self::lock_whole) database, and has the kernel forget what changed.
    ///
    /// # Errors
    /// As the disk; the database is to be opened anew.
    pub fn begin_anew(&mut self) -> Result<Changed, ApplyError> {
        let mut ranges = self.put_log_away()?;
        self.capture = Capture::new(self.history.page_size(), self.history.checksums().pages());
        if self.renew_index()? {
            ranges.push((FileKind::Shm, 0..shm::BLOCK_BYTES as u64));
        }
        Ok(Changed {
            ranges,
            dropped: false,
        })
    }

    /// Takes over who may write and who holds which lock, from what was this database until it was opened anew.
    pub fn inherit(&mut self, from: Self) {
        self.admitted = from.admitted;
        self.forward = from.forward;
        self.locks = from.locks;
    }
}
