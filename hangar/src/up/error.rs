//! Why a node did not come up.

use std::path::{Path, PathBuf};

/// Why `hangar up` ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// Another `hangar up` has the data directory.
    #[error(
        "this data directory is in use: stop the other `hangar up` first, or choose another directory with --data"
    )]
    Locked(#[source] crashsafe::LockError),
    /// The system does not say where this program lies.
    #[error("find the own program")]
    OwnPath(#[source] std::io::Error),
    /// A daemon's program is not beside ours.
    #[error("{} is missing: `hangar up` needs volumed, machine-runner and flaps beside itself", path.display())]
    ProgramMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Sockets would not fit.
    #[error("the path {} is {excess} bytes too long for the sockets below it; choose a shorter one with --data", data.display())]
    PathTooLong {
        /// The data directory.
        data: PathBuf,
        /// By how many bytes.
        excess: usize,
    },
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] daemon::config_file::ConfigError),
    /// A configuration could not be written as TOML.
    #[error("write configuration {}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Why.
        source: toml::ser::Error,
    },
    /// A file could not be used.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No free address for the embedded object store.
    #[error("listen on {address} for the embedded object store; set another s3_listen in node.toml")]
    StoreAddress {
        /// As configured.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded store's credentials could not be made.
    #[error("credentials of the embedded object store")]
    Credentials(#[source] s3_endpoint::CredentialsError),
    /// A child ends again and again.
    #[error("{name} does not start; the end of {}:\n{tail}", log.display())]
    DoesNotStart {
        /// The daemon.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A child runs and does not answer.
    #[error("{name} did not become ready in time; the end of {}:\n{tail}", log.display())]
    NotReady {
        /// The daemon.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Left over by a killed `hangar up`, and not to be got rid of.
    #[error("process {pid} ({name}) of an earlier `hangar up` does not end; end it by hand")]
    Orphan {
        /// The daemon.
        name: String,
        /// Its process.
        pid: i32,
    },
    /// flaps wrote something else than an address.
    #[error("flaps wrote the address {text:?}")]
    Address {
        /// What it wrote.
        text: String,
    },
    /// Standard output is closed.
    #[error("tell that the node is ready")]
    Announce(#[source] std::io::Error),
    /// SIGTERM or SIGINT came before the node was ready. Not an error.
    #[error("stopped before it was ready")]
    Stopped,
}

impl UpError {
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
