//! Readiness: a daemon counts as up when it says so itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use daemon::unix_http::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::UpError;
use super::child::{Child, tail};

/// How long a daemon may take: a first start makes keys, probes the store and tries KVM.
const WITHIN: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);
/// A daemon that ends this often before it was ever ready will not become ready.
const ENDS_MAX: u32 = 4;

/// Waits until the daemon's health endpoint answers.
pub(super) async fn wait_healthy(
    child: Option<&Child>,
    socket: &Path,
    shutdown: &CancellationToken,
) -> Result<(), UpError> {
    let client = Client::new(socket).with_timeout(Duration::from_secs(5));
    wait(child, shutdown, async || {
        client.get::<Value>("/v1/health").await.is_ok()
    })
    .await
}

/// Waits until something listens on the address.
pub(super) async fn wait_listening(
    child: Option<&Child>,
    address: SocketAddr,
    shutdown: &CancellationToken,
) -> Result<(), UpError> {
    wait(child, shutdown, async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await
}

async fn wait(
    child: Option<&Child>,
    shutdown: &CancellationToken,
    is_ready: impl AsyncFn() -> bool,
) -> Result<(), UpError> {
    let ends_before = child.map_or(0, Child::ends);
    let name = child.map(|child| child.name().to_owned()).unwrap_or_default();
    let log = child.map(|child| child.log().to_owned()).unwrap_or_default();
    let ready = async {
        while !is_ready().await {
            if child.is_some_and(|child| child.ends() >= ends_before + ENDS_MAX) {
                let tail = tail(&log);
                return Err(UpError::DoesNotStart {
                    name: name.clone(),
                    log: log.clone(),
                    tail,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::select! {
        () = shutdown.cancelled() => Err(UpError::Stopped),
        result = tokio::time::timeout(WITHIN, ready) => match result {
            Ok(result) => result,
            Err(_) => {
                let tail = tail(&log);
                Err(UpError::NotReady { name, log, tail })
            }
        }
    }
}
