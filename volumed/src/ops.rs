//! The operations: each a list of idempotent steps over catalog, pool and object store.

mod bases;
mod capture;
mod context;
mod create;
mod destroy;
mod expire;
mod extend;
mod fork;
mod mount;
mod moves;
mod newer_pool;
mod reconcile;
mod restore;
mod snapshot;

use std::sync::Arc;

use async_trait::async_trait;
use operation::{Outcome, Record, StepSet, StepSpec, Undone};
use tokio_util::sync::CancellationToken;

pub use bases::shed;
pub(crate) use capture::mounted_here;
pub use context::{Context, KeyRing, Locks, Pools, Settings};
pub use expire::EXPIRE;
pub(crate) use newer_pool::{Home, adopted};
pub use reconcile::{Lost, Stray, amend, lost, strays, unknown};

use crate::catalog::Change;
use crate::pool::PoolError;
use crate::volume::{SnapshotId, VolumeId};

pub use create::CREATE;
pub use destroy::{DESTROY, PURGE, RECOVER};
pub use extend::EXTEND;
pub use fork::FORK;
pub use mount::{MOUNT, REMOUNT, UNMOUNT};
pub(crate) use moves::ClaimParams;
pub use moves::{CLAIM, DRAIN};
pub use restore::RESTORE;
pub use snapshot::SNAPSHOT;
pub(crate) use snapshot::note_damage;

#[cfg(test)]
mod tests;

type Run = Outcome<Change>;
type Undo = Undone<Change>;

/// Every kind of operation with its steps, for the crash tests and the documentation.
pub const KINDS: [(&str, &[StepSpec]); 14] = [
    (CREATE, create::STEPS),
    (RESTORE, restore::STEPS),
    (FORK, fork::STEPS),
    (EXTEND, extend::STEPS),
    (SNAPSHOT, snapshot::STEPS),
    (EXPIRE, expire::STEPS),
    (DESTROY, destroy::DESTROY_STEPS),
    (RECOVER, destroy::RECOVER_STEPS),
    (PURGE, destroy::PURGE_STEPS),
    (MOUNT, mount::MOUNT_STEPS),
    (REMOUNT, mount::MOUNT_STEPS),
    (UNMOUNT, mount::UNMOUNT_STEPS),
    (DRAIN, moves::DRAIN_STEPS),
    (CLAIM, moves::CLAIM_STEPS),
];

/// The steps of volumed.
#[derive(Debug)]
pub struct Ops {
    ctx: Arc<Context>,
}

impl Ops {
    /// Binds the steps to what they work on.
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }
}

#[async_trait]
impl StepSet for Ops {
    type Change = Change;

    fn steps(&self, kind: &str, version: u32) -> Option<&'static [StepSpec]> {
        if version != 1 {
            return None;
        }
        KINDS
            .iter()
            .find(|(name, _)| *name == kind)
            .map(|(_, steps)| *steps)
    }

    async fn run(&self, record: &Record, step: &'static str, cancelled: &CancellationToken) -> Run {
        let ctx = &*self.ctx;
        let result = match (record.kind.as_str(), step) {
            (CREATE | RESTORE, "make") => create::make(ctx, record).await,
            (RESTORE, "fill") => restore::fill(ctx, record, cancelled).await,
            (FORK, "open") => fork::open(ctx, record).await,
            (FORK, "clone") => fork::clone(ctx, record, cancelled).await,
            (FORK, "enlarge") => fork::enlarge(ctx, record).await,
            (EXTEND, "grow") => extend::grow(ctx, record).await,
            (EXTEND, "announce") => extend::announce(ctx, record).await,
            (EXTEND, "settle") => extend::settle(ctx, record).await,
            (SNAPSHOT, "capture") => snapshot::capture(ctx, record, cancelled).await,
            (SNAPSHOT, "upload") => snapshot::upload(ctx, record, cancelled).await,
            (SNAPSHOT, "release") => snapshot::release(ctx, record).await,
            (EXPIRE, "unpublish") => expire::unpublish(ctx, record).await,
            (DESTROY, "schedule") => destroy::schedule(ctx, record).await,
            (RECOVER, "check") => destroy::check(ctx, record).await,
            (PURGE, "wait") => destroy::wait(ctx, record).await,
            (PURGE, "remove") => destroy::remove(ctx, record).await,
            (MOUNT | REMOUNT, "map") => mount::map(ctx, record).await,
            (MOUNT | REMOUNT, "format") => mount::format(ctx, record).await,
            (MOUNT | REMOUNT, "mount") => mount::mount(ctx, record).await,
            (UNMOUNT, "unmount") => mount::unmount(ctx, record).await,
            (UNMOUNT, "unmap") => mount::unmap(ctx, record).await.map(Outcome::changed),
            (DRAIN, "wait") => moves::wait(ctx, record).await,
            (DRAIN, "release") => moves::release(ctx, record, cancelled).await,
            (DRAIN, "forget") => moves::forget(ctx, record).await,
            (CLAIM, "open") => moves::open(ctx, record, cancelled).await,
            (kind, step) => unreachable!("{kind} has no step {step}"),
        };
        result.unwrap_or_else(StepError::outcome)
    }

    async fn undo(&self, record: &Record, step: &'static str) -> Undo {
        let ctx = &*self.ctx;
        let result = match (record.kind.as_str(), step) {
            (CREATE | RESTORE, "make") | (FORK, "open") => create::unmake(ctx, record).await,
            (RESTORE, "fill") | (FORK, "clone" | "enlarge") => Ok(Change::default()),
            (EXTEND, "grow") => extend::ungrow(ctx, record).await,
            (SNAPSHOT, "capture") => snapshot::uncapture(ctx, record).await,
            (SNAPSHOT, "upload") => snapshot::unupload(ctx, record).await,
            (EXPIRE, "unpublish") => expire::republish(ctx, record).await,
            (DESTROY, "schedule") => destroy::unschedule(ctx, record).await,
            (RECOVER, "check") => destroy::uncheck(ctx, record).await,
            (PURGE, "wait" | "remove") => destroy::unwait(ctx, record).await,
            (MOUNT, "map") => mount::unmap(ctx, record).await,
            (REMOUNT, "map") => Ok(mount::told(ctx, record)),
            // Undone with the first step, or still so: a volume that could not be unmounted stays mounted.
            (MOUNT | REMOUNT, "format" | "mount") | (UNMOUNT, "unmount" | "unmap") => Ok(Change::default()),
            (DRAIN, "wait") => moves::undrain(ctx, record).await,
            (DRAIN, "release") => moves::keep(ctx, record).await,
            (CLAIM, "open") => moves::unclaim(ctx, record).await,
            // Steps after a pivot are never undone.
            (EXTEND, "announce" | "settle") | (SNAPSHOT, "release") | (DRAIN, "forget") => {
                Ok(Change::default())
            }
            (kind, step) => unreachable!("{kind} has no step {step}"),
        };
        match result {
            Ok(change) => Undone::Done { change },
            Err(error) => Undone::Retry { why: error.why() },
        }
    }
}

