//! What a fresh Debian 12 machine lacks: packages (as root), then the guest's kernel and initramfs (as anyone).

use crate::{guest_image, shell};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Debian packages, each with what needs it.
const PACKAGES: &[(&str, &str)] = &[
    ("btrfs-progs", "tests of reflink pools"),
    ("build-essential", "C parts of crates (SQLite, zstd, TLS)"),
    ("busybox-static", "the demonstration image"),
    ("cryptsetup-bin", "conformance of LUKS headers"),
    ("docker-registry", "tests of image pulls"),
    ("e2fsprogs", "file systems inside guests"),
    ("btrfs-progs", "tests of volumes that share blocks"),
    ("erofs-utils", "conformance of root file system images"),
    ("etcd-server", "tests of leases in etcd"),
    ("fio", "conformance of NBD exports"),
    ("libnbd-bin", "conformance of NBD exports"),
    ("lvm2", "the host tier"),
    ("qemu-system-x86", "running machines"),
    ("qemu-utils", "conformance of volume images and NBD exports"),
    ("seabios", "qboot, the firmware of microvm guests"),
    ("skopeo", "tests of image pulls"),
    ("sqlite3", "tests of litefs with SQLite's own shell"),
    ("thin-provisioning-tools", "the host tier"),
    ("umoci", "tests of image imports"),
    ("xfsprogs", "file systems inside guests"),
];

/// Installs missing packages and makes the guest assets.
pub(crate) fn run() -> Result<()> {
    install(PACKAGES)?;
    guest_image::build(&guest_boot::assets_dir())
}

/// Installs those of `packages` that are missing.
pub(crate) fn install(packages: &[(&'static str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    for args in [vec!["update", "-q"], install_args(&missing)] {
        let mut command = as_root("apt-get")?;
        command
            .args(&args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        shell::must(&mut command)?;
    }
    match missing.iter().find(|name| !installed(name)) {
        Some(name) => bail!("package {name} is still missing after the install; see apt-get's words above"),
        None => Ok(()),
    }
}

fn install_args<'a>(missing: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(missing);
    args
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .output();
    query.is_ok_and(|out| out.status.success() && out.stdout == b"installed")
}

/// Returns `program` to be run with root's rights: itself for root, behind sudo otherwise.
fn as_root(program: &str) -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status();
    sudo.context(
        "packages are missing and neither root nor sudo is at hand; as root, run `cargo xtask setup`",
    )?;
    let mut command = Command::new("sudo");
    command.args(["-E", program]);
    Ok(command)
}
