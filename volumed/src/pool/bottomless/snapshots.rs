//! Snapshots of bottomless volumes: points in their own disk's history, which the bucket keeps.

use std::sync::Arc;

use async_trait::async_trait;
use daemon::unix_http::CallError;

use super::{BottomlessPool, NAME, later, unfit, volume};
use crate::disk::{Family, FamilyError, Keyed, Settings};
use crate::ops::chain;
use crate::pool::{DiskSnapshots, PoolError, Slice};
use crate::volume::VolumeId;

impl BottomlessPool {
    async fn family(&self, id: &VolumeId) -> Result<(Family, Keyed), PoolError> {
        let (cluster_key, wrapped_key) = self.keys.of(id).await.map_err(later)?;
        let keyed = Keyed {
            volume: id.clone(),
            wrapped_key,
        };
        Ok((Family::new(Arc::clone(&self.store), cluster_key), keyed))
    }

    /// Says whether HEAD has a snapshot.
    async fn has(&self, id: &VolumeId, name: &str) -> Result<bool, PoolError> {
        let (family, _) = self.family(id).await?;
        let snapshots = family.snapshots(id).await;
        let snapshots = snapshots.map_err(|error| later(chain(&error)))?;
        Ok(snapshots.iter().any(|snapshot| snapshot.name == name))
    }
}

#[async_trait]
impl DiskSnapshots for BottomlessPool {
    async fn take(&self, id: &VolumeId, name: &str) -> Result<u64, PoolError> {
        let status = self.serving(id).await?;
        let live_bytes = status.figures.map_or(0, |figures| figures.live_bytes);
        // An earlier call may have come so far and not have lived to say so.
        if !self.has(id, name).await? {
            let dir = self.dir(id);
            match self.processes.snapshot(&dir, name).await {
                Ok(()) => {}
                Err(CallError::Status { status: 409, .. }) => {
                    return Err(unfit(format!(
                        "volume {id} has as many snapshots as a disk can keep; delete some of them"
                    )));
                }
                Err(error) => return Err(later(chain(&error))),
            }
        }
        Ok(live_bytes)
    }

    async fn remove(&self, id: &VolumeId, name: &str) -> Result<(), PoolError> {
        if !self.has(id, name).await? {
            return Ok(());
        }
        self.serving(id).await?;
        let dir = self.dir(id);
        self.processes.remove_snapshot(&dir, name).await.map_err(later)
    }

    async fn fork(&self, id: &VolumeId, name: &str, target: &Slice) -> Result<(), PoolError> {
        let fork = volume(&target.id)?;
        if self.is_made(fork) {
            return Ok(());
        }
        let local = self.prepare(fork)?;
        let (family, parent) = self.family(id).await?;
        let (_, keyed) = self.family(fork).await?;
        let size_bytes = match family.fork(&parent, name, &keyed).await {
            Ok(size_bytes) => size_bytes,
            Err(FamilyError::Fork(why)) => return Err(unfit(why.to_string())),
            Err(error) => return Err(later(chain(&error))),
        };
        if size_bytes > target.size_bytes {
            return Err(PoolError::WrongSize {
                pool: NAME.to_owned(),
                slice: fork.to_string(),
                found_bytes: size_bytes,
                expected_bytes: target.size_bytes,
            });
        }
        let settings = Settings::new(fork.clone(), size_bytes, keyed.wrapped_key, local);
        self.is_whole(&settings).await
    }
}
