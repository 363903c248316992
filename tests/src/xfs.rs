//! A file system that can share blocks between files, on a loop device of its own.

use anyhow::{Result, ensure};
use std::{path::PathBuf, process::Command};
use tempfile::{NamedTempFile, TempDir};

/// The file system below a directory; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    place: PathBuf,
    _backing: NamedTempFile,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A mount that is gone already is as good.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        let _ = std::fs::remove_dir(&self.place);
    }
}

/// Makes an XFS of `gib` GiB with reflink, sparse, and mounts it on a new directory with a short path.
///
/// # Errors
/// Without root, or without xfsprogs.
pub fn mounted(gib: u64) -> Result<(TempDir, Mounted)> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "mounting an XFS image needs root"
    );
    let backing = NamedTempFile::new_in("/tmp")?;
    backing.as_file().set_len(gib << 30)?;
    let made = Command::new("mkfs.xfs")
        .args(["-q", "-m", "reflink=1"])
        .arg(backing.path())
        .status()?;
    ensure!(
        made.success(),
        "mkfs.xfs is in Debian's xfsprogs; `cargo xtask setup` installs it"
    );
    let dir = tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?;
    let mount = Command::new("mount")
        .args(["-o", "loop"])
        .arg(backing.path())
        .arg(dir.path())
        .status()?;
    ensure!(mount.success(), "mount of an XFS image");
    let mounted = Mounted {
        place: dir.path().to_owned(),
        _backing: backing,
    };
    Ok((dir, mounted))
}
