//! Locks that applications ask for.

mod halt;

use std::sync::Arc;

use fuser::{Errno, ReplyEmpty, ReplyLock};

use super::{
    errno,
    fs::{Cost, Mount},
};
use crate::{
    db::{
        files::FileKind,
        locks::{LockByte, Mode, Owner, Request},
    },
    name::MountName,
    store::{Slot, State},
};

/// Nobody in particular holds a lock: the kernel is told no process.
const NO_PROCESS: u32 = u32::MAX;

/// A request as the kernel makes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) handle: u64,
    pub(super) owner: u64,
    pub(super) start: u64,
    /// The last byte.
    pub(super) end: u64,
    pub(super) kind: i32,
    pub(super) waits: bool,
}

impl Asked {
    fn request(&self, file: FileKind) -> Result<Request, Errno> {
        let mode = match self.kind {
            libc::F_RDLCK => Some(Mode::Shared),
            libc::F_WRLCK => Some(Mode::Exclusive),
            libc::F_UNLCK => None,
            _ => return Err(Errno::EINVAL),
        };
        Ok(Request {
            owner: Owner(self.owner),
            file,
            range: self.start..self.end.saturating_add(1),
            mode,
        })
    }
}

/// What a lock is asked for in.
fn locked(mount: &Mount, target: MountName) -> Result<Option<(Arc<Slot>, FileKind)>, Errno> {
    match target {
        MountName::Database(name) => Ok(mount.store.get(&name).map(|slot| (slot, FileKind::Database))),
        MountName::SideFile(name, FileKind::Shm) => {
            Ok(mount.store.get(&name).map(|slot| (slot, FileKind::Shm)))
        }
        MountName::Lock(_)
        | MountName::SideFile(..)
        | MountName::Lag
        | MountName::Primary
        | MountName::Pos(_)
        | MountName::SuperJournal(_) => Err(Errno::ENOSYS),
    }
}

/// Grants a lock, or gives one up. Nobody waits, but for a [halt lock](halt): as with LiteFS, waiting is not offered.
pub(super) fn set(mount: &Arc<Mount>, asked: Asked, reply: ReplyEmpty) {
    let target = match mount.target(asked.number) {
        Ok((MountName::Lock(database), _)) => return halt::set(mount, database, asked, reply),
        Ok((target, _)) => target,
        Err(error) => return reply.error(error),
    };
    let (slot, file) = match locked(mount, target) {
        Ok(Some(locked)) => locked,
        Ok(None) => return reply.ok(),
        Err(error) => return reply.error(error),
    };
    let request = match asked.request(file) {
        Ok(request) if asked.waits && request.mode.is_some() => return reply.error(Errno::ENOSYS),
        Ok(request) => request,
        Err(error) => return reply.error(error),
    };
    let costed = request.clone();
    let cost = move |state: &State| cost(state, &costed);
    mount.act(&slot, cost, move |mount, slot, state| {
        let gives_up = request.mode != Some(Mode::Exclusive);
        match mount.store.with(slot, state, |database| database.lock(&request)) {
            Ok(()) => {
                if request.mode.is_some() {
                    mount
                        .handles
                        .locks_through(asked.number, asked.owner, asked.handle);
                }
                reply.ok();
            }
            Err(refusal) => reply.error(errno::of(&refusal)),
        }
        if gives_up {
            slot.lane().changed();
        }
    });
}

/// What it takes: giving up a lock that guarded a transaction commits it.
fn cost(state: &State, request: &Request) -> Cost {
    let State::Serving(database) = state else {
        return Cost::Quick;
    };
    let commits = |lock: &LockByte| matches!(lock, LockByte::WalWrite | LockByte::Shared);
    if database.locks().given_up(request).iter().any(commits) {
        Cost::Slow
    } else {
        Cost::Quick
    }
}

/// Says what stands against a lock, and how it is held: SQLite goes by that.
pub(super) fn get(mount: &Arc<Mount>, asked: Asked, reply: ReplyLock) {
    let nothing = |reply: ReplyLock| reply.locked(0, 0, libc::F_UNLCK, 0);
    let target = match mount.target(asked.number) {
        Ok((MountName::Lock(database), _)) => return halt::get(mount, &database, reply),
        Ok((target, _)) => target,
        Err(error) => return reply.error(error),
    };
    let (slot, file) = match locked(mount, target) {
        Ok(Some(locked)) => locked,
        Ok(None) => return nothing(reply),
        Err(error) => return reply.error(error),
    };
    let request = match asked.request(file) {
        Ok(request) => request,
        Err(error) => return reply.error(error),
    };
    mount.act(
        &slot,
        |_| Cost::Quick,
        move |_, _, state| {
            let State::Serving(database) = state else {
                return reply.error(Errno::EIO);
            };
            match database.conflict(&request) {
                None => nothing(reply),
                Some(conflict) => {
                    let kind = match conflict.mode {
                        Mode::Shared => libc::F_RDLCK,
                        Mode::Exclusive => libc::F_WRLCK,
                    };
                    let at = conflict.lock.offset();
                    reply.locked(at, at, kind, NO_PROCESS);
                }
            }
        },
    );
}

/// Takes from an owner what he holds in a file that he closes.
pub(super) fn close(mount: &Arc<Mount>, number: u64, owner: u64, reply: Option<ReplyEmpty>) {
    let ok = |reply: Option<ReplyEmpty>| {
        if let Some(reply) = reply {
            reply.ok();
        }
    };
    let Ok((target, _)) = mount.target(number) else {
        return ok(reply);
    };
    if let MountName::Lock(database) = target {
        return halt::close(mount, &database, Owner(owner), move || ok(reply));
    }
    let Ok(Some((slot, file))) = locked(mount, target) else {
        return ok(reply);
    };
    let owner = Owner(owner);
    let cost = move |state: &State| cost(state, &Request::close(owner, file));
    mount.act(&slot, cost, move |mount, slot, state| {
        let holds = matches!(state, State::Serving(database) if database.locks().holds(owner, file));
        if holds {
            let closed = mount.store.with(slot, state, |database| database.close(owner, file));
            if let Err(refusal) = closed {
                tracing::warn!(db = %slot.name(), error = %crate::store::chain(&refusal), "locks of a closed file guarded what cannot be committed");
            }
            slot.lane().changed();
        }
        ok(reply);
    });
}
