//! Garbage collection: giving back the blocks that no snapshot has any more.
//!
//! Two phases, some grace apart. A *mark* writes down the blocks that no manifest names. A later *sweep* deletes those of
//! them that still no manifest names, if no upload is open.
//!
//! Why a sweep never deletes a block that a manifest names, now or ever:
//!
//! * It reads the register, refuses if an upload is open in it, reads every manifest, then changes the register by
//!   compare-and-swap, and deletes only if that succeeds. Every upload changes the register when it opens and when
//!   it closes. So none was open at any instant between the read and the swap, and none published: in between the set of
//!   manifests can only have shrunk, and what was read holds every manifest that is alive at the swap. A candidate
//!   in none of them is named by no manifest at that instant.
//! * Afterwards none comes to name it. An upload's manifest names blocks of its base and blocks that it writes itself. Its
//!   base it reads after it has opened, hence after the swap: a manifest that does not name the candidate. And what
//!   it writes stands under its own snapshot's id, which no upload had that has ended.
//! * A late DELETE therefore hits a name that nobody will use, and a late PUT leaves garbage that a later mark finds.
//!
//! The grace is a second line, not part of the argument: should any of this be wrong one day, a block is still deleted
//! only when it was garbage for as long as the longest backup takes.

mod candidates;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use objstore::{DeleteError, Entry, GetError, ListError, PutError, Remedy};

use super::damage::{Damage, classify};
use super::fetch::{ManifestError, any_manifest, list_all};
use super::manifest::Decoded;
use super::names::{
    BlockName, IdError, SnapshotRef, blocks_prefix, candidates_key, candidates_prefix, check_id,
    manifests_prefix,
};
use super::state::{self, Candidates, Loaded, State, StateError, Swap};
use super::{Backups, GC, MANIFEST};

/// How patient garbage collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcPolicy {
    /// Least time between mark and sweep. Longer than the longest backup takes.
    pub grace: Duration,
    /// How long a void manifest stays. Longer than any request to the store can be under way.
    pub tombstone_grace: Duration,
}

impl Default for GcPolicy {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3600),
            tombstone_grace: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Why garbage was not collected. Whatever it is, nothing was deleted that a later call would not delete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// Not a volume's id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The volume's register.
    #[error("garbage collection")]
    State(#[from] StateError),
    /// The store did not list.
    #[error("garbage collection of volume {volume_id}")]
    List {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: ListError,
    },
    /// A manifest could not be read, so nobody knows which blocks are garbage.
    #[error("garbage collection stopped, for blocks may be in use")]
    Manifest(#[from] ManifestError),
    /// The list of candidates could not be read.
    #[error("garbage collection of volume {volume_id}: reading what was marked")]
    Get {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: GetError,
    },
    /// The list of candidates could not be written.
    #[error("garbage collection of volume {volume_id}: writing what was marked")]
    Put {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: PutError,
    },
    /// An object could not be deleted.
    #[error("garbage collection of volume {volume_id}")]
    Delete {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: DeleteError,
    },
}

impl GcError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Id(source) => source.remedy(),
            Self::State(source) => source.remedy(),
            Self::List { source, .. } => source.remedy(),
            Self::Manifest(source) => source.remedy(),
            Self::Get { source, .. } => source.remedy(),
            Self::Put { source, .. } => source.remedy(),
            Self::Delete { source, .. } => source.remedy(),
        }
    }
}

/// Why marked blocks were not swept by this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The grace is not over.
    Grace {
        /// When it will be.
        until: Timestamp,
    },
    /// Uploads are open.
    Uploads {
        /// Their snapshots.
        snapshot_ids: Vec<String>,
    },
    /// Uploads began or ended, or another collection ran, meanwhile.
    Changed,
}

/// What one call of [`gc`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Blocks newly written down as garbage.
    pub marked_blocks: u64,
    /// Their stored bytes.
    pub marked_bytes: u64,
    /// Blocks deleted.
    pub swept_blocks: u64,
    /// Blocks that had been marked and are in use all the same.
    pub kept_blocks: u64,
    /// Void manifests removed.
    pub tombstones: u64,
    /// Why marked blocks are still there.
    pub waiting: Option<Waiting>,
}

