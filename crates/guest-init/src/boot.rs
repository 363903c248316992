//! The first steps of PID 1: the kernel's file systems, its modules, its limits.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cgroup;
use crate::modules::{self, ModuleError};

/// Open files that a process may have unless it asks for more; the figure of Fly's machines.
const NOFILE_SOFT: u64 = 10_240;

/// Open files that a process may ask for; the kernel's own limit.
const NOFILE_HARD: u64 = 1_048_576;

/// Why the guest cannot even talk to its host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A file system of the kernel's.
    #[error("mount {target}")]
    Mount {
        target: &'static str,
        #[source]
        source: io::Error,
    },
    /// No drivers.
    #[error("load drivers")]
    Modules(#[from] ModuleError),
    /// No id of this boot.
    #[error("read the boot id")]
    BootId(#[source] io::Error),
}

/// Sets up what every later step relies on; returns the kernel's id of this boot.
pub(crate) fn set_up() -> Result<String, BootError> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount_new("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755")?;
    mount_new("proc", "/proc", "proc", plain, c"")?;
    mount_new("sysfs", "/sys", "sysfs", plain, c"")?;
    mount_new("cgroup2", "/sys/fs/cgroup", "cgroup2", plain, c"nsdelegate")?;
    mount_new(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"gid=5,mode=620,ptmxmode=666",
    )?;
    mount_new(
        "tmpfs",
        "/dev/shm",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=1777",
    )?;
    mount_new("mqueue", "/dev/mqueue", "mqueue", plain, c"")?;
    link_standard_streams();
    modules::load_boot_set()?;
    cgroup::enable_controllers();
    protect_from_oom();
    forbid_thrashing();
    let limit = Rlimit {
        current: Some(NOFILE_SOFT),
        maximum: Some(NOFILE_HARD),
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        crate::console::say(&format!("limit of open files: {error}"));
    }
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(BootError::BootId)?;
    Ok(boot_id.trim().to_owned())
}

/// Milliseconds of working set that memory must hold; when it cannot, something is killed.
const WORKING_SET_MS: &str = "1000";

/// Has the kernel kill for want of memory before the guest stands still.
///
/// A small guest that runs out otherwise evicts the pages of its own programs, reads them again, and goes on like that
/// for minutes: seen as a guest that spun for four of them, neither dead nor alive.
fn forbid_thrashing() {
    for (name, value) in [("enabled", "y"), ("min_ttl_ms", WORKING_SET_MS)] {
        let path = Path::new("/sys/kernel/mm/lru_gen").join(name);
        // A kernel without it works as it always did.
        if let Err(error) = write_setting(&path, value) {
            crate::console::say(&format!("{}: {error}", path.display()));
        }
    }
}

fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

fn mount_new(
    source: &str,
    target: &'static str,
    fstype: &str,
    flags: MountFlags,
    data: &CStr,
) -> Result<(), BootError> {
    let mounted = fs::create_dir_all(target).and_then(|()| Ok(mount(source, target, fstype, flags, data)?));
    mounted.map_err(|source| BootError::Mount { target, source })
}

/// devtmpfs lacks these names, which shells and images take for granted.
fn link_standard_streams() {
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ];
    for (name, target) in links {
        if let Err(error) = std::os::unix::fs::symlink(target, name) {
            crate::console::say(&format!("link {name}: {error}"));
        }
    }
}

/// The machine ends with this process: the kernel must look for memory elsewhere.
fn protect_from_oom() {
    let write = || {
        File::options()
            .write(true)
            .open("/proc/self/oom_score_adj")?
            .write_all(b"-1000")
    };
    if let Err(error) = write() {
        crate::console::say(&format!("protect from the out-of-memory killer: {error}"));
    }
}
