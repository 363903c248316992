//! What is in the bucket, from the bucket alone.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use objstore::{ListError, Remedy};

use super::damage::{Damage, Flaw};
use super::fetch::{ManifestError, list_all, manifest_head};
use super::manifest::{Decoded, ManifestHead};
use super::names::{IdError, ROOT, SnapshotRef, check_id, manifests_prefix, volume_prefix};
use super::{Backups, MANIFEST};
use crate::keys::UnwrapError;

/// Why a bucket could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// Not a volume's id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The store did not list.
    #[error("listing backups")]
    Store(#[from] ListError),
    /// The store did not give a manifest.
    #[error("listing backups")]
    Manifest(#[from] ManifestError),
}

impl ListingError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Id(source) => source.remedy(),
            Self::Store(source) => source.remedy(),
            Self::Manifest(source) => source.remedy(),
        }
    }
}

/// The snapshots in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Those that can be read, oldest first.
    pub heads: Vec<ManifestHead>,
    /// Manifests that cannot, and why: damaged, or under another cluster key.
    pub unreadable: Vec<Damage>,
}

/// Lists every snapshot in the bucket.
///
/// Costs two LISTs a volume and one GET a snapshot, of 16 KiB at most.
///
/// # Errors
/// [`ListingError`] when the store did not answer; never a shorter list.
pub async fn list(backups: &Backups) -> Result<Listing, ListingError> {
    let mut listing = Listing::default();
    for volume_id in volumes(backups).await? {
        let part = list_volume(backups, &volume_id).await?;
        listing.heads.extend(part.heads);
        listing.unreadable.extend(part.unreadable);
    }
    sort(&mut listing);
    Ok(listing)
}

impl Listing {
    /// Splits what is unreadable: how many snapshots each other cluster key has sealed, and what is damaged.
    pub fn by_other_keys(&self) -> (BTreeMap<String, u64>, Vec<&Damage>) {
        let (mut sealed, mut damaged) = (BTreeMap::new(), Vec::new());
        for damage in &self.unreadable {
            match &damage.flaw {
                Flaw::Unwrap(UnwrapError::OtherClusterKey { wrapped_by, .. }) => {
                    *sealed.entry(wrapped_by.to_string()).or_insert(0) += 1;
                }
                _ => damaged.push(damage),
            }
        }
        (sealed, damaged)
    }
}

/// Lists the snapshots of one volume.
///
/// # Errors
/// As [`list`].
pub async fn list_volume(backups: &Backups, volume_id: &str) -> Result<Listing, ListingError> {
    check_id(volume_id)?;
    let entries = list_all(&*backups.store, &manifests_prefix(volume_id), MANIFEST).await?;
    // What is no manifest's key is not ours.
    let snapshots: Vec<SnapshotRef> = entries
        .iter()
        .filter_map(|entry| SnapshotRef::of_manifest_key(&entry.key))
        .collect();
    // Owned items: a future over borrowed ones cannot be proved `Send` by today's compiler.
    let mut heads = stream::iter(snapshots)
        .map(|snapshot| async move { manifest_head(backups, &snapshot).await })
        .buffer_unordered(backups.concurrency.max(1));
    let mut listing = Listing::default();
    while let Some(head) = heads.next().await {
        match head {
            Ok(Decoded::Complete(head)) => listing.heads.push(head),
            // Deleted, before or since the listing.
            Ok(Decoded::Void { .. })
            | Err(ManifestError::NotFound { .. } | ManifestError::Deleted { .. }) => {}
            Err(ManifestError::Damaged(damage)) => listing.unreadable.push(damage),
            Err(error @ ManifestError::Store { .. }) => return Err(error.into()),
        }
    }
    drop(heads);
    sort(&mut listing);
    Ok(listing)
}

fn sort(listing: &mut Listing) {
    listing.heads.sort_by(|left, right| {
        (left.created_at, &left.volume_id, &left.snapshot_id).cmp(&(
            right.created_at,
            &right.volume_id,
            &right.snapshot_id,
        ))
    });
    listing
        .unreadable
        .sort_by(|left, right| left.object.cmp(&right.object));
}

/// Reads one snapshot's facts.
///
/// # Errors
/// [`ManifestError`].
pub async fn head(backups: &Backups, snapshot: &SnapshotRef) -> Result<ManifestHead, ManifestError> {
    match manifest_head(backups, snapshot).await? {
        Decoded::Complete(head) => Ok(head),
        Decoded::Void { .. } => Err(ManifestError::Deleted {
            snapshot: snapshot.clone(),
        }),
    }
}

/// Returns the ids of all volumes that have anything in the bucket, ascending.
///
/// # Errors
/// [`ListingError::Store`].
pub async fn volumes(backups: &Backups) -> Result<Vec<String>, ListingError> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        // One entry at a time, jumping over the rest of each volume: it may have a hundred thousand blocks.
        let page = backups.store.list(ROOT, after.as_deref(), 1, MANIFEST).await?;
        let Some(entry) = page.entries.first() else {
            if page.more {
                let what = "more to come, and nothing to go on from";
                return Err(ListError::Senseless {
                    prefix: ROOT.to_owned(),
                    what,
                }
                .into());
            }
            found.sort_unstable();
            return Ok(found);
        };
        let below_root = entry.key.as_str().strip_prefix(ROOT).unwrap_or_default();
        after = Some(match below_root.split_once('/') {
            Some((volume_id, _)) if check_id(volume_id).is_ok() => {
                found.push(volume_id.to_owned());
                // After every key of the volume: none of ours has a character above '~' behind the slash.
                format!("{}~", volume_prefix(volume_id))
            }
            // Not ours.
            Some(_) | None => entry.key.as_str().to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
