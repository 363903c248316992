//! Finding devices by what is written on them, and waiting for the kernel to show them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Longest wait for a device or a size that the host has announced.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// It did not show up in time.
    #[error("no device with serial {serial:?} after {WAIT:?}")]
    Missing { serial: String },
    /// It did not reach its size in time.
    #[error("device {serial:?} has {bytes} bytes, {wanted_bytes} were announced")]
    TooSmall {
        serial: String,
        bytes: u64,
        wanted_bytes: u64,
    },
    /// The kernel's device messages cannot be read.
    #[error("listen for device events")]
    Listen(#[source] io::Error),
}

/// A block device of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    /// The kernel's name, `vdb`.
    pub(crate) name: String,
}

impl BlockDevice {
    /// Returns the device's node.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Returns the device's size now, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let sectors = fs::read_to_string(Path::new("/sys/block").join(&self.name).join("size"));
        sectors
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(0)
            * 512
    }
}

/// Waits for the block device with this serial.
pub(crate) async fn block_device(serial: &str) -> Result<BlockDevice, DeviceError> {
    let found = until(|| find_block_device(serial)).await?;
    found.ok_or_else(|| DeviceError::Missing {
        serial: serial.to_owned(),
    })
}

/// Waits until a device has at least `wanted_bytes`; returns its size.
pub(crate) async fn size_reached(
    device: &BlockDevice,
    serial: &str,
    wanted_bytes: u64,
) -> Result<u64, DeviceError> {
    let reached = until(|| Some(device.bytes()).filter(|bytes| *bytes >= wanted_bytes)).await?;
    reached.ok_or_else(|| DeviceError::TooSmall {
        serial: serial.to_owned(),
        bytes: device.bytes(),
        wanted_bytes,
    })
}

/// Waits for the virtio-serial port of this name; returns its node.
pub(crate) async fn port(name: &str) -> Result<PathBuf, DeviceError> {
    let found = until(|| find_port(name)).await?;
    found.ok_or_else(|| DeviceError::Missing {
        serial: name.to_owned(),
    })
}

/// Waits for the network interface with this MAC address; returns its name.
pub(crate) async fn interface(mac: &str) -> Result<String, DeviceError> {
    let mac = mac.to_lowercase();
    let found = until(|| find_by_attribute(Path::new("/sys/class/net"), "address", &mac)).await?;
    found.ok_or(DeviceError::Missing { serial: mac })
}

/// Looks again after each event of the kernel, for [`WAIT`] at most.
async fn until<T>(look: impl Fn() -> Option<T>) -> Result<Option<T>, DeviceError> {
    // Listening starts before the first look, so that nothing falls between the two.
    let listener = Listener::new().map_err(DeviceError::Listen)?;
    let search = async {
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            listener.event().await?;
        }
    };
    match tokio::time::timeout(WAIT, search).await {
        Ok(found) => found.map(Some).map_err(DeviceError::Listen),
        Err(_) => Ok(look()),
    }
}

fn find_block_device(serial: &str) -> Option<BlockDevice> {
    find_by_attribute(Path::new("/sys/block"), "serial", serial).map(|name| BlockDevice { name })
}

fn find_port(name: &str) -> Option<PathBuf> {
    let node = find_by_attribute(Path::new("/sys/class/virtio-ports"), "name", name)?;
    Some(Path::new("/dev").join(node)).filter(|path| path.exists())
}

fn find_by_attribute(dir: &Path, attribute: &str, value: &str) -> Option<String> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let text = fs::read_to_string(entry.path().join(attribute)).unwrap_or_default();
        if text.trim_end_matches(['\n', '\0']) == value {
            return Some(entry.file_name().to_string_lossy().into_owned());
        }
    }
    None
}

/// The kernel's device events.
struct Listener(AsyncFd<std::os::fd::OwnedFd>);

impl Listener {
    fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // Group 1: the kernel itself.
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
        Ok(Self(sys::watch(socket, Interest::READABLE)?))
    }

    /// Returns after at least one event.
    async fn event(&self) -> io::Result<()> {
        let mut seen = false;
        loop {
            let mut guard = self.0.readable().await?;
            loop {
                let mut buffer = [0u8; 4096];
                match recv(self.0.get_ref(), &mut buffer[..], RecvFlags::empty()) {
                    Ok(_) => seen = true,
                    // Events were lost: as good as an event.
                    Err(rustix::io::Errno::NOBUFS) => seen = true,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            guard.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}
