//! The server: a socket only its owner can reach, never stolen from a live server.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use rustix::fs::FlockOperation;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Longest socket path taken, in bytes: the kernel's limit is 107, and a data directory may have to move.
const PATH_BYTES_MAX: usize = 100;
/// How long requests may take to end after shutdown was asked for.
const DRAIN_GRACE: Duration = Duration::from_secs(8);

/// Serves `router` on the Unix socket `socket` until `shutdown` is cancelled and open requests have ended.
///
/// The socket has mode 0600 from its first instant. What a dead server left behind is replaced. The parent directory
/// is created (0700) when it is missing. Requests still open eight seconds after `shutdown` are cut: long streams must
/// watch the token themselves.
///
/// # Errors
/// * `AddrInUse` when a live server owns the socket.
/// * `AlreadyExists` when the path is something else than a socket.
/// * `InvalidInput` when the path is longer than 100 bytes.
/// * Whatever the system says to creating, binding and renaming.
pub async fn serve(socket: &Path, router: Router, shutdown: CancellationToken) -> Result<()> {
    let bound = Bound::new(socket).await?;
    info!(socket = %socket.display(), "listening");
    let Bound { listener, path, lock } = bound;
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_GRACE).await;
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let result = tokio::select! {
        result = serving => result,
        () = drained => {
            warn!(socket = %socket.display(), "requests were cut at shutdown");
            Ok(())
        }
    };
    let removed = match std::fs::remove_file(&path) {
        // The whole directory may have been taken away from under us.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    drop(lock);
    result.and(removed)
}

struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Held for as long as we serve, so that two daemons that start together cannot both find the socket dead.
    lock: File,
}

impl Bound {
    async fn new(socket: &Path) -> Result<Self> {
        let bytes = socket.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            let message = format!(
                "socket path {} has {bytes} bytes, more than {PATH_BYTES_MAX}",
                socket.display()
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} is no socket path", socket.display()),
            ));
        };
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = lock(&directory.join(format!(".{}.lock", name.display())), socket)?;
        refuse_live_or_foreign(socket).await?;
        let listener = bind_privately(directory, socket)?;
        Ok(Self {
            listener,
            path: socket.to_path_buf(),
            lock,
        })
    }
}

fn lock(path: &Path, socket: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(socket)),
        Err(errno) => Err(errno.into()),
    }
}

fn in_use(socket: &Path) -> Error {
    Error::new(
        ErrorKind::AddrInUse,
        format!("another server is live on {}", socket.display()),
    )
}

async fn refuse_live_or_foreign(socket: &Path) -> Result<()> {
    match std::fs::symlink_metadata(socket) {
        Ok(metadata) if metadata.file_type().is_socket() => match UnixStream::connect(socket).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Ok(_) => Err(in_use(socket)),
            Err(error) => Err(error),
        },
        Ok(_) => Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("{} exists and is no socket", socket.display()),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Binds below a directory that only we can enter, narrows the socket's mode there, and moves it to its name.
#[allow(clippy::disallowed_methods)] // a socket is not durable: nothing to sync
fn bind_privately(directory: &Path, socket: &Path) -> Result<UnixListener> {
    let private = directory.join(format!(".{}", crate::random::base36(4)));
    DirBuilder::new().mode(0o700).create(&private)?;
    let inside = private.join("s");
    let bound = UnixListener::bind(&inside).and_then(|listener| {
        std::fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
        std::fs::rename(&inside, socket)?;
        Ok(listener)
    });
    if bound.is_err() {
        // Already an error to report: a left-over socket would only keep the directory from going.
        let _gone = std::fs::remove_file(&inside);
    }
    std::fs::remove_dir(&private)?;
    bound
}
