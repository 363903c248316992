//! PURE. SQLite's lock bytes, and who holds them.

use std::{collections::BTreeMap, ops::Range};

use super::files::FileKind;

/// One of the bytes that SQLite locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockByte {
    /// A writer waits for readers to leave; nobody new gets in.
    Pending,
    /// A writer prepares its transaction.
    Reserved,
    /// Shared by readers; exclusively a writer's.
    Shared,
    /// Appends to the write-ahead log.
    WalWrite,
    /// Copies the log into the database.
    WalCheckpoint,
    /// Builds the log's index anew.
    WalRecover,
    /// First group of readers of the log: of those that need nothing of it.
    WalRead0,
    /// Second group of readers.
    WalRead1,
    /// Third group of readers.
    WalRead2,
    /// Fourth group of readers.
    WalRead3,
    /// Fifth group of readers.
    WalRead4,
    /// Shared by everyone who has the index open: the "dead man's switch".
    WalOpen,
}

impl LockByte {
    /// All of them, by file and offset.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Reserved,
        Self::Shared,
        Self::WalWrite,
        Self::WalCheckpoint,
        Self::WalRecover,
        Self::WalRead0,
        Self::WalRead1,
        Self::WalRead2,
        Self::WalRead3,
        Self::WalRead4,
        Self::WalOpen,
    ];

    /// Returns the file that the byte is locked in.
    #[must_use]
    pub const fn file(self) -> FileKind {
        match self {
            Self::Pending | Self::Reserved | Self::Shared => FileKind::Database,
            Self::WalWrite
            | Self::WalCheckpoint
            | Self::WalRecover
            | Self::WalRead0
            | Self::WalRead1
            | Self::WalRead2
            | Self::WalRead3
            | Self::WalRead4
            | Self::WalOpen => FileKind::Shm,
        }
    }

    /// Returns where the byte is; of [`LockByte::Shared`], which has 510, the first.
    #[must_use]
    pub const fn offset(self) -> u64 {
        match self {
            Self::Pending => 0x4000_0000,
            Self::Reserved => 0x4000_0001,
            Self::Shared => 0x4000_0002,
            Self::WalWrite => 120,
            Self::WalCheckpoint => 121,
            Self::WalRecover => 122,
            Self::WalRead0 => 123,
            Self::WalRead1 => 124,
            Self::WalRead2 => 125,
            Self::WalRead3 => 126,
            Self::WalRead4 => 127,
            Self::WalOpen => 128,
        }
    }
}

/// Who locks: a process, or with locks of open files an open file. The kernel names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// How a byte is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// With others.
    Shared,
    /// Alone.
    Exclusive,
}

/// A part of a file and what an owner wants to do to the locks in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who.
    pub owner: Owner,
    /// The file.
    pub file: FileKind,
    /// Its bytes. A lock is meant when its first byte is among them.
    pub range: Range<u64>,
    /// Hold them so, whether held before or not; or, with nothing, not at all.
    pub mode: Option<Mode>,
}

impl Request {
    /// Gives up everything that `owner` holds in `file`, as closing it does.
    #[must_use]
    pub const fn close(owner: Owner, file: FileKind) -> Self {
        Self {
            owner,
            file,
            range: 0..u64::MAX,
            mode: None,
        }
    }

    fn locks(&self) -> impl Iterator<Item = LockByte> + '_ {
        LockByte::ALL
            .into_iter()
            .filter(|lock| lock.file() == self.file && self.range.contains(&lock.offset()))
    }
}

/// Someone else holds a byte that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{lock:?} is held by another, {mode:?}")]
pub struct Conflict {
    /// The first such byte.
    pub lock: LockByte,
    /// How it is held.
    pub mode: Mode,
}

/// The locks of one database.
///
/// An owner holds a byte once: another request of his changes how. A request for several bytes gets all of them or none.
/// Nobody waits: who is refused asks again.
///
/// One rule is ours and not SQLite's: the log is not copied into the database while another writes to it
/// ([`LockByte::WalCheckpoint`] is refused while another has [`LockByte::WalWrite`]). What a writer has shown to SQLite's
/// processes becomes a transaction of ours when he unlocks; nothing of it is to be in the database before.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    /// Nobody is in here who holds nothing.
    holders: BTreeMap<LockByte, BTreeMap<Owner, Mode>>,
    /// One of our own waits for readers of the log to leave: nobody new gets in.
    draining: Option<Owner>,
}

impl Locks {
    /// Tells what stands against a request, and changes nothing.
    #[must_use]
    pub fn conflict(&self, request: &Request) -> Option<Conflict> {
        let wanted = request.mode?;
        request.locks().find_map(|lock| {
            if self.keeps_out(lock, request.owner) {
                let mode = Mode::Exclusive;
                return Some(Conflict { lock, mode });
            }
            let gate =
                (lock == LockByte::WalCheckpoint && wanted == Mode::Exclusive).then_some(LockByte::WalWrite);
            [Some(lock), gate].into_iter().flatten().find_map(|lock| {
                let mut others = self.held(lock).filter(|(owner, _)| *owner != request.owner);
                let (_, mode) = others.find(|(_, mode)| (*mode).max(wanted) == Mode::Exclusive)?;
                Some(Conflict { lock, mode })
            })
        })
    }