/// Why a step did not end.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// Something in the way may go away by itself.
    #[error("{0}")]
    Later(String),
    /// The request cannot be carried out.
    #[error("{0}")]
    Refused(String),
    /// This host cannot carry it out.
    #[error("{0}")]
    Broken(String),
}

impl StepError {
    fn why(self) -> String {
        match self {
            Self::Later(why) | Self::Refused(why) | Self::Broken(why) => why,
        }
    }

    fn outcome(self) -> Run {
        match self {
            Self::Later(why) => Outcome::retry(why),
            Self::Refused(why) => Outcome::refuse(why),
            Self::Broken(why) => Outcome::fail(why),
        }
    }
}

/// Runs `work` until it ends or `cancelled` fires, and drops it where it stands then.
///
/// Only for work that may stop anywhere with nobody noticing: what it was doing in threads or in another process may
/// still come to its end beside the undo. It must not give anything a name that counts.
async fn unless<T>(
    cancelled: &CancellationToken,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(StepError::Later("given up by request".to_owned())),
        done = work => done,
    }
}

impl From<crate::catalog::TxError> for StepError {
    fn from(error: crate::catalog::TxError) -> Self {
        Self::Later(chain(&error))
    }
}

impl From<PoolError> for StepError {
    fn from(error: PoolError) -> Self {
        let sentence = chain(&error);
        match error {
            PoolError::NoSpace { .. } => Self::Refused(format!(
                "{sentence}; free some space or delete volumes, then try again"
            )),
            PoolError::Unfit { .. } => Self::Refused(sentence),
            PoolError::Missing { .. }
            | PoolError::WrongSize { .. }
            | PoolError::Luks { .. }
            | PoolError::Foreign { .. }
            | PoolError::Overflowed { .. } => Self::Broken(sentence),
            PoolError::Image { source, .. } => match source.remedy() {
                objstore::Remedy::Retry => Self::Later(sentence),
                _ => Self::Broken(sentence),
            },
            PoolError::Io { .. }
            | PoolError::Group { .. }
            | PoolError::Busy { .. }
            | PoolError::Closed { .. } => Self::Later(sentence),
        }
    }
}

impl From<crate::keys::UnwrapError> for StepError {
    fn from(error: crate::keys::UnwrapError) -> Self {
        Self::Refused(chain(&error))
    }
}

/// Sorts an error of the object store by what can be done about it.
fn stored(remedy: objstore::Remedy, error: &(dyn std::error::Error + 'static)) -> StepError {
    let sentence = chain(error);
    match remedy {
        // Wrong credentials or a missing bucket are put right by the operator, not by giving up the user's snapshot.
        objstore::Remedy::Retry | objstore::Remedy::FixRequest | objstore::Remedy::Stop => {
            StepError::Later(sentence)
        }
        objstore::Remedy::FixData | objstore::Remedy::Report => StepError::Broken(sentence),
    }
}

/// Joins an error and its sources with colons: for sentences that are kept, not for logs.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

fn volume_subject(record: &Record) -> Result<VolumeId, StepError> {
    VolumeId::parse(&record.subject).map_err(|e| StepError::Broken(e.to_string()))
}

fn snapshot_subject(record: &Record) -> Result<SnapshotId, StepError> {
    SnapshotId::parse(&record.subject).map_err(|e| StepError::Broken(e.to_string()))
}
