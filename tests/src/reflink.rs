//! File systems that can share blocks between files, each on a loop device of its own.

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

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// XFS with reflink.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// Makes an XFS of `gib` GiB with reflink, sparse, and mounts it on a new directory with a short path.
///
/// # Errors
/// Without root, or without xfsprogs.
pub fn xfs(gib: u64) -> Result<(TempDir, Mounted)> {
    mounted(FileSystem::Xfs, gib)
}

/// Makes a file system of `gib` GiB, sparse, and mounts it on a new directory with a short path.
///
/// # Errors
/// Without root, or without the program that makes it.
pub fn mounted(kind: FileSystem, gib: u64) -> Result<(TempDir, Mounted)> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "mounting an image needs root"
    );
    let backing = NamedTempFile::new_in("/tmp")?;
    backing.as_file().set_len(gib << 30)?;
    let (program, words) = match kind {
        FileSystem::Xfs => ("mkfs.xfs", vec!["-q", "-m", "reflink=1"]),
        FileSystem::Btrfs => ("mkfs.btrfs", vec!["-q"]),
    };
    let made = Command::new(program).args(words).arg(backing.path()).status();
    ensure!(
        made.is_ok_and(|made| made.success()),
        "{program} is in Debian's xfsprogs or btrfs-progs; `cargo xtask setup` installs them"
    );
    let dir = tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?;
    let mount = Command::new("mount")
        .args(["-o", "loop"])
        .arg(backing.path())
        .arg(dir.path())
        .status()?;
    ensure!(mount.success(), "mount of an image");
    let mounted = Mounted {
        place: dir.path().to_owned(),
        _backing: backing,
    };
    Ok((dir, mounted))
}
