//! The configured pools: opened at the start, looked after all the while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crashsafe::Disk;
use futures_util::future::join_all;
use objstore::ObjectStore;
use tokio_util::sync::CancellationToken;

use super::ServeError;
use crate::bulk::{Images, Workers};
use crate::catalog::{Catalog, TxError};
use crate::command::{Program, SystemCommands};
use crate::config::{Config, LvmConfig, PoolConfig};
use crate::disk::VolumeFacts;
use crate::keys::{ClusterKey, WrappedKey};
use crate::lvm::group::VolumeGroup;
use crate::ops::Context;
use crate::pool::bottomless::{BottomlessConfig, BottomlessPool, DiskKeys};
use crate::pool::file::{FilePool, FilePoolConfig, Known};
use crate::pool::lvm::{LvmPool, LvmPoolConfig};
use crate::pool::{Capacity, Pool, PoolError, Shed};
use crate::random::Random;
use crate::service::Service;
use crate::volume::{Volume, VolumeId, VolumeState};

/// What pools are opened with.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) images: Images,
    pub(super) workers: Workers,
    pub(super) random: Arc<dyn Random>,
    pub(super) catalog: Catalog,
}

impl Opener {
    /// Opens the pools in order. Those of one volume group share it.
    pub(super) async fn open_all(&self, configs: Vec<PoolConfig>) -> Result<Vec<Arc<dyn Pool>>, ServeError> {
        let mut groups: BTreeMap<String, Arc<VolumeGroup>> = BTreeMap::new();
        let mut pools: Vec<Arc<dyn Pool>> = Vec::new();
        for config in configs {
            let pressure = config.pressure().unwrap_or_default();
            let capacity = Capacity {
                reserve_bytes: config.reserve_bytes,
                overcommit_ratio: config.overcommit_ratio,
            };
            let Some(lvm) = config.lvm else {
                let file = FilePoolConfig {
                    name: config.name,
                    path: config.path,
                    allocation: config.allocation,
                    capacity,
                    pressure,
                };
                let known = known(&self.catalog, &file.name).await?;
                let (disk, random) = (Arc::clone(&self.disk), Arc::clone(&self.random));
                let (images, workers) = (self.images.clone(), self.workers.clone());
                let pool = FilePool::closed(file, known, disk, images, workers, random);
                if let Err(error) = pool.try_open().await {
                    // As below.
                    tracing::error!(pool = pool.name(), error = %crate::ops::chain(&error), "pool not opened");
                }
                pools.push(Arc::new(pool));
                continue;
            };
            let group = match groups.get(&lvm.vg) {
                Some(group) => Arc::clone(group),
                None => Arc::new(group(&config.name, &lvm)?),
            };
            groups.insert(lvm.vg.clone(), Arc::clone(&group));
            let settings = LvmPoolConfig {
                name: config.name,
                kind: lvm.kind(),
                encryption: lvm.encryption,
                capacity,
                pressure,
            };
            let (disk, images) = (Arc::clone(&self.disk), self.images.clone());
            let pool = LvmPool::closed(settings, group, disk, images, self.workers.clone());
            if let Err(error) = pool.try_open().await {
                // The others are served; this one is tried again all the while.
                tracing::error!(pool = pool.name(), error = %crate::ops::chain(&error), "pool not opened");
            }
            pools.push(Arc::new(pool));
        }
        Ok(pools)
    }
}

/// Name of the catalog's setting that holds the id in the marker of a pool's place.
fn setting(pool: &str) -> String {
    format!("pool_place:{pool}")
}

/// Returns what the catalog knows of the place of a pool.
async fn known(catalog: &Catalog, pool: &str) -> Result<Known, TxError> {
    let pool = pool.to_owned();
    let known = catalog.transact(move |tx| {
        let volumes = tx.existing_volumes()?;
        let stands = |v: &Volume| v.pool == pool && v.state != VolumeState::Creating;
        Ok(Known {
            id: tx.setting(&setting(&pool))?,
            has_volumes: volumes.iter().any(stands),
        })
    });
    known.await
}

/// Enters the places of pools that were used for the first time.
pub(super) async fn note_places(context: &Context) -> Result<(), TxError> {
    for pool in context.pools.all() {
        let Some(place) = pool.place() else { continue };
        let setting = setting(pool.name());
        let noted = context.catalog.transact(move |tx| {
            if tx.setting(&setting)?.as_ref() != Some(&place) {
                tx.set_setting(&setting, &place)?;
            }
            Ok(())
        });
        noted.await?;
    }
    Ok(())
}

