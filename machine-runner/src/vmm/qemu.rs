//! The QEMU back end: one process, driven over QMP. Sockets and files are relative to the working directory,
//! which is the machine's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::argv::{Boot, OVERLAY_FILE, QMP_SOCKET, RAM_IN_SOCKET, SWAP_FILE, volume_file_node, volume_node};
use self::nbd::Disk;
use super::qmp::{Qmp, QmpError, QmpEvent};
use super::spec::VmSpec;
use super::{Capabilities, SavedImage, VmStatus, Vmm, VmmError};

pub mod argv;
mod jobs;
mod nbd;
mod ram;

/// What QEMU writes to its standard error, in the machine's directory.
pub const QEMU_LOG: &str = "qemu.log";
/// Time until QEMU's control socket must answer. Generous: many may start at once on few cores.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// How a QEMU process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessExit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// A QEMU process and its control connection.
#[derive(Debug)]
pub struct Qemu {
    qmp: Qmp,
    disks: Vec<Disk>,
    pid: u32,
    exit: watch::Receiver<Option<ProcessExit>>,
    copied: tokio::sync::Mutex<BTreeSet<String>>,
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> VmmError {
    move |source| VmmError::Io { what, source }
}

impl Qemu {
    /// Starts QEMU for a cold boot: scratch disks are made afresh; the guest's processors run.
    ///
    /// # Errors
    /// [`VmmError`] when QEMU does not come up; its own words are in it.
    pub async fn boot(spec: &VmSpec) -> Result<Self, VmmError> {
        fresh_scratch(OVERLAY_FILE, spec.overlay_bytes).map_err(io("make the overlay's file"))?;
        if spec.swap_bytes > 0 {
            fresh_scratch(SWAP_FILE, spec.swap_bytes).map_err(io("make the swap file"))?;
        }
        Self::spawn(spec, Boot::Cold).await
    }

    /// Starts QEMU and reads a RAM image back. The guest's processors stand still until [`Vmm::cont`].
    ///
    /// # Errors
    /// [`VmmError`] when QEMU does not come up, or the image is not the one that was saved.
    pub async fn resume(spec: &VmSpec, image: &Path, saved: &SavedImage) -> Result<Self, VmmError> {
        let qemu = Self::spawn(spec, Boot::Incoming).await?;
        ram::feed(Path::new(RAM_IN_SOCKET), image, saved).await?;
        qemu.wait_for_memory().await?;
        Ok(qemu)
    }

    async fn spawn(spec: &VmSpec, boot: Boot) -> Result<Self, VmmError> {
        for socket in [QMP_SOCKET, argv::AGENT_SOCKET, argv::LOG_SOCKET, RAM_IN_SOCKET] {
            match std::fs::remove_file(socket) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io("remove a stale socket")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // The descriptors are inherited by QEMU, which reads the passphrases from them while it starts.
        let keys = spec
            .volumes
            .iter()
            .map(|volume| volume.passphrase.as_deref().map(key_in_memory).transpose());
        let keys = keys
            .collect::<Result<Vec<_>, _>>()
            .map_err(io("hand a volume's passphrase over"))?;
        let paths: Vec<_> = keys
            .iter()
            .map(|key| key.as_ref().map(|key| format!("/dev/fd/{}", key.as_raw_fd())))
            .collect();
        let log = File::create(QEMU_LOG).map_err(io("open qemu's log"))?;
        let mut command = tokio::process::Command::new(&spec.qemu);
        command
            .args(argv::argv(spec, &paths, boot))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(io("start qemu"))?;
        let pid = child.id().unwrap_or(0);
        let (exited, exit) = watch::channel(None);
        let reaper = async move {
            use std::os::unix::process::ExitStatusExt as _;
            let status = child.wait().await.ok();
            let code = status.and_then(|status| status.code());
            let signal = status.and_then(|status| status.signal());
            exited.send_replace(Some(ProcessExit { code, signal }));
        };
        daemon::spawn("qemu_reaper", reaper);
        let qmp = connect(&exit).await?;
        drop(keys);
        let disks = spec.volumes.iter().map(Disk::of).collect();
        Ok(Self {
            qmp,
            disks,
            pid,
            exit,
            copied: tokio::sync::Mutex::new(BTreeSet::new()),
        })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// QEMU's events from now on.
    #[must_use]
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<QmpEvent> {
        self.qmp.events()
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) -> ProcessExit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| exit.clone()).unwrap_or(ProcessExit {
            code: None,
            signal: None,
        })
    }

    /// Breaks a running [`Vmm::save`] off.
    ///
    /// # Errors
    /// [`VmmError`] when QEMU does not answer.
    pub async fn cancel_save(&self) -> Result<(), VmmError> {
        self.qmp.execute("migrate_cancel", json!({})).await?;
        Ok(())
    }

    fn disk_index(&self, serial: &str) -> Result<usize, VmmError> {
        let index = self.disks.iter().position(|disk| disk.serial == serial);
        index.ok_or_else(|| VmmError::UnknownDisk {
            serial: serial.to_owned(),
        })
    }

