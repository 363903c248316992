//! The part of the host tier's initramfs that no test changes: what a storage host has. The tests' own program comes
//! behind it, as a second archive.

use super::{
    initramfs,
    modules::{Groups, Modules},
};
use anyhow::Result;
use guest_boot::{Archive, ClosureError, HostFile};

/// Modules that a host of volumes loads, and those of the emulated machine it is here.
pub(super) const MODULES: Groups = &[(
    "order",
    &[
        "virtio_mmio",
        "virtio_pci",
        "virtio_blk",
        "virtio_console",
        "virtio_rng",
        "crc32c_intel",
        "aesni_intel",
        "xts",
        "algif_skcipher",
        "dm_mod",
        "dm_thin_pool",
        "dm_snapshot",
        "dm_crypt",
        "xfs",
        "loop",
        "nbd",
    ],
)];

const PROGRAMS: &[&str] = &[
    "blkid",
    "busybox",
    "cryptsetup",
    "dmsetup",
    "dumpe2fs",
    "e2fsck",
    "lvm",
    "mke2fs",
    "mkfs.xfs",
    "pdata_tools",
    "resize2fs",
    "sync",
    "xfs_growfs",
    "xfs_repair",
];

/// Names under which a program of [`PROGRAMS`] is called.
const LINKS: &[(&str, &[&str])] = &[
    (
        "lvm",
        &[
            "lvchange",
            "lvconvert",
            "lvcreate",
            "lvextend",
            "lvremove",
            "lvrename",
            "lvs",
            "pvcreate",
            "pvs",
            "vgcfgbackup",
            "vgcfgrestore",
            "vgchange",
            "vgck",
            "vgcreate",
            "vgextend",
            "vgremove",
            "vgs",
        ],
    ),
    ("mke2fs", &["mkfs.ext4"]),
    (
        "pdata_tools",
        &[
            "thin_check",
            "thin_delta",
            "thin_dump",
            "thin_repair",
            "thin_restore",
        ],
    ),
];

/// Everything that decides what goes where, for comparison with what was made before.
pub(super) fn layout() -> String {
    format!("{MODULES:?} {PROGRAMS:?} {LINKS:?}")
}

/// Returns the programs with their libraries.
pub(super) fn tools() -> Result<Vec<HostFile>, ClosureError> {
    guest_boot::closure(PROGRAMS)
}

/// Returns the archive.
pub(super) fn build(modules: &Modules, tools: &[HostFile]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    initramfs::add(&mut archive, modules, tools);
    for (program, names) in LINKS {
        for name in *names {
            archive.link(&format!("sbin/{name}"), program);
        }
    }
    Ok(archive.build()?)
}