/// Collects the garbage of one volume: sweeps what is due, then marks. Safe beside uploads, deletions and other collections
/// of the same volume, and after a crash anywhere.
///
/// * `kept`: snapshots of the volume that are known to have a manifest. One that the store does not list is looked for by
///   its name: a listing that lacks it must not cost its blocks.
///
/// # Errors
/// [`GcError`]. A LIST or GET that fails, and a manifest that cannot be read or found, keep everything as it is.
pub async fn gc(
    backups: &Backups,
    volume_id: &str,
    kept: &[SnapshotRef],
    now: Timestamp,
    policy: &GcPolicy,
) -> Result<GcReport, GcError> {
    check_id(volume_id)?;
    let run = Run {
        backups,
        volume_id,
        kept,
        now,
        policy,
    };
    let mut report = GcReport::default();
    let loaded = state::load(&*backups.store, volume_id).await?;
    let marked = loaded.state.candidates.clone();
    match marked {
        None => run.mark(loaded, &mut report).await?,
        Some(marked) => {
            if run.sweep(loaded, &marked, &mut report).await? {
                let loaded = state::load(&*backups.store, volume_id).await?;
                if loaded.state.candidates.is_none() {
                    run.mark(loaded, &mut report).await?;
                }
            }
        }
    }
    run.remove_tombstones(&mut report).await?;
    Ok(report)
}

struct Run<'a> {
    backups: &'a Backups,
    volume_id: &'a str,
    kept: &'a [SnapshotRef],
    now: Timestamp,
    policy: &'a GcPolicy,
}