    async fn node_bytes(&self, node: &str) -> Result<u64, VmmError> {
        let nodes = self
            .qmp
            .execute("query-named-block-nodes", json!({"flat": true}))
            .await?;
        let found = nodes
            .as_array()
            .into_iter()
            .flatten()
            .find(|entry| entry["node-name"] == *node);
        found
            .and_then(|entry| entry["image"]["virtual-size"].as_u64())
            .ok_or_else(|| VmmError::Job {
                what: "read a disk's size",
                reason: format!("no node {node}"),
            })
    }

    async fn wait_for_memory(&self) -> Result<(), VmmError> {
        const LIMIT: Duration = Duration::from_secs(120);
        let waiting = async {
            loop {
                let status = self.qmp.execute("query-status", json!({})).await?;
                if status["status"] != "inmigrate" {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let result = tokio::time::timeout(LIMIT, waiting).await;
        result.map_err(|_| VmmError::Timeout {
            what: "reading the memory back",
            limit: LIMIT,
        })?
    }
}

/// A sparse, empty file of the given size.
fn fresh_scratch(path: &str, bytes: u64) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::options()
        .write(true)
        .create_new(true)
        .open(path)?
        .set_len(bytes)
}

/// An anonymous file in memory, inherited by child processes.
fn key_in_memory(passphrase: &str) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("key", rustix::fs::MemfdFlags::empty())?;
    let mut file = File::from(fd);
    file.write_all(passphrase.as_bytes())?;
    Ok(file.into())
}

async fn connect(exit: &watch::Receiver<Option<ProcessExit>>) -> Result<Qmp, VmmError> {
    let mut ended = exit.clone();
    let connecting = async {
        loop {
            match Qmp::connect(Path::new(QMP_SOCKET)).await {
                Ok(qmp) => return Ok(qmp),
                // The socket is not there yet, or not listened to yet.
                Err(QmpError::Io { .. }) => tokio::time::sleep(POLL).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    tokio::select! {
        result = tokio::time::timeout(START_LIMIT, connecting) => {
            result.map_err(|_| VmmError::Timeout { what: "qemu's start", limit: START_LIMIT })?
        }
        status = ended.wait_for(Option::is_some) => {
            let status = status.ok().and_then(|status| status.clone());
            let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            Err(VmmError::Ended { status, words: last_words() })
        }
    }
}

/// The end of what QEMU wrote to its standard error.
#[must_use]
pub fn last_words() -> String {
    let text = std::fs::read_to_string(QEMU_LOG).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

#[async_trait]
impl Vmm for Qemu {
    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn status(&self) -> Result<VmStatus, VmmError> {
        if self.exit.borrow().is_some() {
            return Ok(VmStatus::Ended);
        }
        let status = self.qmp.execute("query-status", json!({})).await?;
        Ok(if status["running"] == true {
            VmStatus::Running
        } else {
            VmStatus::Paused
        })
    }

    async fn pause(&self) -> Result<(), VmmError> {
        self.qmp.execute("stop", json!({})).await?;
        Ok(())
    }

    async fn cont(&self) -> Result<(), VmmError> {
        self.qmp.execute("cont", json!({})).await?;
        Ok(())
    }

    async fn resize_disk(&self, serial: &str, size_bytes: u64) -> Result<(), VmmError> {
        let index = self.disk_index(serial)?;
        let node = volume_node(index);
        let now_bytes = self.node_bytes(&node).await?;
        // QEMU would shrink a mounted disk without a word.
        if size_bytes < now_bytes {
            return Err(VmmError::Shrink {
                serial: serial.to_owned(),
                now_bytes,
                wanted_bytes: size_bytes,
            });
        }
        if let Some(export) = &self.disks[index].export {
            self.reconnect(index, export, size_bytes).await?;
        }
        self.qmp
            .execute("block_resize", json!({"node-name": node, "size": size_bytes}))
            .await?;
        Ok(())
    }

    async fn copy_disk(
        &self,
        serial: &str,
        target: &Path,
        copy_id: &str,
        given_up: &CancellationToken,
    ) -> Result<(), VmmError> {
        let source = volume_file_node(self.disk_index(serial)?);
        let mut copied = self.copied.lock().await;
        if copied.contains(copy_id) {
            return Ok(());
        }
        if given_up.is_cancelled() {
            return Err(VmmError::Job {
                what: "copy a disk",
                reason: "nobody waits for it any more".to_owned(),
            });
        }
        jobs::backup(&self.qmp, &source, target, given_up).await?;
        copied.insert(copy_id.to_owned());
        Ok(())
    }

    async fn save(&self, path: &Path) -> Result<SavedImage, VmmError> {
        ram::save(&self.qmp, path).await
    }

    async fn quit(&self) -> Result<(), VmmError> {
        match self.qmp.execute("quit", json!({})).await {
            // It may be gone before it has answered.
            Ok(_) | Err(QmpError::Gone { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What QEMU can do as it is used here.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities {
        live_grow: true,
        live_grow_vhost_user: true,
        discard: true,
        live_copy: true,
        suspend: true,
        // The small board has no slot for it; the guest would never see the disk.
        hot_add: false,
        panic_event: false,
    }
}
