//! One node, from its start to its stop.

mod leasing;
mod member;
mod roles;

pub use leasing::LeaseError;
pub use member::Member;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use crashsafe::RealDisk;
use lease::Keeper;
use leasing::Leasing;
use ltx::{Flags, NodeId};
use roles::Roles;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api},
    config::Config,
    db::{Node, Primacy, Role},
    fuse::{self, Mounted},
    halt::Halts,
    proxy::{Proxy, ProxySettings},
    replication::{client::Replica, status::Status, streams::Streams},
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
    /// The API's address is taken, or none of ours.
    #[error("listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody knows which cluster the node belongs to.
    #[error(transparent)]
    ClusterId(#[from] crate::store::ClusterIdError),
    /// They cannot be mounted.
    #[error(transparent)]
    Mount(#[from] fuse::MountError),
    /// A command cannot be run.
    #[error(transparent)]
    Command(#[from] supervisor::SupervisorError),
    /// Its lease cannot be had from anywhere.
    #[error(transparent)]
    Lease(#[from] LeaseError),
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
    let listening = api::listen(config.http).await;
    let listener = listening.map_err(|source| StartError::Listen {
        address: config.http,
        source,
    })?;
    let address = listener.local_addr().map_err(StartError::Thread)?;
    let id = NodeId::new(u64::from_ne_bytes(daemon::random::bytes()));
    let mut leasing = Leasing::prepare(&config, id, address).await?;
    let store = open(&config, id, leasing.primacy()).await?;
    let keeper = leasing.start(&store);
    let status = Arc::new(Status::new(store.node().primacy.clone(), wall_clock_ms));
    let options = fuse::Options {
        directory: config.mount.clone(),
        allow_other: config.allow_other,
        passthrough: true,
        unmount_first,
    };
    let halts = Halts::new(Arc::clone(&store), &keeper, tokio::runtime::Handle::current());
    let shared = Some(Arc::clone(&halts));
    let mounted = fuse::mount(Arc::clone(&store), Arc::clone(&status), shared, &options)?;
    let ending = Arc::new(AtomicBool::new(false));
    verify(&store, &ending).map_err(StartError::Thread)?;
    retain(&store, &config, &stop);
    let streams = Arc::new(Streams::default());
    let serving = Arc::new(Api {
        store: Arc::clone(&store),
        status: Arc::clone(&status),
        hostname: config.hostname.clone(),
        candidate: config.candidate,
        keeper: keeper.clone(),
        streams: Arc::clone(&streams),
        halt_lasts: config.halt_lasts,
        mount: config.mount.display().to_string(),
        stopping: Arc::clone(&ending),
        stop: stop.child_token(),
    });
    let closing = serving.stop.clone();
    daemon::spawn("listen", api::serve(listener, serving));
    let proxied = (keeper.clone(), closing.clone());
    let roles = Roles {
        replica: Replica::new(Arc::clone(&store), Arc::clone(&status), Arc::clone(&ending)),
        store: Arc::clone(&store),
        status: Arc::clone(&status),
        member: leasing.member(),
        keeper,
        streams,
        reconnect_delay: config.reconnect_delay,
        only: config.databases.clone(),
        ending: Arc::clone(&ending),
        runtime: tokio::runtime::Handle::current(),
    };
    let named = thread::Builder::new().name("roles".to_owned());
    let roles = named.spawn(move || roles.run()).map_err(StartError::Thread)?;
    tracing::info!(path = %config.mount.display(), %address, "serves databases");
    let serving = Serving {
        store: &store,
        status: &status,
        keeper: proxied.0,
        closing: proxied.1,
        address,
        stop: &stop,
    };
    let served = serve(&config, &serving, code).await;
    if *store.running().borrow() != Running::Failed {
        halts.end().await;
    }
    ending.store(true, Ordering::Release);
    closing.cancel();
    let ended = tokio::task::spawn_blocking(move || roles.join());
    if !matches!(ended.await, Ok(Ok(()))) {
        tracing::error!("replication ended in a panic");
    }
    if *store.running().borrow() == Running::Failed {
        code.store(FAILED, Ordering::Release);
        // Whatever else is said of it now is not known to be true.
        std::mem::forget(mounted);
        return served;
    }
    end(store, mounted).await;
    leasing.stop().await;
    served
}

async fn open(config: &Config, id: NodeId, primacy: Primacy) -> Result<Arc<Store>, StartError> {
    let node = Node {
        disk: Arc::new(RealDisk),
        id,
        flags: if config.compress { Flags::LZ4 } else { Flags::NONE },
        wall_clock_ms,
        primacy,
    };
    let path = config.data.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(path, node)).await;
    let opened = opened.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    let failed = |source| StartError::Store {
        path: config.data.clone(),
        source,
    };
    opened.map_err(failed)
}

/// A node that serves its databases.
struct Serving<'a> {
    store: &'a Arc<Store>,
    status: &'a Arc<Status>,
    keeper: Keeper,
    /// Cancelled when nothing is answered any more.
    closing: CancellationToken,
    /// Where its API listens.
    address: SocketAddr,
    /// Asks it to stop.
    stop: &'a CancellationToken,
}

/// Waits for the node to have everything, puts the proxy in front of the application, runs the commands, and waits for an end of
/// either.
async fn serve(config: &Config, node: &Serving<'_>, code: &AtomicU8) -> Result<(), StartError> {
    let Serving { status, stop, .. } = *node;
    let mut running = node.store.running();
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
        if config.promote && status.role() == Role::Replica {
            tokio::select! {
                promoted = leasing::promote(node.address, status) => promoted?,
                () = stop.cancelled() => return Ok(()),
                () = &mut failed => return Ok(()),
            }
        }
    }
    if let Some(settings) = &config.proxy {
        proxy(settings.clone(), node).await?;
    }
    let mut child = supervisor::start(&config.exec, config.candidate, stop).await?;
    tokio::select! {
        ended = command(child.as_mut(), stop) => {
            code.store(ended, Ordering::Release);
            Ok(())
        }
        () = &mut failed => Ok(()),
    }
}

/// Puts the proxy in front of the application.
async fn proxy(settings: ProxySettings, node: &Serving<'_>) -> Result<(), StartError> {
    let failed = |source| StartError::Listen {
        address: settings.address,
        source,
    };
    let listener = api::listen(settings.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, target = %settings.target, "proxy listens");
    let (store, status) = (Arc::clone(node.store), Arc::clone(node.status));
    let proxy = Proxy::new(settings, address, store, status, node.keeper.clone());
    daemon::spawn("proxies", proxy.serve(listener, node.closing.clone()));
    Ok(())
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
