//! `volumed serve`: everything put together.

mod pools;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crashsafe::{Disk, LockFile, RealDisk};
use daemon::wall_clock::SystemClock;
use objstore::{ObjectStore, S3Store};
use operation::{Backoff, KillProbe, NoProbe, Probe};
use tracing::warn;

use crate::api;
use crate::bulk::{Bulk, Images, Workers};
use crate::catalog::Catalog;
use crate::command::SystemCommands;
use crate::config::{CheckError, Config};
use crate::host::linux::LinuxHost;
use crate::keys::ClusterKey;
use crate::metrics::Metrics;
use crate::ops::{Context, KeyRing, Locks, Pools};
use crate::random::{OsRandom, Random};
use crate::runner_client::{MachineRunner, SocketRunner};
use crate::service::Service;

/// Transactions that may wait for the catalog.
const CATALOG_QUEUE_LEN: usize = 256;
/// A test hook: `kind/step/before|after|undo-before|undo-after` makes the daemon kill itself there. See
/// docs/operating.
const KILL_AT: &str = "VOLUMED_KILL_AT";

/// Why the daemon did not start or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration has a wrong value.
    #[error("configuration")]
    Check(#[from] CheckError),
    /// A configuration file could not be used.
    #[error(transparent)]
    Config(#[from] daemon::config_file::ConfigError),
    /// Where this program is.
    #[error("path of this program")]
    Program(#[source] std::io::Error),
    /// The data directory.
    #[error("data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another volumed uses it.
    #[error("lock the data directory")]
    Lock(#[from] crashsafe::LockError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::OpenError),
    /// The catalog did not take what the pools show.
    #[error(transparent)]
    Amend(#[from] crate::catalog::TxError),
    /// The cluster key.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyFileError),
    /// The object store's configuration.
    #[error("object store")]
    Store(#[from] objstore::ConnectError),
    /// A pool.
    #[error(transparent)]
    Pool(#[from] crate::pool::PoolError),
    /// Threads.
    #[error("start worker threads")]
    Threads(#[source] std::io::Error),
    /// The kill specification.
    #[error("{KILL_AT}")]
    Kill(#[from] operation::ProbeSpecError),
    /// The driver of operations ended.
    #[error("operations")]
    Drive(#[from] operation::DriveError),
    /// The socket.
    #[error("serve {}", path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs the daemon until `ctx.shutdown`.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(ctx: daemon::Context, config: Config) -> Result<(), ServeError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let at = |source| ServeError::DataDir {
        path: config.data_dir.clone(),
        source,
    };
    crashsafe::create_dir_durable(&*disk, "serve:data_dir", &config.data_dir).map_err(at)?;
    let _lock = LockFile::acquire(config.data_dir.join("volumed.lock"))?;
    let registry = daemon::metrics::Metrics::new();
    let metrics = Metrics::new(registry.clone());
    let context = context(&config, disk, &registry).await?;
    pools::note_places(&context).await?;
    crate::ops::amend(&context).await?;
    report_strays(&context).await;
    report_lost(&context).await;
    let (service, driver) = Service::new(context, probe()?, Backoff::default(), metrics);

    let remounter = daemon::spawn("remount", {
        let service = service.clone();
        async move { service.remount().await }
    });
    let housekeeper = daemon::spawn("housekeeper", service.clone().sweep_until(ctx.shutdown.clone()));
    let scrubber = daemon::spawn("scrubber", service.clone().scrub_until(ctx.shutdown.clone()));
    let tending = daemon::spawn("pools", pools::tend_until(service.clone(), ctx.shutdown.clone()));
    let stopped = ctx.shutdown.clone();
    let mut driving = daemon::spawn("operations", driver.run(async move { stopped.cancelled().await }));
    let mut serving = daemon::spawn("api", {
        let (socket, shutdown, router) = (config.socket.clone(), ctx.shutdown.clone(), api::router(service));
        async move { daemon::unix_http::serve(&socket, router, shutdown).await }
    });
    let ended = tokio::select! {
        driven = &mut driving => joined(driven).map_err(ServeError::from),
        served = &mut serving => {
            joined(served).map_err(|source| ServeError::Serve { path: config.socket.clone(), source })
        }
    };
    // One gone, all go: an API without its driver would accept what nobody carries out.
    ctx.shutdown.cancel();
    if !driving.is_finished()
        && let Err(error) = joined(driving.await)
    {
        warn!(error = %error, "operations stopped by an error");
    }
    let _ = housekeeper.await;
    let _ = scrubber.await;
    remounter.abort();
    let _ = tending.await;
    ended
}

/// Passes a task's panic on.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("task ended without a value: {cancelled}"),
        },
    }
}

async fn context(
    config: &Config,
    disk: Arc<dyn Disk>,
    registry: &daemon::metrics::Metrics,
) -> Result<Context, ServeError> {
    let settings = config.settings()?;
    config.check_places()?;
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let workers = Workers::start(threads).map_err(ServeError::Threads)?;
    let bulk = match Bulk::start() {
        Ok(bulk) => Some(bulk),
        Err(error) => {
            warn!(error = %error, "io_uring is not available; bulk copies use plain reads and writes");
            None
        }
    };
    let images = Images::new(Arc::clone(&disk), bulk, workers.clone());
    let catalog = Catalog::open(&config.catalog(), CATALOG_QUEUE_LEN)?;
    let opener = pools::Opener {
        disk: Arc::clone(&disk),
        images,
        workers: workers.clone(),
        random: Arc::clone(&random),
        catalog: catalog.clone(),
    };
    let mut pools = opener.open_all(config.pools_or_default()).await?;
    let keys = KeyRing::new(
        ClusterKey::load_or_make(&*disk, &config.cluster_key(), &*random)?,
        config.cluster_key(),
    );
    let store: Arc<dyn ObjectStore> =
        Arc::new(S3Store::connect(config.store()?, objstore::Metrics::register(registry)).await?);
    if let Some(pool) = pools::bottomless(config, &disk, &store, &catalog) {
        pools.push(pool);
    }
    let runner = config
        .machine_runner
        .as_deref()
        .map(|socket| Arc::new(SocketRunner::new(socket)));
    Ok(Context {
        catalog,
        pools: Pools::new(pools),
        disk,
        store,
        keys,
        clock: Arc::new(SystemClock),
        random,
        workers,
        runner: runner.map(|r| r as Arc<dyn MachineRunner>),
        host: Some(Arc::new(LinuxHost::new(
            Arc::new(SystemCommands::find(has_udev())),
            std::env::current_exe().map_err(ServeError::Program)?,
        ))),
        locks: Locks::default(),
        settings,
    })
}

/// Says whether a udev daemon answers on this host.
fn has_udev() -> bool {
    Path::new("/run/udev/control").exists()
}

/// Says which slices of the pools belong to nobody. They are never removed: who put them there may want them.
async fn report_strays(context: &Context) {
    for stray in crate::ops::strays(context).await {
        warn!(
            pool = stray.pool,
            slice = stray.slice,
            "slice of no known volume or snapshot left alone"
        );
    }
}

/// Says which volumes have lost their slices, which nobody can use until these are back or a snapshot is restored.
async fn report_lost(context: &Context) {
    for lost in crate::ops::lost(context).await {
        tracing::error!(
            pool = lost.pool,
            volume_id = %lost.volume_id,
            "slice of a known volume is not there"
        );
    }
}

fn probe() -> Result<Arc<dyn Probe>, ServeError> {
    match std::env::var(KILL_AT) {
        Ok(spec) => Ok(Arc::new(KillProbe::parse(&spec, kill_self)?)),
        Err(_) => Ok(Arc::new(NoProbe)),
    }
}

fn kill_self() {
    let us = rustix::process::getpid();
    // SIGKILL comes before this returns, if it is sent at all; when not, the test that asked for it fails.
    let _ = rustix::process::kill_process(us, rustix::process::Signal::KILL);
}
