//! Catalog and pools side by side: what one knows and the other does not.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::newer_pool::{Amends, Records, amends};
use super::{Context, chain};
use crate::catalog::{NewEvent, Tx, TxError};
use crate::pool::{Found, SliceId};
use crate::volume::{VolumeId, VolumeState};

/// A volume of the catalog whose slice its pool does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The volume.
    pub volume_id: VolumeId,
    /// In which pool it should be.
    pub pool: String,
}

/// A slice that only the pool knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// In which pool.
    pub pool: String,
    /// Its name there.
    pub slice: String,
}

/// Returns the slices that no volume and no running snapshot owns. An unfinished slice of a running operation is owned.
pub async fn strays(ctx: &Context) -> Vec<Stray> {
    let unknown = unknown(ctx).await.into_iter();
    let stray = |(pool, found): (String, Found)| Stray {
        pool,
        slice: found.id.name(),
    };
    unknown.map(stray).collect()
}

/// Returns the slices that [`strays`] names, each with its pool.
pub async fn unknown(ctx: &Context) -> Vec<(String, Found)> {
    // Operations go on meanwhile: what they make is known afterwards, what they remove was known before.
    let Some(mut known) = owned(ctx).await else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for pool in ctx.pools.all().filter(|pool| pool.is_open()) {
        match pool.list().await {
            Ok(found) => all.extend(found.into_iter().map(|f| (pool.name().to_owned(), f))),
            Err(error) => tracing::error!(pool = pool.name(), error = %chain(&error), "pool not listed"),
        }
    }
    let Some(since) = owned(ctx).await else {
        return Vec::new();
    };
    known.extend(since);
    all.retain(|(_, found)| !known.contains(&found.id));
    all
}

/// Returns the slices that volumes and captures of the catalog own.
async fn owned(ctx: &Context) -> Option<BTreeSet<SliceId>> {
    let owned = ctx.catalog.transact(|tx| {
        let volumes = tx.existing_volumes()?.into_iter().map(|v| SliceId::Volume(v.id));
        let captures = tx
            .snapshots()?
            .into_iter()
            .filter(|s| s.pool.is_some())
            .map(|s| SliceId::Capture(s.id));
        Ok(volumes.chain(captures).collect::<BTreeSet<_>>())
    });
    match owned.await {
        Ok(owned) => Some(owned),
        Err(error) => {
            tracing::error!(error = %chain(&error), "owners of slices not known");
            None
        }
    }
}

/// Brings a catalog that is older than its pools up to what their slices show; called before operations are resumed.
///
/// # Errors
/// The catalog's.
pub async fn amend(ctx: &Context) -> Result<(), TxError> {
    for pool in ctx.pools.all().filter(|pool| pool.is_open()) {
        let found = match pool.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(pool = pool.name(), error = %chain(&error), "pool not compared with the catalog");
                continue;
            }
        };
        let (name, now) = (pool.name().to_owned(), ctx.clock.now());
        let amended = ctx.catalog.transact(move |tx| {
            let records = Records {
                volumes: tx.volumes()?,
                snapshots: tx.snapshots()?,
                running: tx.running_operations()?,
            };
            match amends(&name, &records, &found) {
                Some(amends) => apply(tx, &name, amends, now),
                None => Ok(()),
            }
        });
        amended.await?;
    }
    Ok(())
}

fn apply(tx: &Tx<'_>, pool: &str, amends: Amends, now: Timestamp) -> Result<(), TxError> {
    let event = |subject: &str, message: String| {
        tracing::error!(pool, message);
        NewEvent {
            at: now,
            subject: subject.to_owned(),
            kind: "catalog_older",
            message,
        }
    };
    for (volume, message) in amends.volumes {
        tx.put_volume(&volume)?;
        tx.event(&event(volume.id.as_str(), message))?;
    }
    for id in amends.abandoned {
        tx.abandon_operation(&id, "the catalog was restored from a backup", now)?;
    }
    for id in amends.forgotten {
        tx.forget_snapshot(&id)?;
    }
    let message = format!(
        "the catalog is older than pool {pool}, as after its restore from a backup: what the pool shows was put right, \
         nothing in the pool was touched"
    );
    Ok(tx.event(&event(pool, message))?)
}

/// Returns the volumes whose slices their pools do not have. Volumes that are being made or removed may lack theirs.
pub async fn lost(ctx: &Context) -> Vec<Lost> {
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
        let here = here.filter(|v| !found.contains(&SliceId::Volume(v.id.clone())));
        lost.extend(here.map(|v| Lost {
            volume_id: v.id.clone(),
            pool: pool.name().to_owned(),
        }));
    }
    lost
}
