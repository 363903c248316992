//! volumed, as the runner needs it: attachments, and reports about file systems.

use std::path::{Path, PathBuf};

use daemon::unix_http::{CallError, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::machine_config::AutoExtend;

/// An attachment of a volume to a machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Attachment {
    /// The volume.
    pub volume: VolumeView,
    /// Fencing number: whoever holds an older one is refused.
    pub generation: u64,
    /// Size that the guest is to see, in bytes.
    pub size_bytes: u64,
    /// Whether the volume was never formatted.
    pub format_allowed: bool,
    /// Where its bytes are.
    pub device: Device,
}

/// What is used of a volume's record.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct VolumeView {
    /// Id.
    pub id: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Size in GiB.
    #[serde(default)]
    pub size_gb: u64,
    /// Whether it is encrypted at rest.
    #[serde(default)]
    pub encrypted: bool,
    /// `ext4` or `xfs`.
    #[serde(default)]
    pub fstype: Option<String>,
}

/// Where a volume's bytes are.
#[derive(Clone, Deserialize)]
pub struct Device {
    /// File or block device; the socket of an NBD server when the format is `nbd`.
    pub path: PathBuf,
    /// `raw`, `luks` or `nbd`.
    pub format: String,
    /// Name of the volume at the NBD server.
    #[serde(default)]
    pub export: Option<String>,
    /// Passphrase of a LUKS volume.
    #[serde(default)]
    pub passphrase: Option<String>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("path", &self.path)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// What a guest said about a volume's file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Who reports.
    pub machine_id: String,
    /// Under which attachment.
    pub generation: u64,
    /// The guest has formatted the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formatted: Option<bool>,
    /// File system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fstype: Option<String>,
    /// Bytes per block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
    /// Blocks in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// Free blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_free: Option<u64>,
    /// Free blocks for users other than root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_avail: Option<u64>,
    /// Size of the file system, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Used of it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_used: Option<u64>,
    /// How the volume is to grow by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_extend: Option<AutoExtend>,
}

/// Client of volumed.
#[derive(Clone, Debug)]
pub struct Volumes {
    client: Client,
}

impl Volumes {
    /// A client of the volumed behind `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            client: Client::new(socket),
        }
    }

    /// Attaches a volume; the same machine again gets the same answer.
    ///
    /// # Errors
    /// [`CallError`]; 412 when another machine has it, 404 when there is none.
    pub async fn attach(&self, volume: &str, machine: &str) -> Result<Attachment, CallError> {
        self.client
            .post(
                &format!("/v1/volumes/{volume}/attach"),
                &json!({"machine_id": machine}),
            )
            .await
    }

    /// The present attachment of a volume.
    ///
    /// # Errors
    /// [`CallError`]; 404 when it is not attached.
    pub async fn attachment(&self, volume: &str) -> Result<Attachment, CallError> {
        self.client.get(&format!("/v1/volumes/{volume}/attachment")).await
    }

    /// Detaches a volume. One that is gone, or was attached anew since, is no error: it is not ours any more.
    ///
    /// # Errors
    /// [`CallError`] of every other kind.
    pub async fn detach(&self, volume: &str, machine: &str, generation: u64) -> Result<(), CallError> {
        let body = json!({"machine_id": machine, "generation": generation});
        let answer: Result<serde_json::Value, _> = self
            .client
            .post(&format!("/v1/volumes/{volume}/detach"), &body)
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Passes on what a guest said about a file system.
    ///
    /// # Errors
    /// [`CallError`]; 409 for a stale generation.
    pub async fn report(&self, volume: &str, report: &Report) -> Result<(), CallError> {
        let _answer: serde_json::Value = self
            .client
            .post(&format!("/v1/volumes/{volume}/report"), report)
            .await?;
        Ok(())
    }
}
