//! What the kernel offers.

use std::fs::OpenOptions;
use std::path::Path;

use super::{Finding, Verdict, passthrough, sys};

pub(super) fn device_mapper() -> Finding {
    const NAME: &str = "device-mapper";
    let follows = "no LVM pools and no dm-crypt; the file pool is used and QEMU encrypts";
    let remedy =
        "nothing, unless you want LVM pools: use a kernel with dm-mod (and `modprobe dm-mod` as root)";
    let known = std::fs::read_to_string("/proc/devices")
        .unwrap_or_default()
        .contains("device-mapper");
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/mapper/control");
    match control {
        Ok(_) => Finding::ok(NAME, "usable"),
        Err(error) if known => {
            let remedy = "run as root, or give this user access to /dev/mapper/control";
            Finding::bad(
                NAME,
                Verdict::Note,
                (
                    format!("there, but /dev/mapper/control: {error}"),
                    follows,
                    remedy,
                ),
            )
        }
        Err(_) => Finding::bad(NAME, Verdict::Note, ("not in this kernel", follows, remedy)),
    }
}

pub(super) fn lvm() -> Finding {
    const NAME: &str = "lvm tools";
    let find = |program: &str| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .map(|place| Path::new(place).join(program))
            .find(|path| path.is_file())
    };
    let missing: Vec<&str> = ["lvm", "thin_check"]
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Finding::ok(NAME, "lvm and thin_check are installed");
    }
    let follows = "no LVM pools; the file pool is used";
    let remedy = "for LVM pools: apt-get install lvm2 thin-provisioning-tools";
    Finding::bad(
        NAME,
        Verdict::Note,
        (format!("missing: {}", missing.join(", ")), follows, remedy),
    )
}

pub(super) fn fuse() -> Finding {
    const NAME: &str = "fuse";
    let mut device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(device) => device,
        Err(error) => {
            let remedy = "modprobe fuse, or run as root";
            let what = (
                format!("/dev/fuse: {error}"),
                "no FUSE file systems on this host",
                remedy,
            );
            return Finding::bad(NAME, Verdict::Note, what);
        }
    };
    let follows = "FUSE works without passthrough: reads go through the file system's process";
    match passthrough::is_offered(&mut device) {
        Ok(true) => Finding::ok(NAME, "usable, and the kernel offers passthrough"),
        Ok(false) => {
            let what = (
                "usable, the kernel offers no passthrough",
                follows,
                "for passthrough: Linux 6.9 or later with CONFIG_FUSE_PASSTHROUGH",
            );
            Finding::bad(NAME, Verdict::Note, what)
        }
        Err(error) => {
            let found = format!("usable; whether with passthrough could not be asked: {error}");
            Finding::bad(
                NAME,
                Verdict::Note,
                (found, follows, "for passthrough: run as root"),
            )
        }
    }
}

pub(super) fn io_uring() -> Finding {
    const NAME: &str = "io_uring";
    let refusal = sys::io_uring_refusal();
    let follows = "backups and restores use plain reads and writes, which are slower; QEMU uses threads";
    match refusal.raw_os_error() {
        Some(libc::EFAULT | libc::EINVAL) => Finding::ok(NAME, "usable"),
        Some(libc::EPERM) => {
            let remedy = "sysctl kernel.io_uring_disabled=0, or a container profile that allows io_uring";
            Finding::bad(
                NAME,
                Verdict::Warning,
                ("forbidden on this host", follows, remedy),
            )
        }
        _ => Finding::bad(
            NAME,
            Verdict::Warning,
            (
                format!("not usable: {refusal}"),
                follows,
                "use Linux 5.10 or later",
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
