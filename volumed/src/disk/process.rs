//! `volumed disk ID`: one disk, served by one process.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crashsafe::{LockError, LockFile, RealDisk};
use log_disk::{Input, OpenError, Role, Sealer, Stopped};
use objstore::{ProbeFailure, Remedy, S3Store};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::control::{Control, router};
use super::driver::{Driver, Ending, Event, Order, Orders, Parts};
use super::force::{self, ForceError};
use super::journal::Journal;
use super::metrics::Metrics;
use super::objects::Reader;
use super::open::{Ground, Insist, StartError};
use super::probed::{Probed, Wanted};
use super::seal::Sealing;
use super::settings::{Settings, SettingsError};
use super::slice::{Slice, SliceError};
use super::state::{DiskDir, Phase, State};
use super::store::{Bucket, chain, purpose};
use crate::bulk::Workers;
use crate::config::Config;
use crate::keys::{ClusterKey, KeyFileError, UnwrapError};
use crate::volume::VolumeId;

/// Threads that put objects together.
const SEALERS: usize = 2;
/// From one list of everything in the bucket to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// From one try to the next, when the store does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a disk's process ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Another process of this host serves it.
    #[error("disk {volume}")]
    Lock {
        /// Which disk.
        volume: VolumeId,
        /// Who.
        source: LockError,
    },
    /// What it was told.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A configuration file could not be used.
    #[error(transparent)]
    Config(#[from] daemon::config_file::ConfigError),
    /// The object store's configuration.
    #[error("object store")]
    Store(#[from] objstore::ConnectError),
    /// The store breaks promises.
    #[error(transparent)]
    Probe(#[from] ProbeFailure),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is no cluster key.
    #[error("there is no cluster key at {}: import it", path.display())]
    NoKey {
        /// Where it should be.
        path: std::path::PathBuf,
    },
    /// The volume's key.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// The slice.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// Whether it may be claimed by force.
    #[error(transparent)]
    Force(#[from] ForceError),
    /// It did not open.
    #[error("open disk {volume}")]
    Start {
        /// Which disk.
        volume: VolumeId,
        /// Why.
        source: Box<StartError>,
    },
    /// It opened, and ended.
    #[error("disk {volume} stopped: {}", words(*why))]
    Stopped {
        /// Which disk.
        volume: VolumeId,
        /// Why.
        why: Stopped,
    },
    /// The system did not give what was needed.
    #[error("{doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its thread panicked.
    #[error("disk {volume}: its thread panicked")]
    Panicked {
        /// Which disk.
        volume: VolumeId,
    },
}

/// What a supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A person must look: it would end the same way again.
    Look,
    /// Start it again.
    Again,
    /// Another host owns the disk.
    Elsewhere,
    /// Another process of this host serves it.
    Here,
}

impl Verdict {
    /// Returns the process's exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Look => 1,
            Self::Again => 3,
            Self::Elsewhere => 4,
            Self::Here => 5,
        }
    }
}

impl DiskError {
    /// What a supervisor is to do.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Lock {
                source: LockError::Held { .. },
                ..
            } => Verdict::Here,
            Self::Stopped { why, .. } => match why {
                Stopped::Fenced { .. } | Stopped::Twin => Verdict::Elsewhere,
                Stopped::Head => Verdict::Look,
                Stopped::Journal | Stopped::Map { .. } | Stopped::Unreadable { .. } => Verdict::Again,
            },
            Self::Start { source, .. } => match **source {
                StartError::Owned { .. } | StartError::Open(OpenError::Claimed { .. } | OpenError::Twin) => {
                    Verdict::Elsewhere
                }
                StartError::Open(OpenError::Map { .. }) => Verdict::Again,
                StartError::Open(_)
                | StartError::Slice(_)
                | StartError::Get(_)
                | StartError::List(_)
                | StartError::Wrapped(_)
                | StartError::Unwrap(_)
                | StartError::Foreign { .. } => Verdict::Look,
            },
            Self::System { .. } | Self::Panicked { .. } => Verdict::Again,
            Self::Lock { .. }
            | Self::Settings(_)
            | Self::Config(_)
            | Self::Store(_)
            | Self::Probe(_)
            | Self::Key(_)
            | Self::NoKey { .. }
            | Self::Unwrap(_)
            | Self::Force(_)
            | Self::Slice(_) => Verdict::Look,
        }
    }
}

fn words(why: Stopped) -> String {
    match why {
        Stopped::Fenced { by } => format!("another host owns it, epoch {by}; nothing is answered any more"),
        Stopped::Head => "HEAD is gone, damaged, or not what it can be".to_owned(),
        Stopped::Twin => "another writer has our epoch; nothing is answered any more".to_owned(),
        Stopped::Journal => "the journal cannot be written".to_owned(),
        Stopped::Map { leaf } => format!("leaf {leaf} of the map was lost"),
        Stopped::Unreadable { object } => {
            format!("what the journal held for object {object} could not be read back")
        }
    }
}

