//! Reads directories through the kernel, mounting an image when the test may.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::listing::{Listing, Seen, SeenKind};
use crate::erofs::FileTime;

/// Unmounts when dropped, also when an assertion fails.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Mounts the image and lists it; `None`, with a word why, where this process may not mount.
pub(crate) fn mounted_listing(image: &Path, scratch: &Path) -> Option<Listing> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: the kernel's view of an image is not checked");
        return None;
    }
    let point = scratch.join("mounted");
    std::fs::create_dir(&point).unwrap();
    let output = Command::new("mount")
        .args(["-t", "erofs", "-o", "ro,loop"])
        .arg(image)
        .arg(&point)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let no_mounts_here = [
        "permission denied",
        "not permitted",
        "unknown filesystem type",
        "loop device",
    ];
    if !output.status.success() && no_mounts_here.iter().any(|reason| words.contains(reason)) {
        eprintln!("the kernel's view of an image is not checked: {words}");
        return None;
    }
    assert!(output.status.success(), "{words}");
    let _mounted = Mounted(&point);
    Some(listing_of(&point))
}

pub(crate) fn listing_of(root: &Path) -> Listing {
    let mut listing = Listing::default();
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let full = if path.is_empty() {
            root.to_owned()
        } else {
            root.join(OsStr::from_bytes(&path[1..]))
        };
        let seen = look(&full);
        if seen.kind == SeenKind::Directory {
            for entry in std::fs::read_dir(&full).unwrap() {
                let name = entry.unwrap().file_name().into_vec();
                pending.push([path.as_slice(), b"/", &name].concat());
            }
        }
        listing.0.insert(path, seen);
    }
    listing.normalised()
}

fn look(path: &Path) -> Seen {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    let kind = match meta.mode() & 0o170_000 {
        0o100_000 => SeenKind::File(std::fs::read(path).unwrap()),
        0o040_000 => SeenKind::Directory,
        0o120_000 => SeenKind::Symlink(std::fs::read_link(path).unwrap().into_os_string().into_vec()),
        0o020_000 => SeenKind::CharacterDevice(major, minor),
        0o060_000 => SeenKind::BlockDevice(major, minor),
        0o010_000 => SeenKind::Fifo,
        0o140_000 => SeenKind::Socket,
        other => panic!("mode {other:o}"),
    };
    Seen {
        mode: u16::try_from(meta.mode()).unwrap(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: FileTime {
            seconds: u64::try_from(meta.mtime()).unwrap(),
            nanoseconds: u32::try_from(meta.mtime_nsec()).unwrap(),
        },
        links: u32::try_from(meta.nlink()).unwrap(),
        identity: meta.ino(),
        xattrs: xattrs(path),
        kind,
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let values = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        });
    values.collect()
}