    /// Grants a request.
    ///
    /// # Errors
    /// Someone else holds a byte; then nothing has changed. Giving up never fails.
    pub fn request(&mut self, request: &Request) -> Result<(), Conflict> {
        if let Some(conflict) = self.conflict(request) {
            return Err(conflict);
        }
        for lock in request.locks() {
            match request.mode {
                Some(mode) => {
                    self.holders.entry(lock).or_default().insert(request.owner, mode);
                }
                None => {
                    let holders = self.holders.entry(lock).or_default();
                    holders.remove(&request.owner);
                    if holders.is_empty() {
                        self.holders.remove(&lock);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the bytes that the request's owner holds alone and would not after it. Whoever grants the request finishes
    /// first what they guarded.
    #[must_use]
    pub fn given_up(&self, request: &Request) -> Vec<LockByte> {
        if request.mode == Some(Mode::Exclusive) {
            return Vec::new();
        }
        request
            .locks()
            .filter(|lock| self.mode(*lock, request.owner) == Some(Mode::Exclusive))
            .collect()
    }

    /// Grants one of our own what keeps everybody else from reading and writing.
    ///
    /// Who has the index open holds [`LockByte::Shared`] as long as he has it, and reads only under a lock of the log: he is
    /// no reader by that.
    ///
    /// * `wal`: whether the database has a log. Then only the log's locks are needed.
    ///
    /// # Errors
    /// Somebody reads or writes; then nothing has changed.
    pub fn request_whole(&mut self, owner: Owner, wal: bool) -> Result<(), Conflict> {
        let exclusive = |lock: &LockByte| match lock.file() {
            FileKind::Database => !wal,
            FileKind::RollbackJournal | FileKind::Wal | FileKind::Shm => *lock != LockByte::WalOpen,
        };
        for lock in LockByte::ALL.into_iter().filter(exclusive) {
            let in_the_way = |other: &(Owner, Mode)| {
                let by_index = lock == LockByte::Shared && self.mode(LockByte::WalOpen, other.0).is_some();
                other.0 != owner && !by_index
            };
            if let Some((_, mode)) = self.held(lock).find(in_the_way) {
                return Err(Conflict { lock, mode });
            }
        }
        for lock in LockByte::ALL {
            let mode = if exclusive(&lock) {
                Mode::Exclusive
            } else {
                Mode::Shared
            };
            self.holders.entry(lock).or_default().insert(owner, mode);
        }
        Ok(())
    }

    /// Grants one of our own what keeps everybody else from writing, and from copying a log into the database; whatever it held
    /// before. Others may read, and open the index of a log that is there.
    ///
    /// # Errors
    /// Somebody writes; then it holds nothing.
    pub fn request_writing(&mut self, owner: Owner) -> Result<(), Conflict> {
        self.release_whole(owner);
        let held = [
            (LockByte::Reserved, Mode::Exclusive),
            (LockByte::Shared, Mode::Shared),
            (LockByte::WalWrite, Mode::Exclusive),
            (LockByte::WalOpen, Mode::Shared),
        ];
        for (lock, wanted) in held {
            if let Some((_, mode)) = self
                .held(lock)
                .find(|(_, mode)| (*mode).max(wanted) == Mode::Exclusive)
            {
                return Err(Conflict { lock, mode });
            }
        }
        for (lock, mode) in held {
            self.holders.entry(lock).or_default().insert(owner, mode);
        }
        Ok(())
    }

    /// Tells whether anybody but `owner` holds a byte.
    #[must_use]
    pub fn is_held_by_others(&self, lock: LockByte, owner: Owner) -> bool {
        self.held(lock).any(|(other, _)| other != owner)
    }

    /// Lets no new reader of the log in, for one of our own, until he has [released](Self::release_whole) everything. SQLite asks
    /// again for ten seconds.
    pub fn drain(&mut self, owner: Owner) {
        self.draining = Some(owner);
    }

    /// Lets readers in again that one of our own kept out.
    pub fn stop_draining(&mut self, owner: Owner) {
        self.draining = self.draining.filter(|draining| *draining != owner);
    }

    fn keeps_out(&self, lock: LockByte, owner: Owner) -> bool {
        let reads = matches!(
            lock,
            LockByte::WalRead0
                | LockByte::WalRead1
                | LockByte::WalRead2
                | LockByte::WalRead3
                | LockByte::WalRead4
        );
        let others = self.draining.is_some_and(|draining| draining != owner);
        reads && others && self.mode(lock, owner).is_none()
    }

    /// Takes everything from one of our own.
    pub fn release_whole(&mut self, owner: Owner) {
        self.stop_draining(owner);
        self.holders.retain(|_, holders| {
            holders.remove(&owner);
            !holders.is_empty()
        });
    }

    /// Tells whether an owner holds anything in a file.
    #[must_use]
    pub fn holds(&self, owner: Owner, file: FileKind) -> bool {
        let mut held = self.holders.iter().filter(|(lock, _)| lock.file() == file);
        held.any(|(_, holders)| holders.contains_key(&owner))
    }

    /// Returns how `owner` holds a byte.
    #[must_use]
    pub fn mode(&self, lock: LockByte, owner: Owner) -> Option<Mode> {
        self.holders.get(&lock)?.get(&owner).copied()
    }

    /// Returns how a byte is held by whomever.
    #[must_use]
    pub fn state(&self, lock: LockByte) -> Option<Mode> {
        self.held(lock).map(|(_, mode)| mode).max()
    }

    fn held(&self, lock: LockByte) -> impl Iterator<Item = (Owner, Mode)> + '_ {
        let holders = self.holders.get(&lock).into_iter().flatten();
        holders.map(|(owner, mode)| (*owner, *mode))
    }
}

#[cfg(test)]
mod tests;
