//! volumed's side of machine-runner's API: what a running guest must be told.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use daemon::unix_http::{CallError, Client};
use serde::{Deserialize, Serialize};

/// A grow of a volume that a machine holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrowRequest {
    /// Who holds it.
    pub machine_id: String,
    /// In which generation.
    pub generation: u64,
    /// The new size as the guest sees it.
    pub size_bytes: u64,
}

/// What became of a grow in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GrowAnswer {
    /// Size of the file system afterwards; none when there is none.
    #[serde(default)]
    pub fs_bytes: Option<u64>,
    /// The guest grows its file system only at the next start.
    #[serde(default)]
    pub needs_restart: bool,
    /// The machine is not running.
    #[serde(default)]
    pub detached_guest: bool,
}

/// A copy of a volume's raw file at one point in time, while a machine writes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyRequest {
    /// Who holds it.
    pub machine_id: String,
    /// In which generation.
    pub generation: u64,
    /// Names this attempt; the same id is the same copy.
    pub copy_id: String,
    /// An empty file of the raw length, to be filled.
    pub target_path: PathBuf,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct CopyAnswer {
    /// The machine is not running and will not start before it has asked for the attachment again: nothing was
    /// copied, the caller may.
    #[serde(default)]
    pub detached_guest: bool,
}

/// Why machine-runner did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// It does not answer.
    #[error("machine-runner does not answer")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refused.
    #[error("machine-runner refused with status {status}: {sentence}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its sentence.
        sentence: String,
    },
}

/// The daemon that runs machines.
#[async_trait]
pub trait MachineRunner: Send + Sync + Debug {
    /// Tells the guest of a larger device and has it grow its file system.
    async fn grow(&self, volume_id: &str, request: &GrowRequest) -> Result<GrowAnswer, RunnerError>;

    /// Copies the raw file of a volume in use, at one point in time.
    async fn copy(&self, volume_id: &str, request: &CopyRequest) -> Result<CopyAnswer, RunnerError>;
}

/// Over its Unix socket.
#[derive(Clone, Debug)]
pub struct SocketRunner {
    client: Client,
}

/// A guest may need a while to grow a file system under load.
const GROW_TIMEOUT: Duration = Duration::from_secs(120);
/// A copy takes as long as the volume is large.
const COPY_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

impl SocketRunner {
    /// Calls the daemon at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            client: Client::new(socket),
        }
    }
}

fn refused(error: CallError) -> RunnerError {
    match error {
        CallError::Status { status, error, .. } => RunnerError::Refused {
            status,
            sentence: error,
        },
        other => RunnerError::Unreachable(Box::new(other)),
    }
}

#[async_trait]
impl MachineRunner for SocketRunner {
    async fn grow(&self, volume_id: &str, request: &GrowRequest) -> Result<GrowAnswer, RunnerError> {
        let client = self.client.clone().with_timeout(GROW_TIMEOUT);
        client
            .post(&format!("/v1/volumes/{volume_id}/grow"), request)
            .await
            .map_err(refused)
    }

    async fn copy(&self, volume_id: &str, request: &CopyRequest) -> Result<CopyAnswer, RunnerError> {
        let client = self.client.clone().with_timeout(COPY_TIMEOUT);
        client
            .post(&format!("/v1/volumes/{volume_id}/copy"), request)
            .await
            .map_err(refused)
    }
}