/// Serves a disk until `ctx.shutdown`, a drain, or its end.
///
/// # Errors
/// [`DiskError`].
pub async fn serve(
    ctx: daemon::Context,
    config: Config,
    volume: VolumeId,
    insist: Insist,
) -> Result<(), DiskError> {
    let dir = DiskDir::new(&config.data_dir, &volume);
    let _lock = LockFile::acquire(dir.lock()).map_err(|source| DiskError::Lock {
        volume: volume.clone(),
        source,
    })?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).map_err(|source| {
        DiskError::System {
            doing: "make the disk's directory private",
            source,
        }
    })?;
    let settings = Settings::load(&dir.settings(), &volume)?;
    let insist = force::leave(&dir, insist)?;
    let registry = daemon::metrics::Metrics::new();
    let metrics = Metrics::register(&registry);
    let store = S3Store::connect(config.store()?, objstore::Metrics::register(&registry)).await?;
    let state = Arc::new(State::new(settings.clone()));
    let control = Control {
        state: Arc::clone(&state),
        metrics: metrics.clone(),
        registry,
        settings_file: dir.settings(),
        changing: Arc::new(Mutex::new(())),
    };
    let told = CancellationToken::new();
    let talking = daemon::spawn("control", {
        let (socket, router, told) = (dir.control(), router(control), told.clone());
        async move { daemon::unix_http::serve(&socket, router, told).await }
    });
    let disk = Disk {
        volume,
        dir,
        settings,
        config,
        store,
        metrics,
        state: Arc::clone(&state),
        insist,
    };
    let ended = disk.serve(&ctx.shutdown).await;
    if let Err(error) = &ended {
        let phase = match error.verdict() {
            Verdict::Elsewhere => Phase::Fenced,
            Verdict::Look | Verdict::Again | Verdict::Here => Phase::Stopped,
        };
        state.end(phase, chain(error));
    } else {
        state.end(Phase::Stopped, "asked for".to_owned());
    }
    told.cancel();
    match talking.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = %error, "control socket"),
        Err(error) => warn!(error = %error, "control socket"),
    }
    ended
}

/// One disk's process.
#[derive(Debug)]
struct Disk {
    volume: VolumeId,
    dir: DiskDir,
    settings: Settings,
    config: Config,
    store: S3Store,
    metrics: Metrics,
    state: Arc<State>,
    insist: Insist,
}

