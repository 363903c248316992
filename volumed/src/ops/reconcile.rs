//! Catalog and pools side by side: what one knows and the other does not.

use std::collections::BTreeSet;

use super::{Context, chain};
use crate::pool::SliceId;
use crate::volume::VolumeState;

/// A slice that only one of catalog and pool knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// In which pool.
    pub pool: String,
    /// Its name there.
    pub slice: String,
}

/// Returns the slices that no volume and no running snapshot owns. An unfinished slice of a running operation is owned.
pub async fn strays(ctx: &Context) -> Vec<Stray> {
    let known = ctx.catalog.transact(|tx| {
        let volumes = tx.existing_volumes()?.into_iter().map(|v| SliceId::Volume(v.id));
        let captures = tx
            .snapshots()?
            .into_iter()
            .filter(|s| s.pool.is_some())
            .map(|s| SliceId::Capture(s.id));
        Ok(volumes.chain(captures).collect::<BTreeSet<_>>())
    });
    let known = match known.await {
        Ok(known) => known,
        Err(error) => {
            tracing::error!(error = %chain(&error), "strays not looked for");
            return Vec::new();
        }
    };
    let mut strays = Vec::new();
    for pool in ctx.pools.all() {
        match pool.list().await {
            Ok(found) => {
                let unknown = found.into_iter().filter(|f| !known.contains(&f.id));
                strays.extend(unknown.map(|f| Stray {
                    pool: pool.name().to_owned(),
                    slice: f.id.name(),
                }));
            }
            Err(error) => tracing::error!(pool = pool.name(), error = %chain(&error), "pool not listed"),
        }
    }
    strays
}

/// Returns the slices of volumes that their pools do not have. Volumes that are being made or removed may lack theirs.
pub async fn lost(ctx: &Context) -> Vec<Stray> {
    let volumes = match ctx.catalog.transact(|tx| Ok(tx.existing_volumes()?)).await {
        Ok(volumes) => volumes,
        Err(error) => {
            tracing::error!(error = %chain(&error), "lost slices not looked for");
            return Vec::new();
        }
    };
    let stands = |state| {
        matches!(
            state,
            VolumeState::Created
                | VolumeState::Extending
                | VolumeState::Restoring
                | VolumeState::SchedulingDestroy
                | VolumeState::PendingDestroy
                | VolumeState::Recovering
        )
    };
    let mut lost = Vec::new();
    for pool in ctx.pools.all() {
        let found: BTreeSet<SliceId> = match pool.list().await {
            Ok(found) => found.into_iter().filter(|f| f.complete).map(|f| f.id).collect(),
            // Reported by whoever looks for strays.
            Err(_) => continue,
        };
        let here = volumes
            .iter()
            .filter(|v| v.pool == pool.name() && stands(v.state));
        let ids = here.map(|v| SliceId::Volume(v.id.clone()));
        lost.extend(ids.filter(|id| !found.contains(id)).map(|id| Stray {
            pool: pool.name().to_owned(),
            slice: id.name(),
        }));
    }
    lost
}
