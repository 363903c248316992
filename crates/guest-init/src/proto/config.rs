//! What the host tells the guest before the workload starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Serial of the disk with the image's read-only EROFS file system.
pub const ROOTFS_SERIAL: &str = "rootfs";
/// Serial of the ephemeral disk under the root file system's writable layer.
pub const OVERLAY_SERIAL: &str = "overlay";
/// Serial of the ephemeral swap disk.
pub const SWAP_SERIAL: &str = "swap";

/// Everything a guest needs to know to start its workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Host name to set; also an alias of the app network's address in `/etc/hosts`.
    pub hostname: String,
    /// The machine's id, for messages.
    pub machine_id: String,
    /// The workload's program and arguments, never empty. A program without a slash is searched for in the
    /// `PATH` of `env`, inside the image.
    pub argv: Vec<String>,
    /// The workload's whole environment; `PATH`, `HOME` and, with a terminal, `TERM` get defaults when missing.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// `user[:group]`, each a name of the image's `/etc/passwd` or `/etc/group`, or a number. Default: root.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory inside the image, absolute; created when missing. Default `/`.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Whether the workload gets a terminal; its output is then all standard output.
    #[serde(default)]
    pub tty: bool,
    /// Where the root file system is.
    #[serde(default)]
    pub rootfs: Rootfs,
    /// Volumes.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Files to write into the root file system and volumes before the workload starts.
    #[serde(default)]
    pub files: Vec<File>,
    /// Lines of `/etc/hosts` beyond those of the loopback and of the machine itself.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// What `/etc/resolv.conf` says.
    #[serde(default)]
    pub dns: Dns,
    /// Serial of a swap disk, when there is one. It is overwritten.
    #[serde(default)]
    pub swap: Option<String>,
    /// Network interfaces.
    #[serde(default)]
    pub network: Network,
    /// Names known at the start, as by [`Request::Names`](super::Request::Names).
    #[serde(default)]
    pub names: Vec<NameRecord>,
    /// The host's wall clock, milliseconds since 1970; the guest steps its own when it is more than a second
    /// off.
    #[serde(default)]
    pub wall_clock_unix_ms: Option<u64>,
    /// Bytes of host randomness in hexadecimal, mixed into the guest's.
    #[serde(default)]
    pub entropy: Option<String>,
}

/// Where the root file system is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Serial of the EROFS image's disk.
    pub erofs_serial: String,
    /// Serial of the disk for the writable layer; formatted by the guest when blank. Without one, the layer
    /// is in memory.
    pub overlay_serial: Option<String>,
}

impl Default for Rootfs {
    fn default() -> Self {
        Self {
            erofs_serial: ROOTFS_SERIAL.to_owned(),
            overlay_serial: Some(OVERLAY_SERIAL.to_owned()),
        }
    }
}

/// File systems a volume can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsType {
    /// The default.
    #[default]
    Ext4,
    /// Needs at least 300 MiB.
    Xfs,
}

impl FsType {
    /// Returns the kernel's name of the file system.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// A volume and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Serial of the device, see [`serial_of`](super::serial_of).
    pub serial: String,
    /// Absolute path in the guest.
    pub path: String,
    /// File system to expect, or to make.
    #[serde(default)]
    pub fstype: FsType,
    /// Whether a blank device may be formatted. The guest does so only when the device's first and last MiB
    /// read zero as well.
    #[serde(default)]
    pub format_allowed: bool,
    /// Mount options as of mount(8): `ro`, `noatime`, `nosuid`, `nodev`, `noexec`, `discard`, …
    #[serde(default)]
    pub options: Vec<String>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path in the guest; missing parents are created.
    pub guest_path: String,
    /// Content, base64.
    pub content: String,
    /// Permission bits; default 0o644.
    #[serde(default)]
    pub mode: Option<u32>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Address.
    pub address: IpAddr,
    /// Its names.
    pub names: Vec<String>,
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers; none means the guest's own responder at [`Network::RESOLVER`].
    #[serde(default)]
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    #[serde(default)]
    pub searches: Vec<String>,
    /// Options, `name` or `name:value`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// Network interfaces, found by their MAC addresses (`52:54:00:…`, lower case).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Network {
    /// The way to the world.
    #[serde(default)]
    pub user_net: Option<UserNet>,
    /// The app's own network.
    #[serde(default)]
    pub app_net: Option<AppNet>,
}

impl Network {
    /// Address of the guest's own name server.
    pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0xfdaa, 0, 0, 0, 0, 0, 0, 3);
}

/// QEMU's user-mode network: fixed addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNet {
    /// MAC address of the interface.
    pub mac: String,
    /// The guest's address, by default 10.0.2.15.
    #[serde(default = "UserNet::default_address")]
    pub address: Ipv4Addr,
    /// Length of its prefix, by default 24.
    #[serde(default = "UserNet::default_prefix")]
    pub prefix: u8,
    /// Default route, by default 10.0.2.2.
    #[serde(default = "UserNet::default_gateway")]
    pub gateway: Ipv4Addr,
    /// Name server for everything outside `.internal`, by default 10.0.2.3.
    #[serde(default = "UserNet::default_dns")]
    pub dns: Ipv4Addr,
}

impl UserNet {
    /// Returns the description of QEMU's default user network on the interface with this MAC address.
    pub fn new(mac: impl Into<String>) -> Self {
        Self {
            mac: mac.into(),
            address: Self::default_address(),
            prefix: Self::default_prefix(),
            gateway: Self::default_gateway(),
            dns: Self::default_dns(),
        }
    }

    fn default_address() -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2, 15)
    }

    fn default_prefix() -> u8 {
        24
    }

    fn default_gateway() -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2, 2)
    }

    fn default_dns() -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2, 3)
    }
}

/// The app's own network: one link with all its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppNet {
    /// MAC address of the interface.
    pub mac: String,
    /// The machine's private address.
    pub address: Ipv6Addr,
    /// Length of the prefix that is on this link.
    pub prefix: u8,
    /// Largest packet, in bytes; default 1420, as on Fly's network.
    #[serde(default = "AppNet::default_mtu")]
    pub mtu: u32,
}

impl AppNet {
    /// MTU unless the host says otherwise.
    pub const MTU: u32 = 1420;

    fn default_mtu() -> u32 {
        Self::MTU
    }
}

/// One record of the app network's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// Full name without the final dot, such as `e2865013d09508.vm.web.internal`; case does not matter.
    pub name: String,
    /// What it says.
    pub data: NameData,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameData {
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// An IPv4 address.
    A(Ipv4Addr),
    /// Text, at most 255 bytes per string; longer text is cut into several strings.
    Txt(String),
}

#[cfg(test)]
mod tests;
