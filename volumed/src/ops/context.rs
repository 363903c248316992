use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crashsafe::Disk;
use daemon::wall_clock::WallClock;
use objstore::ObjectStore;
use tokio::sync::OwnedMutexGuard;

use super::StepError;
use crate::backup::{Backups, SnapshotRef};
use crate::bulk::{Layout, Workers};
use crate::catalog::{Catalog, NewEvent};
use crate::host::HostMounts;
use crate::keys::{ClusterKey, DataKey, WrappedKey};
use crate::pool::{Pool, Slice, SliceId};
use crate::random::Random;
use crate::runner_client::MachineRunner;
use crate::scrub::ScrubSettings;
use crate::snapshot::Snapshot;
use crate::volume::{SizeGb, SnapshotId, Volume, VolumeId};

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's region code.
    pub region: String,
    /// Its zones, 4 hexadecimal digits each; at least one.
    pub zones: Vec<String>,
    /// Largest volume.
    pub size_max: SizeGb,
    /// Time between scheduled snapshots.
    pub snapshot_interval: Duration,
    /// How long a deleted volume can be recovered.
    pub destroy_grace: Duration,
    /// How long an unreferenced backup block is kept.
    pub gc_grace: Duration,
    /// Time between garbage collections.
    pub gc_interval: Duration,
    /// How long the wall clock must have been steady before anything is removed on its word.
    pub clock_settle: Duration,
    /// Time between looks at what is due.
    pub sweep_interval: Duration,
    /// How backups are read back.
    pub scrub: ScrubSettings,
    /// How long a request waits for its operation before it answers with what there is.
    pub answer_within: Duration,
}

/// The pools by name; the first configured one is the default.
#[derive(Clone, Debug)]
pub struct Pools {
    default: String,
    by_name: BTreeMap<String, Arc<dyn Pool>>,
}

impl Pools {
    /// Collects pools; the first is the default.
    ///
    /// # Panics
    /// When there is none; the configuration refuses that.
    pub fn new(pools: Vec<Arc<dyn Pool>>) -> Self {
        let default = pools.first().expect("at least one pool").name().to_owned();
        Self {
            default,
            by_name: pools.into_iter().map(|p| (p.name().to_owned(), p)).collect(),
        }
    }

    /// Returns the default pool's name.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// Returns a pool.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Pool>> {
        self.by_name.get(name)
    }

    /// Returns every pool in order of name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Pool>> {
        self.by_name.values()
    }
}

/// The cluster key, replaceable while nothing was sealed with it.
#[derive(Debug)]
pub struct KeyRing {
    key: RwLock<ClusterKey>,
    /// Where it is kept.
    pub path: PathBuf,
}

impl KeyRing {
    /// Holds `key`, kept at `path`.
    pub fn new(key: ClusterKey, path: PathBuf) -> Self {
        Self {
            key: RwLock::new(key),
            path,
        }
    }