impl Run<'_> {
    /// Writes down the blocks that no manifest names.
    async fn mark(&self, loaded: Loaded, report: &mut GcReport) -> Result<(), GcError> {
        self.remove_stray_lists(&loaded.state).await?;
        let blocks = self.list(&blocks_prefix(self.volume_id)).await?;
        let live = self.live_blocks().await?;
        let mut garbage = Vec::new();
        for entry in blocks {
            // A key that is no block's is not ours to delete. The blocks of an open upload are not garbage yet; were they
            // marked, the sweep would find out.
            let Some(name) = BlockName::of_key(self.volume_id, &entry.key) else {
                continue;
            };
            if !live.contains(&name) && !loaded.state.open.contains(&name.writer) {
                report.marked_blocks += 1;
                report.marked_bytes += entry.size_bytes;
                garbage.push(name);
            }
        }
        if garbage.is_empty() {
            return Ok(());
        }
        let name = format!("{}-{}", loaded.state.epoch + 1, self.now.as_millisecond());
        let key = candidates_key(self.volume_id, &name);
        match self
            .backups
            .store
            .put_if_absent(&key, candidates::encode(&garbage), GC)
            .await
        {
            // A list of this name from a collection that ended here: it is as good.
            Ok(_) | Err(PutError::Exists { .. }) => {}
            Err(source) => {
                return Err(GcError::Put {
                    volume_id: self.volume_id.to_owned(),
                    source,
                });
            }
        }
        let marked_at = self.now;
        let next = State {
            candidates: Some(Candidates { name, marked_at }),
            ..loaded.state.clone()
        };
        match state::swap(&*self.backups.store, self.volume_id, &loaded, next).await? {
            Swap::Done => {
                report.waiting = Some(Waiting::Grace {
                    until: self.due(marked_at),
                })
            }
            Swap::Stale => {
                // The list is a stray now; the next mark removes it.
                report.marked_blocks = 0;
                report.marked_bytes = 0;
                report.waiting = Some(Waiting::Changed);
            }
        }
        Ok(())
    }

    /// Deletes what was marked. Returns whether it is dealt with.
    async fn sweep(
        &self,
        loaded: Loaded,
        marked: &Candidates,
        report: &mut GcReport,
    ) -> Result<bool, GcError> {
        let until = self.due(marked.marked_at);
        if self.now < until {
            report.waiting = Some(Waiting::Grace { until });
            return Ok(false);
        }
        if !loaded.state.open.is_empty() {
            report.waiting = Some(Waiting::Uploads {
                snapshot_ids: loaded.state.open,
            });
            return Ok(false);
        }
        let garbage = self.candidates(&marked.name).await?;
        if let Some(garbage) = garbage {
            let live = self.live_blocks().await?;
            // From here on no upload can come to name any of them: see the head of this file.
            let same = loaded.state.clone();
            match state::swap(&*self.backups.store, self.volume_id, &loaded, same).await? {
                Swap::Done => {}
                Swap::Stale => {
                    report.waiting = Some(Waiting::Changed);
                    return Ok(false);
                }
            }
            for name in garbage {
                if live.contains(&name) {
                    report.kept_blocks += 1;
                } else {
                    self.delete(&name.key(self.volume_id)).await?;
                    report.swept_blocks += 1;
                }
            }
        }
        let forget = |state: &mut State| {
            if state.candidates.as_ref() == Some(marked) {
                state.candidates = None;
            }
        };
        state::update(&*self.backups.store, self.volume_id, forget).await?;
        self.delete(&candidates_key(self.volume_id, &marked.name)).await?;
        Ok(true)
    }

    /// Reads a list of candidates; `None` when it is gone or damaged, which a new mark makes good.
    async fn candidates(&self, name: &str) -> Result<Option<Vec<BlockName>>, GcError> {
        match self
            .backups
            .store
            .get(&candidates_key(self.volume_id, name), None, GC)
            .await
        {
            Ok(object) => Ok(candidates::decode(&object.bytes)),
            Err(error) => match classify(error) {
                Ok(Damage { .. }) => Ok(None),
                Err(source) => Err(GcError::Get {
                    volume_id: self.volume_id.to_owned(),
                    source,
                }),
            },
        }
    }

    /// Reads every manifest of the volume, and returns the blocks they name.
    async fn live_blocks(&self) -> Result<BTreeSet<BlockName>, GcError> {
        let mut live = BTreeSet::new();
        let listed = self.manifests().await?.into_iter().map(|(snapshot, _)| snapshot);
        let snapshots: BTreeSet<SnapshotRef> = listed.chain(self.kept.iter().cloned()).collect();
        for snapshot in snapshots {
            match any_manifest(self.backups, &snapshot).await {
                Ok(Decoded::Complete(manifest)) => {
                    let names = manifest.data_blocks();
                    live.extend(names.map(|(_, address, writer)| BlockName {
                        writer: writer.to_owned(),
                        address,
                    }));
                }
                // Deleted, before or since the listing.
                Ok(Decoded::Void { .. }) => {}
                Err(ManifestError::NotFound { .. }) if !self.kept.contains(&snapshot) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(live)
    }

    async fn manifests(&self) -> Result<Vec<(SnapshotRef, Entry)>, GcError> {
        let entries = self.list(&manifests_prefix(self.volume_id)).await?;
        let named = entries
            .into_iter()
            .filter_map(|entry| Some((SnapshotRef::of_manifest_key(&entry.key)?, entry)));
        Ok(named.collect())
    }

    /// Removes void manifests that have stood long enough.
    async fn remove_tombstones(&self, report: &mut GcReport) -> Result<(), GcError> {
        for (snapshot, entry) in self.manifests().await? {
            if entry.size_bytes != super::manifest::VOID_OBJECT_BYTES {
                continue;
            }
            let Ok(Decoded::Void { voided_at }) = any_manifest(self.backups, &snapshot).await else {
                continue;
            };
            if self.now >= later(voided_at, self.policy.tombstone_grace) {
                self.delete(&entry.key).await?;
                report.tombstones += 1;
            }
        }
        Ok(())
    }

    /// Removes lists that no register names, left by collections that ended in between.
    async fn remove_stray_lists(&self, state: &State) -> Result<(), GcError> {
        for entry in self.list(&candidates_prefix(self.volume_id)).await? {
            let kept = state
                .candidates
                .as_ref()
                .map(|marked| candidates_key(self.volume_id, &marked.name));
            if kept.as_ref() != Some(&entry.key) {
                self.delete(&entry.key).await?;
            }
        }
        Ok(())
    }

    fn due(&self, marked_at: Timestamp) -> Timestamp {
        later(marked_at, self.policy.grace)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, GcError> {
        let listed = list_all(&*self.backups.store, prefix, MANIFEST).await;
        listed.map_err(|source| GcError::List {
            volume_id: self.volume_id.to_owned(),
            source,
        })
    }

    async fn delete(&self, key: &objstore::Key) -> Result<(), GcError> {
        let deleted = self.backups.store.delete(key, GC).await;
        deleted.map_err(|source| GcError::Delete {
            volume_id: self.volume_id.to_owned(),
            source,
        })
    }
}

/// `time` and `after`, or the end of time.
fn later(time: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    time.checked_add(after).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
