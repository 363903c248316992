//! The root file system: a read-only EROFS image under a writable layer.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_move};

use guest_init::proto::config::Rootfs;

use crate::device::{self, DeviceError};
use crate::format::{self, Content, FormatError};
use crate::reaper::Reaper;
use crate::tool::{self, ToolError};

const LOWER: &str = "/mnt/lower";
const UPPER: &str = "/mnt/upper";
const ROOT: &str = "/mnt/root";

/// Why the root file system cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    /// No such device.
    #[error("find the root file system's device")]
    Device(#[from] DeviceError),
    /// The overlay's device cannot be looked at.
    #[error("look at the overlay's device")]
    Inspect(#[from] FormatError),
    /// The overlay's file system could not be made.
    #[error("make the overlay's file system")]
    Make(#[from] ToolError),
    /// A mount or a directory.
    #[error("{doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

fn doing<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> RootfsError {
    move |source| RootfsError::Io {
        doing,
        source: source.into(),
    }
}

/// Mounts the image and the writable layer at a place of their own.
pub(crate) async fn assemble(reaper: &Reaper, rootfs: &Rootfs) -> Result<(), RootfsError> {
    for dir in [LOWER, UPPER, ROOT] {
        fs::create_dir_all(dir).map_err(doing("make mount points"))?;
    }
    let image = device::block_device(&rootfs.erofs_serial).await?;
    mount(image.path(), LOWER, "erofs", MountFlags::RDONLY, None::<&CStr>)
        .map_err(doing("mount the image"))?;
    match &rootfs.overlay_serial {
        Some(serial) => mount_upper(reaper, serial).await?,
        None => mount("tmpfs", UPPER, "tmpfs", MountFlags::empty(), c"mode=0755")
            .map_err(doing("mount the memory for the writable layer"))?,
    }
    for dir in ["data", "work"] {
        fs::create_dir_all(Path::new(UPPER).join(dir)).map_err(doing("make the writable layer"))?;
    }
    let layers = c"lowerdir=/mnt/lower,upperdir=/mnt/upper/data,workdir=/mnt/upper/work";
    mount("overlay", ROOT, "overlay", MountFlags::empty(), layers).map_err(doing("mount the overlay"))
}

async fn mount_upper(reaper: &Reaper, serial: &str) -> Result<(), RootfsError> {
    let device = device::block_device(serial).await?;
    let node = File::open(device.path()).map_err(doing("open the overlay's device"))?;
    // An ephemeral disk holds nothing worth keeping, but one that was filled is the host's mistake to see.
    if format::inspect(&node, device.bytes())? == Content::Blank {
        tool::run(reaper, &format::make_overlay(&device.path())).await?;
    }
    drop(node);
    mount(device.path(), UPPER, "ext4", MountFlags::NOATIME, None::<&CStr>)
        .map_err(doing("mount the writable layer"))
}

/// Makes the assembled root file system `/`, takes the kernel's file systems along, and frees the initramfs's
/// memory.
pub(crate) fn switch() -> Result<(), RootfsError> {
    let initramfs = open_directory(rustix::fs::CWD, c"/").map_err(doing("open the initramfs"))?;
    for dir in ["dev", "proc", "sys"] {
        let target = Path::new(ROOT).join(dir);
        if !target.is_dir() {
            fs::create_dir_all(&target).map_err(doing("make directories of the root file system"))?;
        }
        mount_move(Path::new("/").join(dir), &target).map_err(doing("move a mount"))?;
    }
    rustix::process::chdir(ROOT).map_err(doing("enter the root file system"))?;
    mount_move(".", "/").map_err(doing("move the root file system"))?;
    rustix::process::chroot(".").map_err(doing("change the root"))?;
    rustix::process::chdir("/").map_err(doing("enter the new root"))?;
    empty(&initramfs);
    Ok(())
}

fn open_directory(at: impl std::os::fd::AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Removes everything below `dir` that is on its own file system. What cannot be removed only costs memory.
fn empty(dir: &OwnedFd) {
    let Ok(here) = rustix::fs::fstat(dir) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        } else if let Ok(child) = open_directory(dir, name)
            && rustix::fs::fstat(&child).is_ok_and(|stat| stat.st_dev == here.st_dev)
        {
            empty(&child);
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
        }
    }
}
