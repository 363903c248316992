//! The mount, and what the kernel asks of it.

mod changes;
mod requests;

pub(super) use requests::FileSystem;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{Errno, FileAttr, ReplyEmpty};

use super::{
    attributes, errno,
    files::{Content, Handle, Handles, OpenFile},
    inodes::{Inodes, ROOT, name_of},
    kernel::Forgetter,
    special,
};
use crate::{
    db::{Role, files::FileKind},
    halt::Halts,
    name::MountName,
    replication::status::Status,
    store::{Refusal, Slot, State, Store, lane::Lane},
};

/// What it takes to do something to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// Memory and the page cache.
    Quick,
    /// It may wait for the disk.
    Slow,
}

/// What is mounted.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) store: Arc<Store>,
    pub(super) node: Arc<Status>,
    pub(super) owner: (u32, u32),
    pub(super) handles: Handles,
    /// Write locks of the primary; none where this node is primary for good.
    pub(super) halts: Option<Arc<Halts>>,
    inodes: Arc<Mutex<Inodes>>,
    kernel: Arc<Forgetter>,
    /// Whether the kernel takes files of ours for its own.
    passthrough: AtomicBool,
    /// For what is no database's and waits for the disk.
    elsewhere: Arc<Lane<()>>,
    /// Threads that serve everybody and wait for a disk.
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// How many threads wait for a disk; given back when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Mount {
    pub(super) fn new(
        store: Arc<Store>,
        node: Arc<Status>,
        halts: Option<Arc<Halts>>,
        passthrough: bool,
        waiting_max: usize,
    ) -> Arc<Self> {
        let inodes = Arc::new(Mutex::new(Inodes::default()));
        Arc::new(Self {
            store,
            node,
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            handles: Handles::default(),
            halts,
            kernel: Forgetter::new(Arc::clone(&inodes)),
            inodes,
            passthrough: AtomicBool::new(passthrough),
            elsewhere: Arc::new(Lane::new(())),
            waiting: AtomicUsize::new(0),
            waiting_max,
        })
    }

    pub(super) fn kernel(&self) -> Arc<Forgetter> {
        Arc::clone(&self.kernel)
    }

    fn inodes(&self) -> std::sync::MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> SystemTime {
        let ms = u64::try_from((self.store.node().wall_clock_ms)()).unwrap_or(0);
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// Does something to a database when it is its turn: here, if that holds up nobody else, or on its worker.
    pub(super) fn act(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        cost: impl FnOnce(&State) -> Cost,
        job: impl FnOnce(&Self, &Slot, &mut State) + Send + 'static,
    ) {
        if let Some(mut state) = slot.lane().try_take() {
            match cost(&state) {
                Cost::Quick => return job(self, slot, &mut state),
                Cost::Slow => {
                    if let Some(_waiting) = self.may_wait() {
                        return job(self, slot, &mut state);
                    }
                }
            }
        }
        let (mount, owned) = (Arc::clone(self), Arc::clone(slot));
        slot.lane().queue(move |state| job(&mount, &owned, state));
    }

    fn may_wait(&self) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting(&self.waiting);
        (before < self.waiting_max).then_some(waiting)
    }

    /// What a number stands for, and whether its name is gone.
    pub(super) fn target(&self, number: u64) -> Result<(MountName, bool), Errno> {
        self.inodes().target(number).ok_or(Errno::ESTALE)
    }

    /// Where a file lies; nothing if it is none, or of no database.
    pub(super) fn path(&self, target: &MountName) -> Option<PathBuf> {
        match target {
            MountName::Database(name) => Some(self.store.get(name)?.path(FileKind::Database)),
            MountName::SideFile(name, file) => Some(self.store.get(name)?.path(*file)),
            MountName::SuperJournal(name) => Some(self.store.super_journal(name)),
            MountName::Lag | MountName::Primary | MountName::Pos(_) | MountName::Lock(_) => None,
        }
    }

    /// The file of a database that a name stands for.
    fn file_of(&self, target: &MountName) -> Option<(Arc<Slot>, FileKind)> {
        match target {
            MountName::Database(name) => Some((self.store.get(name)?, FileKind::Database)),
            MountName::SideFile(name, file) => Some((self.store.get(name)?, *file)),
            MountName::Lag
            | MountName::Primary
            | MountName::Pos(_)
            | MountName::Lock(_)
            | MountName::SuperJournal(_) => None,
        }
    }

    /// Tells whether what is written to a file is a copy of an index that was renewed meanwhile.
    fn is_stale_index(&self, target: &MountName) -> bool {
        match target {
            MountName::SideFile(name, FileKind::Shm) => {
                self.store.get(name).is_some_and(|slot| slot.is_renewing())
            }
            MountName::Database(_)
            | MountName::SideFile(..)
            | MountName::Lag
            | MountName::Primary
            | MountName::Pos(_)
            | MountName::Lock(_)
            | MountName::SuperJournal(_) => false,
        }
    }

    fn attributes(&self, number: u64, target: &MountName) -> Result<FileAttr, Errno> {
        attributes::of(self, number, target)
    }

    fn look_up(&self, name: &str) -> Result<(MountName, FileAttr), Errno> {
        let target: MountName = name.parse().map_err(|_| Errno::ENOENT)?;
        // Asked first: a number is only for what exists.
        self.attributes(0, &target)?;
        let number = self.inodes().looked_up(name, &target);
        let mut attributes = self.attributes(number, &target).inspect_err(|_| {
            self.inodes().forget(number, 1);
        })?;
        attributes.ino = fuser::INodeNo(number);
        Ok((target, attributes))
    }

    fn attributes_of(&self, number: u64, handle: Option<u64>) -> Result<(MountName, FileAttr), Errno> {
        if number == ROOT {
            return Ok((MountName::Lag, attributes::of_root(self)));
        }
        let (target, unlinked) = self.target(number)?;
        let open = handle.and_then(|handle| self.handles.get(handle));
        let file = match open.as_ref().map(|open| &open.content) {
            Some(Content::File(file)) => Some(Arc::clone(file)),
            Some(Content::Bytes(_)) | None => self.handles.open_file(number),
        };
        match file {
            Some(file) => {
                let metadata = file.file.metadata().map_err(|error| errno::of_io(&error))?;
                let mut attributes = attributes::of_file(self, number, &target, &metadata);
                attributes.nlink = u32::from(!unlinked);
                Ok((target, attributes))
            }
            None if unlinked => Err(Errno::ESTALE),
            None => {
                let attributes = self.attributes(number, &target)?;
                Ok((target, attributes))
            }
        }
    }

    /// Opens what a number stands for.
    fn open(&self, number: u64) -> Result<(u64, Option<Arc<OpenFile>>, MountName), Errno> {
        let (target, unlinked) = self.target(number)?;
        let content = match &target {
            MountName::Database(_) | MountName::SideFile(..) | MountName::SuperJournal(_) => {
                let open = if unlinked {
                    self.handles.open_file(number)
                } else {
                    None
                };
                let file = match open {
                    Some(file) => file,
                    None if unlinked => return Err(Errno::ESTALE),
                    None => {
                        let path = self.path(&target).ok_or(Errno::ENOENT)?;
                        let opened = self.handles.file(number, &path);
                        opened.map_err(|error| errno::of_io(&error))?
                    }
                };
                Content::File(file)
            }
            MountName::Lag | MountName::Primary | MountName::Pos(_) | MountName::Lock(_) => {
                Content::Bytes(special::content(self, &target).ok_or(Errno::ENOENT)?)
            }
        };
        let file = match &content {
            Content::File(file) => Some(Arc::clone(file)),
            Content::Bytes(_) => None,
        };
        let handle = Handle {
            number,
            target: target.clone(),
            content,
        };
        Ok((self.handles.add(handle), file, target))
    }

    /// Takes a name away that is gone.
    fn unlinked(&self, name: &str) {
        let mut inodes = self.inodes();
        let number = name.parse().ok().and_then(|target: MountName| match target {
            MountName::Database(name) => inodes.of(&name, FileKind::Database),
            MountName::SideFile(name, file) => inodes.of(&name, file),
            MountName::Lag
            | MountName::Primary
            | MountName::Pos(_)
            | MountName::Lock(_)
            | MountName::SuperJournal(_) => None,
        });
        inodes.unlinked(name);
        drop(inodes);
        if let Some(number) = number {
            self.handles.orphaned(number);
        }
    }

    /// Removes a file of a database; with the database's own, all of them.
    fn unlink(self: &Arc<Self>, target: &MountName, reply: ReplyEmpty) {
        let Some((slot, file)) = self.file_of(target) else {
            return self.unlink_super_journal(target, reply);
        };
        self.act(
            &slot,
            |_| Cost::Slow,
            move |mount, slot, state| {
                let existed = slot.path(file).exists();
                // Logs and indices are SQLite's own to tidy up, as with LiteFS.
                let checked = match file {
                    FileKind::Database if !slot.grants().is_free() => Err(Refusal::Halted),
                    FileKind::Database if mount.store.is_primary_of(slot) => Ok(()),
                    FileKind::Database => Err(Refusal::ReadOnly),
                    FileKind::RollbackJournal => mount.store.check_write(slot, state, file),
                    FileKind::Wal | FileKind::Shm => Ok(()),
                };
                let unlinked =
                    checked.and_then(|()| mount.store.with(slot, state, |database| database.unlink(file)));
                match unlinked {
                    Ok(()) if !existed => reply.error(Errno::ENOENT),
                    Ok(()) => {
                        mount.unlinked(&name_of(slot.name(), file));
                        reply.ok();
                        if file == FileKind::Database {
                            mount.dropped(slot);
                        }
                    }
                    Err(refusal) => reply.error(errno::of(&refusal)),
                }
            },
        );
    }

    /// A database was dropped here: its other names are gone too.
    fn dropped(&self, slot: &Slot) {
        let others = [FileKind::RollbackJournal, FileKind::Wal, FileKind::Shm];
        let names = others.map(|file| name_of(slot.name(), file));
        names.iter().for_each(|name| self.unlinked(name));
        self.kernel.forget_names(names);
    }

    fn unlink_super_journal(self: &Arc<Self>, target: &MountName, reply: ReplyEmpty) {
        let MountName::SuperJournal(name) = target.clone() else {
            return reply.error(Errno::EACCES);
        };
        if self.store.role() == Role::Replica {
            return reply.error(Errno::EACCES);
        }
        let mount = Arc::clone(self);
        self.elsewhere
            .queue(move |()| match mount.store.unlink_super_journal(&name) {
                Ok(()) => {
                    mount.unlinked(&name);
                    reply.ok();
                }
                Err(refusal) => reply.error(errno::of(&refusal)),
            });
    }

    /// Writes to a file of a database, and says whether that could be done here.
    fn write_to(
        &self,
        slot: &Slot,
        state: &mut State,
        file: FileKind,
        data: &[u8],
        offset: u64,
    ) -> Result<(), Refusal> {
        self.store.check_write(slot, state, file)?;
        self.store
            .with(slot, state, |database| database.write(file, data, offset))
    }
}
