//! Slices that nobody knows: adopted when it is known whose they are, listed when not, never touched.

use serde::Serialize;

use super::{Service, refusal};
use crate::bulk::is_zero;
use crate::catalog::NewEvent;
use crate::error::Refusal;
use crate::ops::{self, Home, chain};
use crate::pool::{Found, Slice};
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{Volume, VolumeId};

/// What is read of a slice to see whether anything is on it.
const HEAD_LEN: usize = 1 << 20;

/// A slice of ours that no record knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnknownSlice {
    /// Its pool.
    #[serde(skip)]
    pub pool: String,
    /// Its name there.
    pub slice: String,
    /// Why it is not adopted, and what to do.
    pub reason: String,
}

impl Service {
    /// Looks at the slices that no record knows: volumes whose newest snapshot says whose they are get a record again,
    /// the others are listed. The catalog must know the bucket's snapshots.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn adopt_slices(&self) -> Result<(), Refusal> {
        let mut left = Vec::new();
        for (pool, found) in ops::unknown(&self.ctx).await {
            let name = found.id.name();
            match self.adopt_slice(&pool, &found).await? {
                Ok(id) => tracing::warn!(pool, volume_id = %id, "volume found in a pool and adopted"),
                Err(reason) => {
                    self.tell_of_unknown(&pool, &name, &reason).await?;
                    let slice = name;
                    left.push(UnknownSlice { pool, slice, reason });
                }
            }
        }
        *self.unknown() = left;
        Ok(())
    }

    /// Returns the slices of a pool that no record knows, as they were last looked at.
    pub fn unknown_slices(&self, pool: &str) -> Vec<UnknownSlice> {
        self.unknown()
            .iter()
            .filter(|slice| slice.pool == pool)
            .cloned()
            .collect()
    }

    pub(crate) fn knows_of_unknown_slices(&self) -> bool {
        !self.unknown().is_empty()
    }

    async fn adopt_slice(&self, pool: &str, found: &Found) -> Result<Result<VolumeId, String>, Refusal> {
        let ctx = &self.ctx;
        let home = Home {
            pool: pool.to_owned(),
            region: ctx.settings.region.clone(),
            zone: ctx.settings.zones.first().cloned().unwrap_or_default(),
            now: ctx.clock.now(),
        };
        let (record, newest) = match &found.id {
            crate::pool::SliceId::Volume(id) => self.known_of(id.clone()).await?,
            crate::pool::SliceId::Capture(_) => (None, None),
        };
        let volume = match ops::adopted(&home, found, record.as_ref(), newest.as_ref()) {
            Ok(volume) => volume,
            Err(why) => return Ok(Err(why)),
        };
        // Its key must open it, before anybody is told that it is here.
        let formatted = match self.has_content(&volume).await {
            Ok(content) => content || volume.formatted,
            Err(why) => return Ok(Err(why)),
        };
        let volume = Volume { formatted, ..volume };
        let (id, now) = (volume.id.clone(), home.now);
        let message = format!(
            "volume was found in pool {pool} without a record; snapshot {} says whose it is",
            newest.map(|s| s.id.to_string()).unwrap_or_default()
        );
        let kept = ctx.catalog.transact(move |tx| {
            if tx.volume(&volume.id)?.is_some() {
                return Ok(());
            }
            tx.put_volume(&volume)?;
            Ok(tx.event(&NewEvent {
                at: now,
                subject: volume.id.to_string(),
                kind: "adopted",
                message,
            })?)
        });
        kept.await.map_err(refusal)?;
        Ok(Ok(id))
    }

    async fn known_of(&self, id: VolumeId) -> Result<(Option<Volume>, Option<Snapshot>), Refusal> {
        let known = self
            .ctx
            .catalog
            .transact(move |tx| Ok((tx.volume(&id)?, tx.snapshots_of(&id)?)));
        let (volume, snapshots) = known.await.map_err(refusal)?;
        let mut finished = snapshots
            .into_iter()
            .filter(|s| s.state == SnapshotState::Created);
        // They come oldest first.
        Ok((volume, finished.next_back()))
    }

    /// Opens a slice that is to be adopted, and says whether there is anything at its beginning.
    async fn has_content(&self, volume: &Volume) -> Result<bool, String> {
        let slice: Slice = self.ctx.slice_of(volume)?;
        let pool = self.pool(&volume.pool).map_err(|e| e.to_string())?;
        let read = async {
            let source = pool.open_source(&slice).await.map_err(|e| chain(&e))?;
            source.read_at(0, HEAD_LEN).await.map_err(|e| e.to_string())
        };
        let head = read.await;
        pool.deactivate(&slice).await.map_err(|e| chain(&e))?;
        Ok(!is_zero(&head?))
    }

    /// Told once, whatever restarts in between.
    async fn tell_of_unknown(&self, pool: &str, slice: &str, reason: &str) -> Result<(), Refusal> {
        let setting = format!("unknown_slice:{pool}/{slice}");
        let (subject, now) = (pool.to_owned(), self.ctx.clock.now());
        let reason = reason.to_owned();
        let message =
            format!("slice {slice} of pool {pool} belongs to no known volume or snapshot: {reason}");
        let told = self.ctx.catalog.transact(move |tx| {
            if tx.setting(&setting)?.is_some_and(|told| told == reason) {
                return Ok(());
            }
            tracing::warn!(message, "slice left alone");
            tx.event(&NewEvent {
                at: now,
                subject,
                kind: "slice_unknown",
                message,
            })?;
            Ok(tx.set_setting(&setting, &reason)?)
        });
        told.await.map_err(refusal)
    }
}