impl Disk {
    async fn serve(&self, shutdown: &CancellationToken) -> Result<(), DiskError> {
        let (cluster_key, sealer) = self.keys()?;
        let sealer = Arc::new(sealer);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            probed = self.probe() => probed?,
        }
        let workers = Workers::start(SEALERS).map_err(|source| DiskError::System {
            doing: "start threads",
            source,
        })?;
        let settings = self.settings.slice.clone();
        let slice = workers.run(move || Slice::open(&settings)).await?;
        let bucket = Bucket::new(Arc::new(self.store.clone()), self.settings.disk_id());
        let reader = Reader::new(bucket.clone());
        let journal = Arc::new(Journal::new(Arc::clone(&sealer), slice.clone()));
        let sealing = Sealing {
            journal,
            reader,
            sealer: Arc::clone(&sealer),
            workers,
        };
        let ground = Ground {
            settings: self.settings.clone(),
            slice,
            bucket: bucket.clone(),
            sealer,
            insist: self.insist,
            cluster_key,
        };
        let (orders, mut running) = self.start(ground, sealing, shutdown)?;
        let sweeping = daemon::spawn(
            "disk-sweep",
            sweep_until(orders.clone(), bucket.clone(), shutdown.clone()),
        );
        let ending = tokio::select! {
            ending = &mut running => ending,
            () = shutdown.cancelled() => {
                // An opening sees the token by itself; a thread that has ended needs no word.
                let _unheard = orders.send(Event::Order(Order::Stop)).await;
                running.await
            }
        };
        sweeping.abort();
        let ending = ending.unwrap_or(Ended::Panicked);
        self.end(ending, &bucket, shutdown).await
    }

    fn keys(&self) -> Result<(ClusterKey, Sealer), DiskError> {
        let path = self.config.cluster_key();
        let key = ClusterKey::load(&RealDisk, &path)?.ok_or(DiskError::NoKey { path })?;
        let data_key = key.unwrap(self.volume.as_str(), &self.settings.wrapped_key)?;
        let sealer = data_key.disk_sealer(self.settings.disk_id());
        Ok((key, sealer))
    }

    /// Finds out whether the store keeps its promises, unless that was found out lately.
    async fn probe(&self) -> Result<(), DiskError> {
        let wanted = Wanted::of(&self.config.object_store);
        if Probed::load(&self.dir.probed())
            .is_some_and(|probed| probed.holds(&wanted, daemon::wall_clock::now()))
        {
            return Ok(());
        }
        loop {
            match self
                .store
                .probe(&format!("probe/{}", daemon::random::hex(8)))
                .await
            {
                Ok(report) => {
                    info!(requests = report.requests, "the store keeps its promises");
                    let probed = Probed::new(wanted, daemon::wall_clock::now());
                    if let Err(error) = probed.save(&self.dir.probed()) {
                        warn!(error = %error, "the probe's finding was not kept");
                    }
                    return Ok(());
                }
                Err(failure) if failure.remedy() == Remedy::Retry => {
                    warn!(error = %chain(&failure), "the store was not probed");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Starts the disk's thread.
    fn start(
        &self,
        ground: Ground,
        sealing: Sealing,
        shutdown: &CancellationToken,
    ) -> Result<(Orders, oneshot::Receiver<Ended>), DiskError> {
        let system = |doing| move |source| DiskError::System { doing, source };
        let (orders, queue) = Orders::new().map_err(system("make an event"))?;
        let (ended, running) = oneshot::channel();
        let handle = tokio::runtime::Handle::current();
        let (state, metrics, shutdown) = (Arc::clone(&self.state), self.metrics.clone(), shutdown.clone());
        let (ours, dir, name) = (orders.clone(), self.dir.clone(), self.volume.to_string());
        let export = dir.export();
        let body = move || {
            let _inside = handle.enter();
            let opened = handle.block_on(async {
                tokio::select! {
                    () = shutdown.cancelled() => None,
                    opened = ground.open() => Some(opened),
                }
            });
            let engine = match opened {
                None => return Ended::Well(Ending::Asked),
                Some(Err(error)) => return Ended::NotOpened(error),
                Some(Ok(engine)) => engine,
            };
            let Ground { slice, bucket, .. } = ground;
            let parts = Parts {
                engine,
                slice,
                bucket,
                sealing,
                metrics,
                orders: ours.clone(),
                queue,
            };
            let driver = Driver::new(parts).and_then(|driver| Ok((driver, listen(&export)?)));
            let (mut driver, listener) = match driver {
                Ok(started) => started,
                Err(error) => return Ended::Well(Ending::Ring(error)),
            };
            driver.export(listener, &name);
            force::used_up(&dir);
            state.serve(ours);
            info!(socket = %export.display(), "serving");
            Ended::Well(driver.run())
        };
        std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                // Who waits sees the end by the channel's.
                let _unheard = ended.send(body());
            })
            .map_err(system("start the disk's thread"))?;
        Ok((orders, running))
    }

    async fn end(
        &self,
        ended: Ended,
        bucket: &Bucket,
        shutdown: &CancellationToken,
    ) -> Result<(), DiskError> {
        let volume = self.volume.clone();
        match ended {
            Ended::Panicked => Err(DiskError::Panicked { volume }),
            Ended::NotOpened(source) => Err(DiskError::Start {
                volume,
                source: Box::new(source),
            }),
            Ended::Well(Ending::Asked) => Ok(()),
            Ended::Well(Ending::Stopped(why)) => Err(DiskError::Stopped { volume, why }),
            Ended::Well(Ending::Ring(source)) => Err(DiskError::System {
                doing: "io_uring",
                source,
            }),
            Ended::Well(Ending::Drained { epoch, answer }) => {
                self.state.end(Phase::Stopped, "drained".to_owned());
                while let Err(error) = bucket.release(epoch).await {
                    if error.remedy() != Remedy::Retry || shutdown.is_cancelled() {
                        error!(error = %chain(&error), "the disk was drained and not released");
                        // Whoever asked may have gone.
                        let _unheard = answer.send(Err(chain(&error)));
                        return Ok(());
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
                info!(epoch = epoch.0, "released");
                // Whoever asked may have gone.
                let _unheard = answer.send(Ok(epoch));
                Ok(())
            }
        }
    }
}

/// How the disk's thread ended.
#[derive(Debug)]
enum Ended {
    NotOpened(StartError),
    Well(Ending),
    Panicked,
}

/// Binds the export's socket. What a dead process left there is replaced: the lock is ours.
fn listen(path: &Path) -> std::io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The directory is its owner's alone: nobody else gets as far as the socket.
    Ok(UnixListener::bind(path)?.into())
}

/// Has what nobody needs deleted, once at first and then daily.
async fn sweep_until(orders: Orders, bucket: Bucket, shutdown: CancellationToken) {
    loop {
        let mut names = Vec::new();
        let mut whole = true;
        for role in [Role::Data, Role::Gc, Role::Checkpoint] {
            match bucket.list(role, purpose::SWEEP).await {
                Ok(listed) => names.extend(listed),
                Err(error) => {
                    warn!(error = %chain(&error), "the bucket was not swept");
                    whole = false;
                }
            }
        }
        let input = Event::Input(Box::new(Input::Sweep { names }));
        if whole && orders.send(input).await.is_err() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
    }
}
