//! Ending a snapshot: deleted, or never finished.
//!
//! Both leave a void manifest. It settles, with the manifest's own put, whether the snapshot was published: of the two
//! exactly one finds the key free. And while it stands, no late request can bring the snapshot back.

use jiff::Timestamp;
use objstore::{ListError, PutError, Remedy};

use super::fetch::{ManifestError, any_manifest, etag_of};
use super::manifest::{Decoded, VOID_OBJECT_BYTES, encode_void};
use super::names::SnapshotRef;
use super::state::{self, StateError};
use super::{Backups, MANIFEST};

/// Times a deletion is tried again after the manifest changed under it.
const ATTEMPTS: u32 = 8;

/// Why a snapshot was not deleted or abandoned. Calling again is always safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteManifestError {
    /// The store did not say what is there.
    #[error("deletion of {snapshot}")]
    List {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: ListError,
    },
    /// The manifest could not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store did not take the void manifest.
    #[error("deletion of {snapshot}")]
    Put {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: PutError,
    },
    /// The volume's register.
    #[error("deletion of {snapshot}")]
    State {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// Why.
        #[source]
        source: StateError,
    },
    /// Others kept changing the manifest.
    #[error("deletion of {snapshot}: its manifest changed {ATTEMPTS} times in a row")]
    Contended {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
}

impl DeleteManifestError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::List { source, .. } => source.remedy(),
            Self::Manifest(source) => source.remedy(),
            Self::Put { source, .. } => source.remedy(),
            Self::State { source, .. } => source.remedy(),
            Self::Contended { .. } => Remedy::Retry,
        }
    }
}

/// What became of an upload that should be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It will never be published.
    Abandoned,
    /// It was published before: the snapshot is there, and stays.
    Published,
}

/// Gives an upload up: from now on it cannot be published, and its blocks are swept in time.
///
/// Needed whenever an upload that may have begun will not be called again; until then nothing of the volume is swept.
/// Idempotent, also for snapshots that never began.
///
/// # Errors
/// [`DeleteManifestError`].
pub async fn abandon(
    backups: &Backups,
    snapshot: &SnapshotRef,
    now: Timestamp,
) -> Result<Abandoned, DeleteManifestError> {
    let key = snapshot.manifest_key();
    let outcome = match backups
        .store
        .put_if_absent(&key, encode_void(now), MANIFEST)
        .await
    {
        Ok(_) => Abandoned::Abandoned,
        Err(PutError::Exists { .. }) => match any_manifest(backups, snapshot).await {
            Ok(Decoded::Complete(_)) | Err(ManifestError::Damaged(_)) => Abandoned::Published,
            Ok(Decoded::Void { .. }) => Abandoned::Abandoned,
            Err(error) => return Err(error.into()),
        },
        Err(source) => {
            return Err(DeleteManifestError::Put {
                snapshot: snapshot.clone(),
                source,
            });
        }
    };
    close(backups, snapshot).await?;
    Ok(outcome)
}

/// Deletes a snapshot's backup. The blocks that no other snapshot has are swept by [`gc`](super::gc()) in time.
///
/// Works on damaged manifests too. Idempotent, also for snapshots that never were.
///
/// # Errors
/// [`DeleteManifestError`].
pub async fn delete_manifest(
    backups: &Backups,
    snapshot: &SnapshotRef,
    now: Timestamp,
) -> Result<(), DeleteManifestError> {
    let key = snapshot.manifest_key();
    for _ in 0..ATTEMPTS {
        let there = etag_of(&*backups.store, &key).await;
        let there = there.map_err(|source| DeleteManifestError::List {
            snapshot: snapshot.clone(),
            source,
        })?;
        let put = match there {
            None => {
                backups
                    .store
                    .put_if_absent(&key, encode_void(now), MANIFEST)
                    .await
            }
            // As long as a void manifest, and not merely a complete one that was cut to its length.
            Some((_, VOID_OBJECT_BYTES))
                if matches!(any_manifest(backups, snapshot).await, Ok(Decoded::Void { .. })) =>
            {
                return close(backups, snapshot).await;
            }
            Some((etag, _)) => {
                backups
                    .store
                    .put_if_match(&key, &etag, encode_void(now), MANIFEST)
                    .await
            }
        };
        match put {
            Ok(_) => return close(backups, snapshot).await,
            Err(PutError::Exists { .. } | PutError::Stale { .. }) => {}
            Err(source) => {
                return Err(DeleteManifestError::Put {
                    snapshot: snapshot.clone(),
                    source,
                });
            }
        }
    }
    Err(DeleteManifestError::Contended {
        snapshot: snapshot.clone(),
    })
}

async fn close(backups: &Backups, snapshot: &SnapshotRef) -> Result<(), DeleteManifestError> {
    let closed = state::close(&*backups.store, snapshot.volume_id(), snapshot.snapshot_id()).await;
    closed.map_err(|source| DeleteManifestError::State {
        snapshot: snapshot.clone(),
        source,
    })
}
