//! What a virtual machine is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::Forward;

/// Which accelerator runs the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator: 10 to 40 times slower.
    Tcg,
}

impl Accel {
    /// The word of QEMU and of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Which board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Small and fast; needs the TSC's rate under TCG.
    Microvm,
    /// A PC with timers of its own; used when the TSC's rate could not be measured.
    Q35,
}

/// What a virtual machine is made of. Relative paths are in the machine's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Name of the process.
    pub name: String,
    /// QEMU's program.
    pub qemu: PathBuf,
    /// Kernel, ELF.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
    /// Firmware of the small board.
    pub bios: PathBuf,
    /// Board.
    pub board: Board,
    /// Accelerator.
    pub accel: Accel,
    /// Rate of the TSC in kHz, where it was measured.
    pub tsc_khz: Option<u64>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Words for the kernel's command line.
    pub kernel_args: Vec<String>,
    /// EROFS image of the root file system.
    pub rootfs: PathBuf,
    /// Size of the writable layer's file, in bytes.
    pub overlay_bytes: u64,
    /// Size of the swap file, in bytes; 0 is none.
    pub swap_bytes: u64,
    /// Volumes, in order.
    pub volumes: Vec<VolumeDisk>,
    /// Whether this host offers io_uring.
    pub io_uring: bool,
    /// MAC address of the interface to the world.
    pub world_mac: String,
    /// Ports that are forwarded from the host.
    pub forwards: Vec<Forward>,
    /// The interface of the app network.
    pub app_nic: Option<AppNic>,
}

/// A volume as a disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDisk {
    /// Serial that the guest finds it by.
    pub serial: String,
    /// File or block device; the socket of an NBD server when there is an [`export`](Self::export).
    pub path: PathBuf,
    /// Name of the volume at that server.
    #[serde(default)]
    pub export: Option<String>,
    /// Passphrase of a LUKS volume; `None` for a raw one.
    pub passphrase: Option<String>,
    /// Whether the file system takes `O_DIRECT`.
    pub direct: bool,
    /// Whether it is a block device, which QEMU drives otherwise than a file.
    #[serde(default)]
    pub block_device: bool,
    /// Capacity that the guest is to see, in bytes.
    pub size_bytes: u64,
}

impl std::fmt::Debug for VolumeDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeDisk")
            .field("serial", &self.serial)
            .field("path", &self.path)
            .field("luks", &self.passphrase.is_some())
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// The interface of the app network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppNic {
    /// MAC address.
    pub mac: String,
    /// Text after `-netdev`, with id [`super::qemu::argv::APP_NETDEV`].
    pub netdev: String,
}
