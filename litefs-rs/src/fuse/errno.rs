//! Errors as applications see them. Nowhere else is one made of ours.

use std::io;

use fuser::Errno;

use crate::{
    db::{CaptureError, DatabaseError, ForwardError, commit::CommitError},
    store::Refusal,
};

/// What an application is told.
pub(super) fn of(refusal: &Refusal) -> Errno {
    match refusal {
        Refusal::Database(error) => of_database(error),
        Refusal::Io(error) => of_io(error),
        // SQLite says that the database is read only.
        Refusal::ReadOnly => Errno::EACCES,
        Refusal::Halted => Errno::EBUSY,
        Refusal::Broken | Refusal::Stopped => Errno::EIO,
    }
}

/// What an application is told of an error of the disk.
pub(super) fn of_io(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_i32)
}

fn of_database(error: &DatabaseError) -> Errno {
    match error {
        DatabaseError::Locked(_) => Errno::EAGAIN,
        DatabaseError::Disk { source, .. } | DatabaseError::Capture(CaptureError::Read { source, .. }) => {
            of_io(source)
        }
        DatabaseError::Commit(CommitError::NotPrimary | CommitError::Forward(ForwardError::NotHeld)) => {
            Errno::EACCES
        }
        DatabaseError::Capture(_)
        | DatabaseError::Commit(_)
        | DatabaseError::Undecided(_)
        | DatabaseError::Promised(_) => Errno::EIO,
    }
}
