//! Reading manifests and listings.

use objstore::{ETag, Entry, GetError, Key, ListError, ObjectStore, Purpose, Remedy};

use super::damage::{Damage, Flaw, classify};
use super::manifest::{Decoded, HEAD_BYTES, Manifest, ManifestHead, decode_head, facts_end};
use super::names::SnapshotRef;
use super::{Backups, MANIFEST};

/// Entries asked for at a time.
const PAGE_ENTRIES: usize = 1_000;

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// There is none: never uploaded, or deleted long ago.
    #[error("backup of {snapshot}: not found")]
    NotFound {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
    /// The snapshot was deleted, or its upload abandoned.
    #[error("backup of {snapshot}: deleted")]
    Deleted {
        /// The snapshot.
        snapshot: SnapshotRef,
    },
    /// The object is there and cannot be used.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The store did not give it.
    #[error("backup of {snapshot}: reading its manifest")]
    Store {
        /// The snapshot.
        snapshot: SnapshotRef,
        /// What the store said.
        #[source]
        source: GetError,
    },
}

impl ManifestError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotFound { .. } | Self::Deleted { .. } => Remedy::FixRequest,
            Self::Damaged(damage) => damage.remedy(),
            Self::Store { source, .. } => source.remedy(),
        }
    }

    /// Returns what is wrong with the manifest of a snapshot that is known to have been uploaded; none when the store
    /// did not say, or the snapshot was deleted.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        match self {
            Self::NotFound { snapshot } => Some(Damage {
                object: snapshot.manifest_key(),
                flaw: Flaw::Missing,
            }),
            Self::Damaged(damage) => Some(damage.clone()),
            Self::Deleted { .. } | Self::Store { .. } => None,
        }
    }
}

/// Reads and checks a whole manifest.
pub(super) async fn manifest(backups: &Backups, snapshot: &SnapshotRef) -> Result<Manifest, ManifestError> {
    match any_manifest(backups, snapshot).await? {
        Decoded::Complete(manifest) => Ok(manifest),
        Decoded::Void { .. } => Err(ManifestError::Deleted {
            snapshot: snapshot.clone(),
        }),
    }
}

/// Reads and checks what lies under a manifest's key.
pub(super) async fn any_manifest(
    backups: &Backups,
    snapshot: &SnapshotRef,
) -> Result<Decoded<Manifest>, ManifestError> {
    let key = snapshot.manifest_key();
    let object = backups
        .store
        .get(&key, None, MANIFEST)
        .await
        .map_err(|error| lost(snapshot, error))?;
    // Opening authenticates megabytes for a large volume: not on the runtime's thread.
    let (cluster_key, of) = (backups.cluster_key.clone(), snapshot.clone());
    let decode = move || Manifest::decode(&cluster_key, &of, &object.bytes);
    backups
        .workers
        .run(decode)
        .await
        .map_err(|flaw| ManifestError::Damaged(Damage { object: key, flaw }))
}

/// Reads a manifest's facts, and not its block list.
pub(super) async fn manifest_head(
    backups: &Backups,
    snapshot: &SnapshotRef,
) -> Result<Decoded<ManifestHead>, ManifestError> {
    let key = snapshot.manifest_key();
    let mut end = HEAD_BYTES;
    loop {
        let front = backups
            .store
            .get(&key, Some(0..end), MANIFEST)
            .await
            .map_err(|error| lost(snapshot, error))?;
        let needed = facts_end(&front.bytes).unwrap_or(0);
        if needed > end && front.total_bytes >= needed {
            end = needed;
            continue;
        }
        let decoded = decode_head(&backups.cluster_key, snapshot, &front.bytes);
        return decoded.map_err(|flaw| ManifestError::Damaged(Damage { object: key, flaw }));
    }
}

fn lost(snapshot: &SnapshotRef, error: GetError) -> ManifestError {
    let snapshot = snapshot.clone();
    match error {
        GetError::NotFound { .. } => ManifestError::NotFound { snapshot },
        other => match classify(other) {
            Ok(damage) => ManifestError::Damaged(damage),
            Err(source) => ManifestError::Store { snapshot, source },
        },
    }
}

/// Lists everything under `prefix`.
pub(super) async fn list_all(
    store: &dyn ObjectStore,
    prefix: &str,
    purpose: Purpose,
) -> Result<Vec<Entry>, ListError> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.key.as_str().to_owned());
        let page = store
            .list(prefix, after.as_deref(), PAGE_ENTRIES, purpose)
            .await?;
        if page.more && page.entries.is_empty() {
            // Taken for the end, it would hide manifests from a sweep.
            let what = "more to come, and nothing to go on from";
            return Err(ListError::Senseless {
                prefix: prefix.to_owned(),
                what,
            });
        }
        entries.extend(page.entries);
        if !page.more {
            return Ok(entries);
        }
    }
}

/// Returns the etag of `key` without reading the object, `None` when there is none.
pub(super) async fn etag_of(store: &dyn ObjectStore, key: &Key) -> Result<Option<(ETag, u64)>, ListError> {
    let page = store.list(key.as_str(), None, 1, MANIFEST).await?;
    let first = page.entries.into_iter().next().filter(|entry| entry.key == *key);
    Ok(first.map(|entry| (entry.etag, entry.size_bytes)))
}
