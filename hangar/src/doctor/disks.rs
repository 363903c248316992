//! What the disk below the data directory offers.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crashsafe::{Disk as _, RealDisk};

use super::{Finding, Verdict};
use crate::node::{Layout, SOCKET_BYTES_MAX};
use crate::size;

/// Less free space than this is little for a pool.
const LITTLE_BYTES: u64 = 10 << 30;

pub(super) fn data_directory(layout: &Layout) -> Finding {
    const NAME: &str = "data directory";
    let data = layout.data();
    let bytes = layout.longest_socket().as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        let remedy = format!(
            "choose a path {} bytes shorter with --data or HANGAR_DATA",
            bytes - SOCKET_BYTES_MAX
        );
        let found = format!("{} is too long for the sockets below it", data.display());
        return Finding::bad(
            NAME,
            Verdict::Missing,
            (found, "`hangar up` will not start", remedy),
        );
    }
    let place = nearest(data);
    if rustix::fs::access(&place, rustix::fs::Access::WRITE_OK).is_err() {
        let found = format!("{} is not writable", place.display());
        let remedy = "run as its owner, or choose another with --data";
        return Finding::bad(
            NAME,
            Verdict::Missing,
            (found, "`hangar up` will not start", remedy),
        );
    }
    match RealDisk.space(&place) {
        Ok(space) if space.free_bytes < LITTLE_BYTES => {
            let found = format!("{}, {} free", data.display(), size::bytes(space.free_bytes));
            let follows = "room for few volumes: the sum of their sizes stays within the free space";
            Finding::bad(
                NAME,
                Verdict::Warning,
                (
                    found,
                    follows,
                    "free some space or choose another disk with --data",
                ),
            )
        }
        Ok(space) => Finding::ok(
            NAME,
            format!("{}, {} free", data.display(), size::bytes(space.free_bytes)),
        ),
        Err(error) => {
            let what = (
                format!("{}: {error}", place.display()),
                "nothing is known of its space",
                "",
            );
            Finding::bad(NAME, Verdict::Warning, what)
        }
    }
}

/// Whether captures share their volumes' blocks in the folders of file pools, and whether what is promised there is kept.
pub(super) fn reflink(folders: &[PathBuf]) -> Finding {
    const NAME: &str = "reflink";
    let (mut with, mut without, mut greedy) = (Vec::new(), Vec::new(), Vec::new());
    for folder in folders {
        let place = nearest(folder);
        let from = place.join(format!(".doctor-{}", daemon::random::base36(8)));
        let to = from.with_extension("copy");
        let tried = try_reflink(&from, &to);
        for path in [&from, &to] {
            // The copy is not there when the file system has no reflink.
            let _gone = std::fs::remove_file(path);
        }
        let shown = place.display();
        match tried {
            Ok(()) if is_btrfs(&place) => greedy.push(shown.to_string()),
            Ok(()) => with.push(shown.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => without.push(shown.to_string()),
            Err(error) => without.push(format!("{shown} ({error})")),
        }
    }
    if !greedy.is_empty() {
        let found = format!(
            "{} is btrfs, which keeps whole extents for single blocks",
            greedy.join(", ")
        );
        let follows =
            "volumes that are overwritten in small parts can run out of the room that they were promised";
        let remedy = "put the pool on XFS, or keep half of the file system unpromised: overcommit_ratio = 0.5 in its [[volumed.pools]]";
        return Finding::bad(NAME, Verdict::Note, (found, follows, remedy));
    }
    if !without.is_empty() {
        let found = format!("not on the file system of {}", without.join(", "));
        let follows = "snapshots and forks copy data: of attached volumes through QEMU, of detached ones file to file; \
                       keep as much of the pool unpromised as its largest volume has";
        return Finding::bad(
            NAME,
            Verdict::Note,
            (found, follows, "nothing, or put the pool on XFS"),
        );
    }
    if with.is_empty() {
        return Finding::ok(NAME, "not needed: no pool is of files");
    }
    Finding::ok(NAME, format!("the file system of {} has it", with.join(", ")))
}

fn is_btrfs(path: &Path) -> bool {
    const MAGIC: i64 = 0x9123_683E;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == MAGIC)
}

fn try_reflink(from: &Path, to: &Path) -> std::io::Result<()> {
    crashsafe::write_atomic(&RealDisk, "doctor:reflink", from, &[1; 4096], 0o600)?;
    RealDisk.reflink("doctor:reflink", from, to)
}

/// * `folders`: of file pools.
pub(super) fn bucket_place(layout: &Layout, folders: &[PathBuf], has_own_store: bool) -> Finding {
    const NAME: &str = "bucket's disk";
    if has_own_store {
        return Finding::ok(NAME, "backups are in the object store of node.toml");
    }
    let device = |path: &Path| {
        std::fs::metadata(nearest(path))
            .map(|metadata| metadata.dev())
            .ok()
    };
    let store = device(&layout.below("s3"));
    if folders.iter().all(|folder| device(folder) != store) {
        return Finding::ok(
            NAME,
            "the embedded object store is on another disk than the volumes",
        );
    }
    let found = "the embedded object store is on the disk of the volumes";
    let follows = "a dead disk takes volumes and their backups together";
    let remedy = format!(
        "name an object store under [s3] in {}, or mount another disk at {}",
        layout.node_toml().display(),
        layout.below("s3").display()
    );
    Finding::bad(NAME, Verdict::Warning, (found, follows, remedy))
}

/// The path itself, or what of it exists.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

#[cfg(test)]
mod tests;
