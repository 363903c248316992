//! Making a bare kernel into a storage host, and its end.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
};

/// Where programs are looked for.
pub(super) const PATH: &str = "/sbin:/bin:/busybox";

/// Mounts, modules, busybox, and LVM's configuration.
pub(super) fn prepare() -> Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mount(kind, at, kind, MountFlags::empty(), None).with_context(|| format!("mount {at}"))?;
    }
    load_modules().context("load modules")?;
    for dir in ["/run/lock/lvm", "/run/lvm", "/etc/lvm", "/busybox"] {
        fs::create_dir_all(dir).with_context(|| format!("create {dir}"))?;
    }
    let status = Command::new("/sbin/busybox")
        .args(["--install", "-s", "/busybox"])
        .status()?;
    ensure!(status.success(), "busybox ended with {status}");
    fs::create_dir_all("/bin")?;
    std::os::unix::fs::symlink("/busybox/sh", "/bin/sh").context("link /bin/sh")?;
    put(
        Path::new("/etc/lvm/lvm.conf"),
        &lvm_conf("", "/etc/lvm", "/run/lock/lvm"),
    )
}

/// Returns a configuration of LVM for a host without udev and without LVM's daemons.
///
/// * `devices`: more settings for the section of that name.
pub(super) fn lvm_conf(devices: &str, dir: &str, locks: &str) -> String {
    format!(
        "devices {{ scan = [\"/dev\"] use_devicesfile = 0 obtain_device_list_from_udev = 0 \
         external_device_info_source = \"none\" issue_discards = 1 {devices} }}\n\
         activation {{ udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 }}\n\
         global {{ use_lvmpolld = 0 event_activation = 0 locking_dir = \"{locks}\" \
         thin_check_executable = \"/sbin/thin_check\" }}\n\
         backup {{ backup = 1 archive = 1 backup_dir = \"{dir}/backup\" archive_dir = \"{dir}/archive\" }}\n"
    )
}

/// Writes a file that need not survive anything.
pub(super) fn put(path: &Path, text: &str) -> Result<()> {
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn load_modules() -> Result<()> {
    let dir = Path::new("/lib/modules");
    for name in fs::read_to_string(dir.join("order"))?.lines() {
        let file = File::open(dir.join(name)).with_context(|| name.to_owned())?;
        match rustix::system::finit_module(&file, c"", 0) {
            // Loaded already; or a driver for hardware that is not there, such as a CPU feature.
            Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => {}
            Err(error) => return Err(error).with_context(|| name.to_owned()),
        }
    }
    Ok(())
}

/// Ends the machine.
pub(super) fn power_off() -> ! {
    let refused = reboot(RebootCommand::PowerOff);
    // PID 1's end makes the kernel panic, which ends the machine too.
    panic!("power off: {refused:?}")
}