    /// Returns the key.
    pub fn get(&self) -> ClusterKey {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the key.
    pub fn set(&self, key: ClusterKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// One lock a volume: held while its bytes are copied, grown or removed, and while it changes hands.
///
/// In memory only: what a crash interrupts takes the lock again when it resumes.
#[derive(Debug, Default)]
pub struct Locks {
    by_volume: Mutex<HashMap<VolumeId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    /// Waits for the volume's lock.
    pub async fn lock(&self, id: &VolumeId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.by_volume.lock().unwrap_or_else(PoisonError::into_inner);
            // Locks that nobody holds or waits for are dropped now and then, so the map stays as small as the work.
            if locks.len() > 1000 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }
}

/// Everything that operations work on.
#[derive(Debug)]
pub struct Context {
    /// Records.
    pub catalog: Catalog,
    /// Bytes.
    pub pools: Pools,
    /// Small durable files (the cluster key).
    pub disk: Arc<dyn Disk>,
    /// Backups.
    pub store: Arc<dyn ObjectStore>,
    /// The key that wraps data keys.
    pub keys: KeyRing,
    /// Wall time.
    pub clock: Arc<dyn WallClock>,
    /// Ids and keys.
    pub random: Arc<dyn Random>,
    /// Threads for ciphers and disk calls.
    pub workers: Workers,
    /// The daemon that runs machines, if there is one.
    pub runner: Option<Arc<dyn MachineRunner>>,
    /// The host's devices and mounts, where volumes may be mounted on it.
    pub host: Option<Arc<dyn HostMounts>>,
    /// Per-volume locks.
    pub locks: Locks,
    /// What the operator decided.
    pub settings: Settings,
}

impl Context {
    /// Returns the handle that backups are made with.
    pub fn backups(&self) -> Backups {
        Backups::new(Arc::clone(&self.store), self.keys.get(), self.workers.clone())
    }

    pub(super) async fn volume(&self, id: &VolumeId) -> Result<Volume, StepError> {
        let wanted = id.clone();
        let found = self.catalog.transact(move |tx| Ok(tx.volume(&wanted)?)).await?;
        found.ok_or_else(|| StepError::Broken(format!("volume {id} is not in the catalog")))
    }

    pub(super) async fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot, StepError> {
        let wanted = id.clone();
        let found = self.catalog.transact(move |tx| Ok(tx.snapshot(&wanted)?)).await?;
        found.ok_or_else(|| StepError::Broken(format!("snapshot {id} is not in the catalog")))
    }

    pub(super) fn pool(&self, name: &str) -> Result<&Arc<dyn Pool>, StepError> {
        // An operator may have taken it out of the configuration and can put it back.
        self.pools
            .get(name)
            .ok_or_else(|| StepError::Later(format!("pool {name} is not configured on this host")))
    }

    pub(super) fn host(&self) -> Result<&Arc<dyn HostMounts>, StepError> {
        let refused = || StepError::Refused("this volumed does not mount volumes on its host".to_owned());
        self.host.as_ref().ok_or_else(refused)
    }

    fn layout(
        &self,
        encrypted: bool,
        volume_id: &VolumeId,
        wrapped: &WrappedKey,
    ) -> Result<Layout, StepError> {
        if !encrypted {
            return Ok(Layout::Raw);
        }
        let key: DataKey = self.keys.get().unwrap(volume_id.as_str(), wrapped)?;
        Ok(Layout::Luks {
            passphrase: key.luks_passphrase(),
        })
    }

    pub(super) fn slice(&self, volume: &Volume) -> Result<Slice, StepError> {
        Ok(Slice {
            id: SliceId::Volume(volume.id.clone()),
            size_bytes: volume.size.bytes(),
            layout: self.layout(volume.encrypted, &volume.id, &volume.wrapped_key)?,
        })
    }

    /// Returns a volume's slice.
    ///
    /// # Errors
    /// A sentence when its key cannot be unwrapped.
    pub(crate) fn slice_of(&self, volume: &Volume) -> Result<Slice, String> {
        self.slice(volume).map_err(StepError::why)
    }

    pub(super) fn capture_slice(&self, snapshot: &Snapshot) -> Result<Slice, StepError> {
        Ok(Slice {
            id: SliceId::Capture(snapshot.id.clone()),
            size_bytes: snapshot.volume_bytes,
            layout: self.layout(snapshot.encrypted, &snapshot.volume_id, &snapshot.wrapped_key)?,
        })
    }

    /// Returns a volume's device as its holder opens it.
    ///
    /// # Errors
    /// A sentence when its key cannot be unwrapped or the pool does not have it.
    pub async fn device(&self, volume: &Volume) -> Result<crate::pool::Device, String> {
        let opened = async {
            let slice = self.slice(volume)?;
            Ok::<_, StepError>(self.pool(&volume.pool)?.activate(&slice).await?)
        };
        opened.await.map_err(StepError::why)
    }

    /// Lets go of a volume's device.
    ///
    /// # Errors
    /// A sentence from the pool.
    pub async fn release(&self, volume: &Volume) -> Result<(), String> {
        let released = async {
            let slice = self.slice(volume)?;
            Ok::<_, StepError>(self.pool(&volume.pool)?.deactivate(&slice).await?)
        };
        released.await.map_err(StepError::why)
    }

    pub(super) fn event(&self, subject: &str, kind: &'static str, message: String) -> NewEvent {
        NewEvent {
            at: self.clock.now(),
            subject: subject.to_owned(),
            kind,
            message,
        }
    }
}

/// Names a snapshot as the backups do.
pub(super) fn reference(snapshot: &Snapshot) -> Result<SnapshotRef, StepError> {
    SnapshotRef::new(snapshot.volume_id.as_str(), snapshot.id.as_str())
        .map_err(|e| StepError::Broken(e.to_string()))
}
