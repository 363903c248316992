//! The endpoint: opened on a directory, served on a listener.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crashsafe::{Disk, LockError, LockFile, create_dir_durable};
use daemon::wall_clock::{SystemClock, WallClock};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::bucket::Bucket;
use crate::credentials::{Auth, Credentials, CredentialsError};
use crate::service::{Gate, Service};

/// Disk operations under way at once; more wait. Each takes a thread.
const BLOCKING_MAX: usize = 48;
/// How long requests under way may take to end once the endpoint is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a client may take to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Where an endpoint keeps its objects.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Directory of its own, created if need be. It holds everything, `credentials.toml` too.
    pub root: PathBuf,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Stamps objects with the time they were written.
    pub clock: Arc<dyn WallClock>,
}

impl EndpointConfig {
    /// An endpoint below `root` with one bucket.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, bucket: &str) -> Self {
        Self {
            root: root.into(),
            buckets: vec![bucket.to_owned()],
            clock: Arc::new(SystemClock),
        }
    }
}

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("object store in use")]
    Locked(#[source] LockError),
    /// The credentials.
    #[error("object store credentials")]
    Credentials(#[source] CredentialsError),
    /// A bucket's name is not what S3 allows.
    #[error("bucket name {name:?} must be 3 to 63 of a-z, 0-9, '.' and '-'")]
    BucketName {
        /// As given.
        name: String,
    },
    /// The disk.
    #[error("object store in {}", root.display())]
    Io {
        /// Its directory.
        root: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// A listener that an endpoint can serve on.
#[derive(Debug)]
pub enum Listener {
    /// For S3 clients.
    Tcp(TcpListener),
    /// For programs of this host that speak HTTP over Unix sockets.
    Unix(UnixListener),
}

/// An S3 endpoint over a directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    state: Arc<State>,
}

/// What requests share.
#[derive(Debug)]
pub(crate) struct State {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn WallClock>,
    directory: PathBuf,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) blocking: Arc<Semaphore>,
    _lock: LockFile,
}

impl Endpoint {
    /// Opens the store, removes what a crash left behind, and reads its index. One process at a time may have it open.
    ///
    /// * Cost: reads the end of every object's file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: EndpointConfig, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let EndpointConfig {
            root,
            buckets: wanted,
            clock,
        } = config;
        let io = |source| OpenError::Io {
            root: root.clone(),
            source,
        };
        create_dir_durable(&*disk, "endpoint:create", &root).map_err(io)?;
        let lock = LockFile::acquire(root.join("lock")).map_err(OpenError::Locked)?;
        crashsafe::sweep_temporaries(&*disk, "endpoint:sweep", &root).map_err(io)?;
        let credentials = Credentials::open(Arc::clone(&disk), &root.join("credentials.toml"))
            .map_err(OpenError::Credentials)?;
        let directory = root.join("buckets");
        create_dir_durable(&*disk, "endpoint:create", &directory).map_err(io)?;
        let mut buckets = BTreeMap::new();
        for entry in disk
            .list(&directory)
            .map_err(io)?
            .into_iter()
            .filter(|entry| entry.is_dir)
        {
            let path = directory.join(&entry.name);
            let bucket = Bucket::open(Arc::clone(&disk), Arc::clone(&clock), &path).map_err(io)?;
            buckets.insert(entry.name, Arc::new(bucket));
        }
        let state = State {
            disk,
            clock,
            directory,
            buckets: RwLock::new(buckets),
            credentials: Arc::new(credentials),
            blocking: Arc::new(Semaphore::new(BLOCKING_MAX)),
            _lock: lock,
        };
        for name in wanted {
            if !s3s::path::check_bucket_name(&name) {
                return Err(OpenError::BucketName { name });
            }
            state.create_bucket(&name).map_err(io)?;
        }
        Ok(Self {
            state: Arc::new(state),
        })
    }

    /// The credentials it accepts; more can be issued while it serves.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.state.credentials)
    }

    /// Serves until `shutdown`, then lets requests under way end, for five seconds at most.
    ///
    /// Every put that was acknowledged is durable at that moment; nothing is left to do at the end.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(&self, listener: Listener, shutdown: CancellationToken) -> io::Result<()> {
        let service = self.service();
        let tasks = TaskTracker::new();
        let aborted = CancellationToken::new();
        let result = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                accepted = accept(&listener) => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let connection =
                        serve_connection(stream, service.clone(), shutdown.clone(), aborted.clone());
                    drop(daemon::spawn("s3-connection", tasks.track_future(connection)));
                }
                // The client went away, or descriptors ran out for the moment.
                Err(error) if is_passing(&error) => {
                    warn!(%error, "connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => break Err(error),
            }
        };
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "connections were cut");
            aborted.cancel();
            tasks.wait().await;
        }
        info!("endpoint stopped");
        result
    }

    fn service(&self) -> S3Service {
        let mut builder = S3ServiceBuilder::new(Service(Arc::clone(&self.state)));
        builder.set_auth(Auth(self.credentials()));
        builder.set_access(Gate(self.credentials()));
        builder.build()
    }
}

/// Either kind of connection.
enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
    }
}

fn is_passing(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no ErrorKind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotConnected
                | io::ErrorKind::OutOfMemory
        )
}

async fn serve_connection(
    stream: Stream,
    service: S3Service,
    shutdown: CancellationToken,
    aborted: CancellationToken,
) {
    match stream {
        Stream::Tcp(stream) => drive(stream, service, shutdown, aborted).await,
        Stream::Unix(stream) => drive(stream, service, shutdown, aborted).await,
    }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S3Service,
    shutdown: CancellationToken,
    aborted: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = aborted.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection broke");
    }
}

impl State {
    /// Returns a bucket, if there is one of that name.
    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Returns the names of all buckets, ascending.
    pub(crate) fn bucket_names(&self) -> Vec<String> {
        self.buckets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    /// Creates a bucket; returns false when it was there. Blocks.
    ///
    /// * `name`: checked before.
    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<bool> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let bucket = Bucket::open(
            Arc::clone(&self.disk),
            Arc::clone(&self.clock),
            &self.path_of(name),
        )?;
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(true)
    }

    /// Removes a bucket; returns false, and leaves it, when something is in it. Blocks.
    pub(crate) fn delete_bucket(&self, name: &str) -> io::Result<bool> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get(name) else {
            return Ok(true);
        };
        if !bucket.close_if_empty()? {
            return Ok(false);
        }
        buckets.remove(name);
        self.disk.remove_dir_all("bucket:remove", &self.path_of(name))?;
        self.disk.sync_dir("bucket:remove", &self.directory)?;
        Ok(true)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        assert!(
            path.parent() == Some(Path::new(&self.directory)),
            "bucket name {name:?} was not checked"
        );
        path
    }
}

#[cfg(test)]
mod tests;