/// What the catalog and the key file say of a volume's key.
#[derive(Debug)]
struct CatalogKeys {
    catalog: Catalog,
    disk: Arc<dyn Disk>,
    cluster_key: PathBuf,
}

#[async_trait]
impl DiskKeys for CatalogKeys {
    async fn of(&self, volume: &VolumeId) -> Result<(ClusterKey, WrappedKey), String> {
        let wanted = volume.clone();
        let found = self.catalog.transact(move |tx| Ok(tx.volume(&wanted)?));
        let record = found.await.map_err(|error| crate::ops::chain(&error))?;
        let record = record.ok_or_else(|| format!("volume {volume} is not in the catalog"))?;
        let key = ClusterKey::load(&*self.disk, &self.cluster_key);
        let key = key.map_err(|error| crate::ops::chain(&error))?;
        let key = key.ok_or_else(|| format!("{} is not there", self.cluster_key.display()))?;
        Ok((key, record.wrapped_key))
    }

    async fn facts(&self, volume: &VolumeId) -> Result<Option<VolumeFacts>, String> {
        let wanted = volume.clone();
        let found = self
            .catalog
            .transact(move |tx| Ok((tx.volume(&wanted)?, tx.snapshots_of(&wanted)?)));
        let (record, snapshots) = found.await.map_err(|error| crate::ops::chain(&error))?;
        let here = record.filter(Volume::exists);
        Ok(here.map(|volume| VolumeFacts::new(&volume, snapshots)))
    }
}

/// The pool of bottomless volumes; none where volumed has no configuration file that their processes could read.
pub(super) fn bottomless(
    config: &Config,
    disk: &Arc<dyn Disk>,
    store: &Arc<dyn ObjectStore>,
    catalog: &Catalog,
) -> Option<Arc<dyn Pool>> {
    let config_file = std::path::absolute(config.file.as_ref()?).ok()?;
    let settings = BottomlessConfig {
        program: std::env::current_exe().ok()?,
        config_file,
        data_dir: config.data_dir.clone(),
        ring_bytes: config.bottomless.ring_bytes,
        cache_bytes: config.bottomless.cache_bytes,
        reserve_bytes: config.bottomless.reserve_bytes,
    };
    let keys = CatalogKeys {
        catalog: catalog.clone(),
        disk: Arc::clone(disk),
        cluster_key: config.cluster_key(),
    };
    let pool = BottomlessPool::new(settings, Arc::clone(disk), Arc::clone(store), Arc::new(keys));
    Some(Arc::new(pool))
}

/// Finds the programs, and says now which one is missing.
fn group(pool: &str, lvm: &LvmConfig) -> Result<VolumeGroup, PoolError> {
    let commands = SystemCommands::find(lvm.udev);
    let mut needed = vec![Program::Lvm, Program::Dmsetup];
    if lvm.encryption {
        needed.push(Program::Cryptsetup);
    }
    if lvm.thin_pool.is_some() {
        needed.push(Program::ThinDelta);
    }
    for program in needed {
        commands.path(program).map_err(|source| PoolError::Unfit {
            pool: pool.to_owned(),
            why: source.to_string(),
        })?;
    }
    Ok(VolumeGroup::new(lvm.group(), Arc::new(commands)))
}

/// Looks after the pools until `shutdown`, each at its own pace: one that waits for something must not keep a thin pool from
/// growing in time.
pub(super) async fn tend_until(service: Service, shutdown: CancellationToken) {
    let pools = service.context().pools.all();
    join_all(pools.map(|pool| tend_one_until(&service, &**pool, &shutdown))).await;
}

async fn tend_one_until(service: &Service, pool: &dyn Pool, shutdown: &CancellationToken) {
    let context = service.context();
    loop {
        let was_open = pool.is_open();
        let shed = pool.tend(tokio::time::Instant::now().into_std()).await;
        if !was_open && pool.is_open() {
            if let Err(error) = note_places(context).await {
                tracing::warn!(error = %crate::ops::chain(&error), "place of a pool not noted");
            }
            super::report_strays(context).await;
            super::report_lost(context).await;
            service.remount().await;
            service.go_on();
            if service.adopted_once()
                && let Err(why) = service.adopt_slices().await
            {
                tracing::warn!(why = %why, "slices of the pool not looked at");
            }
        }
        if !shed.is_empty() {
            crate::ops::shed(context, pool.name(), shed.contains(&Shed::Captures)).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pool.tend_every()) => {}
        }
    }
}
