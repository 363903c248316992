//! What is not as it should be, for a person to see to: looked at when asked.

use serde::Serialize;

use super::{Service, refusal};
use crate::error::Refusal;
use crate::ops::{self, chain};
use crate::snapshot::SnapshotState;
use crate::volume::{Volume, VolumeState};

/// A volume that cannot be used where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stranded {
    /// The volume.
    pub volume_id: String,
    /// Its pool.
    pub pool: String,
}

/// A snapshot of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedSnapshot {
    /// The snapshot.
    pub snapshot_id: String,
    /// Its volume.
    pub volume_id: String,
    /// The object, and what is wrong with it.
    pub damage: String,
}

/// A volume of this host that is not where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotMounted {
    /// The volume.
    pub volume_id: String,
    /// Its directory.
    pub host_path: String,
    /// What is wrong.
    pub why: String,
}

/// Something in a pool that is none of its slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignFile {
    /// The pool.
    pub pool: String,
    /// Its name there.
    pub name: String,
}

/// What is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Volumes whose slice is not in their pool.
    pub without_slice: Vec<Stranded>,
    /// Volumes of pools that are not configured.
    pub without_pool: Vec<Stranded>,
    /// Snapshots that do not restore.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
    /// Volumes of this host that are not mounted.
    pub not_mounted: Vec<NotMounted>,
    /// What others put into pools.
    pub foreign_files: Vec<ForeignFile>,
}

impl Service {
    /// Looks for what is not as it should be. Pools that cannot be used are left out: their state says so.
    ///
    /// # Errors
    /// 503 when the catalog does not answer.
    pub async fn inspect(&self) -> Result<Inspection, Refusal> {
        let ctx = &self.ctx;
        let records = ctx
            .catalog
            .transact(|tx| Ok((tx.existing_volumes()?, tx.snapshots()?)));
        let (volumes, snapshots) = records.await.map_err(refusal)?;
        let without_pool = volumes
            .iter()
            .filter(|volume| ctx.pools.get(&volume.pool).is_none())
            .map(|volume| Stranded {
                volume_id: volume.id.to_string(),
                pool: volume.pool.clone(),
            });
        let not_mounted = self.not_mounted(&volumes).await;
        let without_slice = ops::lost(ctx).await.into_iter().map(|lost| Stranded {
            volume_id: lost.volume_id.to_string(),
            pool: lost.pool,
        });
        let damaged = snapshots
            .into_iter()
            .filter(|s| s.state == SnapshotState::Created);
        let damaged = damaged.filter_map(|snapshot| {
            Some(DamagedSnapshot {
                snapshot_id: snapshot.id.to_string(),
                volume_id: snapshot.volume_id.to_string(),
                damage: snapshot.damage?,
            })
        });
        let mut foreign_files = Vec::new();
        for pool in ctx.pools.all().filter(|pool| pool.is_open()) {
            match pool.foreign().await {
                Ok(names) => foreign_files.extend(names.into_iter().map(|name| ForeignFile {
                    pool: pool.name().to_owned(),
                    name,
                })),
                Err(error) => tracing::warn!(pool = pool.name(), error = %chain(&error), "pool not listed"),
            }
        }
        Ok(Inspection {
            without_slice: without_slice.collect(),
            without_pool: without_pool.collect(),
            damaged_snapshots: damaged.collect(),
            not_mounted,
            foreign_files,
        })
    }

    async fn not_mounted(&self, volumes: &[Volume]) -> Vec<NotMounted> {
        let mut found = Vec::new();
        let Some(host) = &self.ctx.host else {
            return found;
        };
        // What is under way comes to an end, or waits for a pool that is told of.
        let running = self.running().await.unwrap_or_default();
        let still = volumes.iter().filter(|volume| {
            volume.state == VolumeState::Created && !running.contains_key(volume.id.as_str())
        });
        for volume in still {
            let Some(path) = &volume.host_path else { continue };
            let Err(error) = host.usage(path).await else {
                continue;
            };
            found.push(NotMounted {
                volume_id: volume.id.to_string(),
                host_path: path.display().to_string(),
                why: chain(&error),
            });
        }
        found
    }
}
