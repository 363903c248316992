//! Volumes: formatted at first mount, mounted, grown, measured, unmounted.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

use guest_init::proto::config::{FsType, Mount};
use guest_init::proto::message::VolumeUsage;

use crate::device::{self, BlockDevice, DeviceError};
use crate::format::{self, Content, FormatError};
use crate::grow;
use crate::modules::{self, ModuleError};
use crate::reaper::Reaper;
use crate::tool::{self, ToolError};
use crate::user::Identity;

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// No such device.
    #[error("find the device")]
    Device(#[from] DeviceError),
    /// The device is blank and may not be formatted.
    #[error("the device is blank, and the host does not allow to format it")]
    FormatForbidden,
    /// The device cannot be looked at or marked.
    #[error("format the device")]
    Format(#[from] FormatError),
    /// The file system could not be made.
    #[error("make the file system")]
    Make(#[from] ToolError),
    /// The kernel lacks the file system.
    #[error("load the file system's modules")]
    Modules(#[from] ModuleError),
    /// The mount point cannot be made.
    #[error("make the mount point {path}")]
    MountPoint {
        path: String,
        #[source]
        source: io::Error,
    },
    /// An option no kernel knows how to spell.
    #[error("mount option {option:?} has a zero byte")]
    Option { option: String },
    /// The kernel does not mount it.
    #[error("mount {fstype} at {path}")]
    Mount {
        fstype: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// The mounted file system cannot be measured.
    #[error("measure the file system")]
    Measure(#[source] io::Error),
    /// The file system did not grow to its device's size.
    #[error("grow the file system to {device_bytes} bytes")]
    Grow {
        device_bytes: u64,
        #[source]
        source: io::Error,
    },
}

/// A volume whose device is there and holds a file system.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// Where the host wants it.
    pub(crate) mount: Mount,
    device: BlockDevice,
}

/// Finds the volume's device and formats it if that is due; tells whether it was.
pub(crate) async fn prepare(reaper: &Reaper, mount: &Mount) -> Result<(Volume, bool), VolumeError> {
    let device = device::block_device(&mount.serial).await?;
    if mount.fstype == FsType::Xfs {
        modules::load_xfs()?;
    }
    let bytes = device.bytes();
    let node = File::options()
        .read(true)
        .write(!read_only(mount))
        .open(device.path());
    let node = node.map_err(|source| FormatError::Device {
        doing: "open the device",
        source,
    })?;
    let due = match format::inspect(&node, bytes)? {
        Content::Something => false,
        Content::Blank | Content::HalfFormatted if mount.format_allowed => true,
        Content::Blank | Content::HalfFormatted => return Err(VolumeError::FormatForbidden),
    };
    if due {
        format::begin(&node, bytes)?;
        tool::run(reaper, &format::make_volume(mount.fstype, &device.path())).await?;
        format::end(&node, bytes)?;
    }
    Ok((
        Volume {
            mount: mount.clone(),
            device,
        },
        due,
    ))
}

impl Volume {
    /// Mounts the volume and grows its file system to the device's size; returns the size by statfs.
    ///
    /// A file system whose root belongs to root is given to `owner`, as the first mount of a fresh volume
    /// has to be.
    pub(crate) fn mount(&self, owner: &Identity) -> Result<u64, VolumeError> {
        let path = self.path();
        let shown = || path.display().to_string();
        fs::create_dir_all(&path).map_err(|source| VolumeError::MountPoint {
            path: shown(),
            source,
        })?;
        let (flags, data) = options(&self.mount.options)?;
        let fstype = self.mount.fstype.as_str();
        let mounted = rustix::mount::mount(self.device.path(), &path, fstype, flags, data.as_deref());
        mounted.map_err(|error| VolumeError::Mount {
            fstype,
            path: shown(),
            source: error.into(),
        })?;
        if !read_only(&self.mount) {
            // A file system that cannot grow is still whole: its size is told, and the host sees the difference.
            if let Err(error) = self.grow_now(self.device.bytes()) {
                crate::console::say(&format!(
                    "volume {}: {}",
                    self.mount.serial,
                    crate::console::chain(&error)
                ));
            }
            let root = fs::metadata(&path).map_err(VolumeError::Measure)?;
            if root.uid() == 0 && owner.uid != 0 {
                chown(&path, Some(owner.uid), Some(owner.gid)).map_err(VolumeError::Measure)?;
            }
        }
        self.fs_bytes()
    }

    /// Waits until the device has `min_bytes`, then grows the file system to the device's size; returns the
    /// sizes of both.
    pub(crate) async fn grow(&self, min_bytes: u64) -> Result<(u64, u64), VolumeError> {
        let device_bytes = device::size_reached(&self.device, &self.mount.serial, min_bytes).await?;
        let volume = self.clone();
        // The kernel works for as long as the growth takes: not on the thread that everything waits for.
        let grown = tokio::task::spawn_blocking(move || volume.grow_now(device_bytes)).await;
        grown.map_err(|error| VolumeError::Grow {
            device_bytes,
            source: io::Error::other(error),
        })??;
        Ok((self.fs_bytes()?, device_bytes))
    }

    fn grow_now(&self, device_bytes: u64) -> Result<(), VolumeError> {
        grow::grow(self.mount.fstype, &self.path(), device_bytes)
            .map_err(|source| VolumeError::Grow { device_bytes, source })
    }

    /// Returns what the file system holds.
    pub(crate) fn usage(&self) -> Result<VolumeUsage, VolumeError> {
        let stat = rustix::fs::statvfs(self.path()).map_err(|error| VolumeError::Measure(error.into()))?;
        Ok(VolumeUsage {
            serial: self.mount.serial.clone(),
            fstype: self.mount.fstype,
            block_size: stat.f_frsize,
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_avail: stat.f_bavail,
            device_bytes: self.device.bytes(),
        })
    }

    fn fs_bytes(&self) -> Result<u64, VolumeError> {
        let usage = self.usage()?;
        Ok(usage.blocks * usage.block_size)
    }

    /// Unmounts the volume, for as long as `budget` while it is busy; then syncs and detaches it. Returns
    /// whether it was unmounted properly.
    pub(crate) async fn unmount(&self, budget: Duration) -> bool {
        let path = self.path();
        let attempts = async {
            while let Err(error) = rustix::mount::unmount(&path, UnmountFlags::empty()) {
                if error != rustix::io::Errno::BUSY {
                    return error == rustix::io::Errno::INVAL;
                }
                // The kernel tells nobody when the last user of a file system goes.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            true
        };
        if tokio::time::timeout(budget, attempts).await == Ok(true) {
            return true;
        }
        if let Ok(root) = File::open(&path) {
            let _ = rustix::fs::syncfs(root);
        }
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        false
    }

    fn path(&self) -> PathBuf {
        Path::new("/").join(&self.mount.path)
    }
}

fn read_only(mount: &Mount) -> bool {
    mount.options.iter().any(|option| option == "ro")
}

/// Splits mount options into the kernel's flags and the file system's own text.
fn options(options: &[String]) -> Result<(MountFlags, Option<CString>), VolumeError> {
    let mut flags = MountFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        match option.as_str() {
            "defaults" | "rw" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            other => data.push(other),
        }
    }
    if data.is_empty() {
        return Ok((flags, None));
    }
    let text = data.join(",");
    let data = CString::new(text.clone()).map_err(|_| VolumeError::Option { option: text })?;
    Ok((flags, Some(data)))
}

#[cfg(test)]
mod tests;
