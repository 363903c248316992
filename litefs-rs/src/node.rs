//! One node, from its start to its stop.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use crashsafe::RealDisk;
use ltx::{Flags, NodeId};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    db::{Node, Role},
    fuse::{self, Mounted},
    replication::status::Status,
    retention,
    store::{Running, Store},
    supervisor,
};

/// The exit code of a node that cannot keep what was promised. The next start does.
pub const FAILED: u8 = 99;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its databases cannot be reached.
    #[error("open {}", path.display())]
    Store {
        /// The data directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They cannot be mounted.
    #[error(transparent)]
    Mount(#[from] fuse::MountError),
    /// A command cannot be run.
    #[error(transparent)]
    Command(#[from] supervisor::SupervisorError),
    /// A thread was refused.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

/// Runs a node until it is asked to stop, its command ends, or it fails.
///
/// * `unmount_first`: whether to take away what is mounted in its place.
/// * `stop`: asks it to stop.
/// * `code`: what the process exits with afterwards.
///
/// # Errors
/// It does not start.
pub async fn run(
    config: Config,
    unmount_first: bool,
    stop: CancellationToken,
    code: &AtomicU8,
) -> Result<(), StartError> {
    let store = open(&config).await?;
    let status = Arc::new(Status::new(config.role, wall_clock_ms));
    let options = fuse::Options {
        directory: config.mount.clone(),
        allow_other: config.allow_other,
        passthrough: true,
        unmount_first,
    };
    let mounted = fuse::mount(Arc::clone(&store), Arc::clone(&status), &options)?;
    let ending = Arc::new(AtomicBool::new(false));
    verify(&store, &ending).map_err(StartError::Thread)?;
    retain(&store, &config, &stop);
    tracing::info!(path = %config.mount.display(), "serves databases");
    let served = serve(&config, &store, &status, &stop, code).await;
    ending.store(true, Ordering::Release);
    if *store.running().borrow() == Running::Failed {
        code.store(FAILED, Ordering::Release);
        // Whatever else is said of it now is not known to be true.
        std::mem::forget(mounted);
        return served;
    }
    end(store, mounted).await;
    served
}

async fn open(config: &Config) -> Result<Arc<Store>, StartError> {
    let node = Node {
        disk: Arc::new(RealDisk),
        id: NodeId::new(u64::from_ne_bytes(daemon::random::bytes())),
        flags: if config.compress { Flags::LZ4 } else { Flags::NONE },
        wall_clock_ms,
    };
    let (path, role) = (config.data.clone(), config.role);
    let opened = tokio::task::spawn_blocking(move || Store::open(path, node, role)).await;
    let opened = opened.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    opened.map_err(|source| StartError::Store {
        path: config.data.clone(),
        source,
    })
}

/// Waits for the node to have everything, runs the commands, and waits for an end of either.
async fn serve(
    config: &Config,
    store: &Store,
    status: &Status,
    stop: &CancellationToken,
    code: &AtomicU8,
) -> Result<(), StartError> {
    let mut running = store.running();
    let failed = async move {
        let _sender_lives = running.wait_for(|running| *running == Running::Failed).await;
    };
    tokio::pin!(failed);
    if !config.skip_sync {
        let mut ready = status.ready();
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            () = stop.cancelled() => return Ok(()),
            () = &mut failed => return Ok(()),
        }
    }
    let mut child = supervisor::start(&config.exec, config.role == Role::Primary, stop).await?;
    tokio::select! {
        ended = command(child.as_mut(), stop) => {
            code.store(ended, Ordering::Release);
            Ok(())
        }
        () = &mut failed => Ok(()),
    }
}

/// Waits for the command, if there is one, and gives the exit code that follows from it.
async fn command(child: Option<&mut Child>, stop: &CancellationToken) -> u8 {
    let Some(child) = child else {
        stop.cancelled().await;
        return 0;
    };
    match supervisor::wait(child, stop).await {
        Ok(_) if stop.is_cancelled() => 0,
        Ok(status) => {
            tracing::info!(%status, "command ended");
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1)
        }
        Err(error) => {
            tracing::error!(%error, "command was lost");
            1
        }
    }
}

/// Takes the mount away and puts the databases at rest.
async fn end(store: Arc<Store>, mounted: Mounted) {
    let ended = tokio::task::spawn_blocking(move || {
        mounted.unmount();
        store.settle();
    });
    if let Err(error) = ended.await {
        tracing::error!(%error, "databases were not put at rest");
    }
}

/// Checks behind the start what was believed at it.
fn verify(store: &Arc<Store>, ending: &Arc<AtomicBool>) -> io::Result<()> {
    let (store, ending) = (Arc::clone(store), Arc::clone(ending));
    thread::Builder::new()
        .name("verify".to_owned())
        .spawn(move || store.verify(&|| ending.load(Ordering::Acquire) || store.is_stopped()))
        .map(|_| ())
}

/// Removes old transactions every now and then.
fn retain(store: &Arc<Store>, config: &Config, stop: &CancellationToken) {
    let (Some(age), Some(interval)) = (config.retention, config.retention_interval) else {
        return;
    };
    let (store, stop) = (Arc::clone(store), stop.clone());
    daemon::spawn("retention", async move {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let store = Arc::clone(&store);
            let now = daemon::wall_clock::now().into();
            let done = tokio::task::spawn_blocking(move || retention::enforce_all(&store, age, now));
            if done.await.is_err() {
                return;
            }
        }
    });
}

fn wall_clock_ms() -> i64 {
    daemon::wall_clock::now().as_millisecond()
}
