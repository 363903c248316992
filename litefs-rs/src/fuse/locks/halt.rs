//! One byte of `<database>-lock`: who locks it on a replica holds the primary's write lock.

use std::sync::Arc;

use fuser::{Errno, ReplyEmpty, ReplyLock};

use super::{Asked, NO_PROCESS};
use crate::{
    db::locks::Owner,
    fuse::fs::Mount,
    halt::{HALT_BYTE, holder::HaltError},
    name::DatabaseName,
};

/// The byte.
const HALT: u64 = HALT_BYTE.cast_unsigned();

/// Takes the lock and answers when it is had; or gives it back. Only waiting for it is offered, as with LiteFS.
pub(super) fn set(mount: &Arc<Mount>, database: DatabaseName, asked: Asked, reply: ReplyEmpty) {
    let owner = Owner(asked.owner);
    if asked.kind == libc::F_UNLCK {
        if (asked.start..=asked.end).contains(&HALT) {
            return close(mount, &database, owner, move || reply.ok());
        }
        return reply.error(Errno::EINVAL);
    }
    if (asked.start, asked.end) != (HALT, HALT) {
        return reply.error(Errno::EINVAL);
    }
    if asked.kind != libc::F_WRLCK || !asked.waits {
        return reply.error(Errno::ENOSYS);
    }
    let Some(halts) = &mount.halts else {
        return reply.ok();
    };
    // Whoever closes this handle last gives it up, and nobody who closes another: a child that was forked has its own.
    mount
        .handles
        .locks_through(asked.number, asked.owner, asked.handle);
    halts.take(database, owner, |taken| match taken {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno_of(&error)),
    });
}

/// Says whether it is held from this node.
pub(super) fn get(mount: &Mount, database: &DatabaseName, reply: ReplyLock) {
    if mount.halts.as_ref().is_some_and(|halts| halts.is_held(database)) {
        reply.locked(HALT, HALT, libc::F_WRLCK, NO_PROCESS);
    } else {
        reply.locked(0, 0, libc::F_UNLCK, 0);
    }
}

/// Takes it from its owner, if he is that.
pub(super) fn close(
    mount: &Mount,
    database: &DatabaseName,
    owner: Owner,
    done: impl FnOnce() + Send + 'static,
) {
    match &mount.halts {
        Some(halts) => halts.give_up(database, owner, done),
        None => done(),
    }
}

fn errno_of(error: &HaltError) -> Errno {
    match error {
        HaltError::Again => Errno::ENOLCK,
        HaltError::TimedOut => Errno::EAGAIN,
        HaltError::NoPrimary
        | HaltError::Elsewhere
        | HaltError::Request(_)
        | HaltError::Body(_)
        | HaltError::Answer(_)
        | HaltError::Disk(_)
        | HaltError::Stopped => Errno::EIO,
    }
}
