//! Everything that needs `unsafe`: calls no safe wrapper exists for, each behind a safe function.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a child process becomes between fork and exec.
#[derive(Debug)]
pub(crate) struct ChildSetup {
    /// `cgroup.procs` of the group to join, open for writing.
    pub(crate) cgroup_procs: Option<OwnedFd>,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Whether standard input is a terminal that becomes the controlling one.
    pub(crate) controlling_tty: bool,
}

/// Makes `command` start in a session of its own, with the identity and cgroup of `setup`.
pub(crate) fn prepare_child(command: &mut Command, setup: ChildSetup) {
    let apply = move || apply_in_child(&setup);
    // SAFETY: the closure runs in the forked child and calls only async-signal-safe functions (`write`,
    // `open`, `setsid`, `ioctl`, `setgroups`, `setgid`, `setuid`) on data made before the fork; it
    // allocates nothing.
    // WHY UNSAFE: the standard library has no safe way to set groups, cgroup and terminal.
    unsafe { command.pre_exec(apply) };
}

fn apply_in_child(setup: &ChildSetup) -> io::Result<()> {
    if let Some(procs) = &setup.cgroup_procs {
        rustix::io::write(procs, b"0")?;
    }
    // PID 1 is exempt from the out-of-memory killer; what it starts must not be.
    let score = rustix::fs::open(
        c"/proc/self/oom_score_adj",
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::io::write(&score, b"0")?;
    rustix::process::setsid()?;
    if setup.controlling_tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    // A pipe belongs to who made it: without this, opening /dev/stdout fails for everyone but root.
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
        if kind == rustix::fs::FileType::Fifo || rustix::termios::isatty(stream) {
            rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(setup.uid)), None)?;
        }
    }
    // SAFETY: pointer and length are those of a live Vec; the kernel copies from it.
    // WHY UNSAFE: no safe wrapper changes the identity of the whole process.
    check(unsafe { libc::setgroups(setup.groups.len(), setup.groups.as_ptr()) })?;
    // SAFETY: takes a number, touches no memory of ours.
    check(unsafe { libc::setgid(setup.gid) })?;
    // SAFETY: takes a number, touches no memory of ours.
    check(unsafe { libc::setuid(setup.uid) })
}

/// Sends any signal number, real-time ones too.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers, touches no memory of ours.
    // WHY UNSAFE: the safe wrapper takes named signals only.
    check(unsafe { libc::kill(pid, signal) })
}

/// Starts swapping to `device`, which holds a swap signature.
pub(crate) fn swapon(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    // SAFETY: the pointer is that of a live NUL-terminated string, which the kernel only reads.
    // WHY UNSAFE: no safe wrapper exists.
    check(unsafe { libc::swapon(path.as_ptr(), 0) })
}

/// Grows the mounted ext4 file system that `root` lies in to `blocks` of its blocks.
pub(crate) fn ext4_resize(root: impl AsFd, blocks: u64) -> io::Result<()> {
    // _IOW('f', 16, __u64)
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    // SAFETY: the request reads one u64 at the pointer, which is that of a live local.
    // WHY UNSAFE: file-system ioctls have no safe wrapper.
    check(unsafe { libc::ioctl(raw(&root), EXT4_IOC_RESIZE_FS, &raw const blocks) })
}

/// What `XFS_IOC_FSGEOMETRY_V1` fills in, as far as it is used.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct XfsGeometry {
    /// Bytes per block.
    pub(crate) blocksize: u32,
    rtextsize: u32,
    agblocks: u32,
    agcount: u32,
    logblocks: u32,
    sectsize: u32,
    inodesize: u32,
    /// Largest share of the space for inodes, in percent.
    pub(crate) imaxpct: u32,
    /// Data blocks.
    pub(crate) datablocks: u64,
    rtblocks: u64,
    rtextents: u64,
    logstart: u64,
    uuid: [u8; 16],
    sunit: u32,
    swidth: u32,
    version: i32,
    flags: u32,
    logsectsize: u32,
    rtsectsize: u32,
    dirblocksize: u32,
}

const _: () = assert!(
    size_of::<XfsGeometry>() == 112,
    "the ioctl's number carries this size"
);

/// Returns the geometry of the mounted XFS that `root` lies in.
pub(crate) fn xfs_geometry(root: impl AsFd) -> io::Result<XfsGeometry> {
    // _IOR('X', 100, struct xfs_fsop_geom_v1)
    const XFS_IOC_FSGEOMETRY_V1: libc::c_ulong = 0x8070_5864;
    let mut geometry = XfsGeometry::default();
    // SAFETY: the request writes 112 bytes at the pointer, the size of the struct (asserted above).
    // WHY UNSAFE: file-system ioctls have no safe wrapper.
    check(unsafe { libc::ioctl(raw(&root), XFS_IOC_FSGEOMETRY_V1, &raw mut geometry) })?;
    Ok(geometry)
}

/// Grows the mounted XFS that `root` lies in to `blocks` of its blocks.
pub(crate) fn xfs_grow(root: impl AsFd, blocks: u64, imaxpct: u32) -> io::Result<()> {
    #[repr(C)]
    struct GrowData {
        newblocks: u64,
        imaxpct: u32,
    }
    // _IOW('X', 110, struct xfs_growfs_data)
    const XFS_IOC_FSGROWFSDATA: libc::c_ulong = 0x4010_586e;
    const {
        assert!(
            size_of::<GrowData>() == 16,
            "the ioctl's number carries this size"
        )
    };
    let data = GrowData {
        newblocks: blocks,
        imaxpct,
    };
    // SAFETY: the request reads 16 bytes at the pointer, the size of the struct (asserted above).
    // WHY UNSAFE: file-system ioctls have no safe wrapper.
    check(unsafe { libc::ioctl(raw(&root), XFS_IOC_FSGROWFSDATA, &raw const data) })
}

/// Mixes `entropy` into the kernel's generator, counts it in full, and reseeds.
pub(crate) fn add_entropy(random: impl AsFd, entropy: &[u8]) -> io::Result<()> {
    const BYTES: usize = 64;
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: i32,
        bytes: i32,
        buffer: [u8; BYTES],
    }
    // _IOW('R', 3, int[2]), with the buffer behind the two numbers.
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    // _IO('R', 7)
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let count = entropy.len().min(BYTES);
    let mut info = PoolInfo {
        entropy_bits: 0,
        bytes: 0,
        buffer: [0; BYTES],
    };
    info.buffer[..count].copy_from_slice(&entropy[..count]);
    info.bytes = i32::try_from(count).unwrap_or(0);
    info.entropy_bits = info.bytes * 8;
    // SAFETY: the request reads the two numbers and `bytes` bytes behind them, all inside the struct.
    // WHY UNSAFE: the random device's ioctls have no safe wrapper.
    check(unsafe { libc::ioctl(raw(&random), RNDADDENTROPY, &raw const info) })?;
    // SAFETY: the request takes no argument.
    // WHY UNSAFE: as above.
    check(unsafe { libc::ioctl(raw(&random), RNDRESEEDCRNG) })
}

/// Has the runtime watch a descriptor.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd` from here on, stays open as long, and an `OwnedFd`
    // always names the same one.
    // WHY UNSAFE: tokio's safe constructors are deprecated for types that might break this promise.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

fn raw(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
