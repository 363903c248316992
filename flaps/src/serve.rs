//! The daemon: catalog, root token, both listeners, and what goes on in the background.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::wall_clock::{SystemClock, WallClock};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::config::{Config, InvalidConfig, RawConfig};
use crate::store::{Store, StoreError};
use crate::token;

/// Why the daemon could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration file could not be read.
    #[error(transparent)]
    ConfigFile(#[from] daemon::config_file::ConfigError),
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The catalog could not be opened.
    #[error("open catalog {path}")]
    Catalog {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The root token could not be read or made.
    #[error("root token file {path}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address could not be taken.
    #[error("listen on {address}; another node may be running: give this one another `listen` address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file that tells others about us could not be written.
    #[error("write {path}")]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A listener broke.
    #[error("serve")]
    Serve(#[source] io::Error),
}

/// Runs flaps with the configuration file at `config` until `shutdown`.
///
/// # Errors
/// [`ServeError`], when it cannot begin or a listener breaks.
pub async fn run(config: &Path, shutdown: CancellationToken) -> Result<(), ServeError> {
    let raw: RawConfig = daemon::config_file::load(config)?;
    let config = Config::try_from(raw)?;
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let catalog = config.catalog.clone();
    let failed = |source| ServeError::Catalog {
        path: catalog.clone(),
        source,
    };
    prepare_directory(&config.catalog)?;
    let store = Store::open(&config.catalog).map_err(failed)?;
    restrict(&config.catalog)?;
    let root = root_token(&config.token_file).map_err(|source| ServeError::Token {
        path: config.token_file.clone(),
        source,
    })?;
    store
        .set_root_token(token::hash(&root), clock.now())
        .await
        .map_err(failed)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: config.listen,
            source,
        })?;
    let address = listener.local_addr().map_err(ServeError::Serve)?;
    let socket = config.socket.clone();
    let address_file = config.address_file.clone();
    let api = Api::new(config, store, clock).await.map_err(failed)?;
    let router = api::router(api.clone());
    let resume = daemon::spawn("resume-destroys", api::resume_destroys(api, shutdown.clone()));
    if let Some(path) = address_file {
        write_private(&path, &format!("{address}\n")).map_err(|source| ServeError::AddressFile {
            path: path.clone(),
            source,
        })?;
    }
    tracing::info!(%address, socket = %socket.display(), "serving the Machines API");
    let stop = shutdown.clone();
    let tcp = daemon::spawn("tcp-listener", {
        let router = router.clone();
        async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        }
    });
    let unix = daemon::unix_http::serve(&socket, router, shutdown.clone()).await;
    // One listener without the other is half a node: end both.
    shutdown.cancel();
    unix.map_err(ServeError::Serve)?;
    tokio::time::timeout(DRAIN, tcp)
        .await
        .unwrap_or(Ok(Ok(())))
        .unwrap_or(Ok(()))
        .map_err(ServeError::Serve)?;
    resume.abort();
    Ok(())
}

/// How long open TCP requests (long waits, followed logs) may take to end before they are cut.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(3);

fn prepare_directory(file: &Path) -> Result<(), ServeError> {
    let Some(directory) = file.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(directory).map_err(|source| ServeError::AddressFile {
        path: directory.to_owned(),
        source,
    })
}

/// The catalog holds secrets: nobody else may read it.
fn restrict(catalog: &Path) -> Result<(), ServeError> {
    std::fs::set_permissions(catalog, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        ServeError::AddressFile {
            path: catalog.to_owned(),
            source,
        }
    })
}

/// Reads the root token, or makes one (0600) when there is none. An empty file counts as none.
fn root_token(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = token::generate();
    write_private(path, &format!("{token}\n"))?;
    Ok(token)
}

/// Writes a small file whole or not at all, mode 0600.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    crashsafe::write_atomic(
        &crashsafe::RealDisk,
        "flaps:write_private",
        path,
        text.as_bytes(),
        0o600,
    )
}
