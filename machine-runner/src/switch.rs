//! The network of one app on this host: a switch between its machines, and nobody else.
//!
//! `machine-runner switch --dir DIR` is one process for one network. Each port is a file `DIR/ports/<machine id>.json`
//! and a pair of Unix datagram sockets: QEMU (`-netdev dgram`) sends to one and listens on the other. Datagrams name
//! their receiver by path each time, so that switch and guests may stop and start in any order, and no state is worth
//! keeping: a killed switch reads the directory again and goes on.
//!
//! What may pass is decided by the pure [`engine`]; networks are apart because their processes are.

pub mod address;
mod driver;
pub mod engine;
pub mod frame;

use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crashsafe::{Disk, RealDisk};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use address::Mac;
use driver::Driver;

/// The longest path of a Unix socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A machine's place on its network, as `DIR/ports/<machine id>.json` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortFile {
    /// The machine's card.
    pub mac: Mac,
    /// The addresses that the machine may send from, besides the card's link-local one.
    pub addresses: Vec<Ipv6Addr>,
    /// Where the switch listens for this machine: the `remote.path` of QEMU.
    pub switch_socket: PathBuf,
    /// Where QEMU listens: its `local.path`.
    pub guest_socket: PathBuf,
}

/// Why a switch does not run, or a port was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// A file or directory.
    #[error("{}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The directory belongs to another switch that is alive.
    #[error(transparent)]
    Lock(#[from] crashsafe::LockError),
    /// A path that no socket can have.
    #[error("{} is too long for a socket: {SOCKET_PATH_BYTES_MAX} bytes are the limit", path.display())]
    SocketPath { path: PathBuf },
    /// A name that is no file name.
    #[error("{name:?} is not the id of a machine")]
    Name { name: String },
}

impl SwitchError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Runs the switch of the network at `dir` until `shutdown`.
///
/// `GET /v1/ports` on `dir/control.sock` lists the ports with their counters.
///
/// # Errors
/// [`SwitchError`], when it cannot start or loses sight of its directory.
pub async fn run(dir: &Path, shutdown: CancellationToken) -> Result<(), SwitchError> {
    Driver::start(dir, shutdown)?.run().await
}

/// Adds a port, or changes it; the switch notices by itself, now or when it next starts.
///
/// # Errors
/// [`SwitchError`].
pub fn add_port(dir: &Path, machine_id: &str, port: &PortFile) -> Result<(), SwitchError> {
    for path in [&port.switch_socket, &port.guest_socket] {
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(SwitchError::SocketPath { path: path.clone() });
        }
    }
    let path = port_path(dir, machine_id)?;
    let ports = ports_dir(dir);
    RealDisk
        .create_dir_all("switch:add", &ports)
        .map_err(SwitchError::io(&ports))?;
    let bytes = serde_json::to_vec_pretty(port)
        .map_err(io::Error::other)
        .map_err(SwitchError::io(&path))?;
    crashsafe::write_atomic(&RealDisk, "switch:add", &path, &bytes, 0o600).map_err(SwitchError::io(&path))
}

/// Removes a port; nothing happens when there is none.
///
/// # Errors
/// [`SwitchError`].
pub fn remove_port(dir: &Path, machine_id: &str) -> Result<(), SwitchError> {
    let path = port_path(dir, machine_id)?;
    match RealDisk.remove_file("switch:remove", &path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SwitchError::Io { path, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns QEMU's `-netdev` option for a port.
///
/// * `id`: the name by which the network card refers to it.
#[must_use]
pub fn qemu_netdev(id: &str, port: &PortFile) -> String {
    // A comma in a value is doubled.
    let path = |path: &Path| path.display().to_string().replace(',', ",,");
    let (guest, switch) = (path(&port.guest_socket), path(&port.switch_socket));
    format!("dgram,id={id},local.type=unix,local.path={guest},remote.type=unix,remote.path={switch}")
}

fn ports_dir(dir: &Path) -> PathBuf {
    dir.join("ports")
}

fn port_path(dir: &Path, machine_id: &str) -> Result<PathBuf, SwitchError> {
    let is_name =
        !machine_id.is_empty() && machine_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_name {
        Ok(ports_dir(dir).join(format!("{machine_id}.json")))
    } else {
        Err(SwitchError::Name {
            name: machine_id.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
