//! The child process.

use std::process::ExitCode;
use std::sync::Arc;

use crashsafe::RealDisk;
use s3_endpoint::{Endpoint, EndpointConfig, Listener, OpenError};
use tokio_util::sync::CancellationToken;

use super::BUCKET;
use crate::cli::up::S3ServeArgs;

/// Why the embedded store does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ServeError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address could not be taken.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("serve")]
    Serve(#[source] std::io::Error),
}

/// Serves the embedded store until SIGTERM.
pub fn main(arguments: S3ServeArgs) -> ExitCode {
    daemon::run("s3", async move |context| run(&arguments, context.shutdown).await)
}

async fn run(arguments: &S3ServeArgs, shutdown: CancellationToken) -> Result<(), ServeError> {
    let endpoint = Endpoint::open(
        EndpointConfig::new(&arguments.directory, BUCKET),
        Arc::new(RealDisk),
    )?;
    let listener = tokio::net::TcpListener::bind(&arguments.listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: arguments.listen.clone(),
            source,
        })?;
    endpoint
        .serve(Listener::Tcp(listener), shutdown)
        .await
        .map_err(ServeError::Serve)
}
