//! Growing a mounted file system to its device's size, by the kernel's own calls: no tool is needed in the
//! image.

use std::fs::File;
use std::io;
use std::path::Path;

use guest_init::proto::config::FsType;

use crate::sys;

/// Grows the file system mounted at `path` to `device_bytes`. Does nothing when it has that size already.
///
/// # Errors
/// What the kernel says. The file system goes on as it was.
pub(crate) fn grow(fstype: FsType, path: &Path, device_bytes: u64) -> io::Result<()> {
    let root = File::open(path)?;
    match fstype {
        FsType::Ext4 => {
            let block_size = rustix::fs::statvfs(path)?.f_frsize;
            sys::ext4_resize(&root, device_bytes / block_size)
        }
        FsType::Xfs => {
            let geometry = sys::xfs_geometry(&root)?;
            let blocks = device_bytes / u64::from(geometry.blocksize);
            if blocks <= geometry.datablocks {
                return Ok(());
            }
            sys::xfs_grow(&root, blocks, geometry.imaxpct)
        }
    }
}
