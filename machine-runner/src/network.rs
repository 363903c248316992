//! App networks on this host: a directory, a switch process and a port file each.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crashsafe::RealDisk;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::ids::MachineId;
use crate::shim::facts::ProcessRef;
use crate::switch::address::mac_of;
use crate::switch::{PortFile, SwitchError, add_port, qemu_netdev, remove_port};
use crate::vmm::qemu::argv::APP_NETDEV;
use crate::vmm::spec::AppNic;

const PROCESS_FILE: &str = "process.json";

/// Why a machine is not on its network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A file or process.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The switch.
    #[error("app network's switch")]
    Switch(#[from] SwitchError),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> NetworkError {
    move |source| NetworkError::Io { what, source }
}

/// The app networks of this host.
#[derive(Debug)]
pub struct Networks {
    config: Config,
    program: PathBuf,
    starting: tokio::sync::Mutex<()>,
    shutdown: CancellationToken,
}

impl Networks {
    /// Networks below the configured directory; `program` is what switches are started from.
    #[must_use]
    pub fn new(config: Config, program: PathBuf, shutdown: CancellationToken) -> Self {
        Self {
            config,
            program,
            starting: tokio::sync::Mutex::new(()),
            shutdown,
        }
    }

    /// Gives a machine a port, and sees that the switch runs.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn plug(
        &self,
        number: u32,
        id: &MachineId,
        address: std::net::Ipv6Addr,
    ) -> Result<AppNic, NetworkError> {
        let dir = self.config.network_dir(number);
        std::fs::create_dir_all(&dir).map_err(io("make the network's directory"))?;
        let mac = mac_of(id.as_str());
        let port = PortFile {
            mac,
            addresses: vec![address],
            switch_socket: dir.join(format!("{id}.sw")),
            guest_socket: dir.join(format!("{id}.vm")),
        };
        // A former QEMU leaves its socket behind, and the next one cannot bind over it.
        match std::fs::remove_file(&port.guest_socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("remove a stale socket")(error));
            }
            Ok(()) | Err(_) => {}
        }
        add_port(&dir, id.as_str(), &port)?;
        self.ensure_switch(&dir).await?;
        Ok(AppNic {
            mac: mac.to_string(),
            netdev: qemu_netdev(APP_NETDEV, &port),
        })
    }

    /// Takes a machine's port away.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn unplug(&self, number: u32, id: &MachineId) -> Result<(), NetworkError> {
        let dir = self.config.network_dir(number);
        if dir.exists() {
            remove_port(&dir, id.as_str())?;
        }
        Ok(())
    }

    /// Sees that a network's switch runs; called at each start of a machine and when the daemon comes back.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn ensure_switch(&self, dir: &Path) -> Result<(), NetworkError> {
        let _one_at_a_time = self.starting.lock().await;
        if running(dir).is_some() {
            return Ok(());
        }
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join("switch.log"));
        let log = log.map_err(io("open the switch's log"))?;
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("switch")
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // A group of its own, so that a key press that ends the daemon does not end it.
        command.process_group(0).kill_on_drop(false);
        let mut child = command.spawn().map_err(io("start the switch"))?;
        let process = child.id().and_then(ProcessRef::of);
        let reaping = async move { drop(child.wait().await) };
        daemon::spawn(
            "switch_reaper",
            self.shutdown.clone().run_until_cancelled_owned(reaping),
        );
        let text = serde_json::to_vec(&process)
            .map_err(std::io::Error::other)
            .map_err(io("note the switch"))?;
        crashsafe::write_atomic(
            &RealDisk,
            "network:process",
            &dir.join(PROCESS_FILE),
            &text,
            0o600,
        )
        .map_err(io("note the switch"))
    }

    /// Ends the switch of a network in which nothing runs now; the next [`Networks::plug`] starts it again.
    pub async fn rest(&self, number: u32) {
        let _one_at_a_time = self.starting.lock().await;
        if let Some(process) = running(&self.config.network_dir(number)) {
            terminate(process, rustix::process::Signal::TERM);
        }
    }

    /// Ends the switch of a network without machines and forgets its directory.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn retire(&self, number: u32) -> Result<(), NetworkError> {
        let _one_at_a_time = self.starting.lock().await;
        let dir = self.config.network_dir(number);
        if let Some(process) = running(&dir) {
            terminate(process, rustix::process::Signal::TERM);
        }
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove the network")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn running(dir: &Path) -> Option<ProcessRef> {
    let text = std::fs::read(dir.join(PROCESS_FILE)).ok()?;
    let process: Option<ProcessRef> = serde_json::from_slice(&text).ok()?;
    process.filter(|process| process.is_alive())
}

/// Sends a signal to a process whose identity was checked.
pub(crate) fn terminate(process: ProcessRef, signal: rustix::process::Signal) {
    let pid = i32::try_from(process.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::debug!(pid = process.pid, %error, "the process was gone already");
    }
}
