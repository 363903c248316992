//! What a guest boots from: the kernel, an initramfs with `guest-init` in it, and the firmware; for the host tier's
//! guests an initramfs of what a storage host has.
//!
//! Everything is remade only when one of its inputs changed; `manifest.json` tells which inputs those were.

mod host_tier;
mod initramfs;
mod kernel;
mod modules;

use crate::shell;
use anyhow::{Context, Result, ensure};
use guest_boot::HostFile;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// What is made, beside the manifest.
const FILES: [&str; 4] = ["vmlinux", "initramfs.cpio", "host-tier.cpio", "qboot.rom"];

/// Where Debian's QEMU keeps the firmware of microvm guests.
const QBOOT: &str = "/usr/share/qemu/qboot.rom";

/// The triple with glibc's static library; also keeps the flags away from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Makes [`FILES`] and `manifest.json` in `out_dir`.
pub(crate) fn build(out_dir: &Path) -> Result<()> {
    let cache = out_dir.join("cache");
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let init = build_guest_init()?;
    let tools = guest_boot::closure(&["mke2fs", "mkfs.xfs"])?;
    let host_tools = host_tier::tools()?;
    let package = kernel::latest_package(&cache)?;
    let inputs = inputs(&package, &init, &[&tools, &host_tools])?;
    if is_current(out_dir, &inputs) {
        eprintln!("guest assets in {} are current", out_dir.display());
        return Ok(());
    }
    let tree = package.unpack(&cache)?;
    let image = fs::read(tree.join("boot").join(format!("vmlinuz-{}", package.release)));
    let vmlinux = kernel::extract(&image.context("read the kernel image")?)?;
    replace(&out_dir.join("vmlinux"), &vmlinux)?;
    let modules = modules::load(&tree, &package.release, modules::GROUPS)?;
    replace(
        &out_dir.join("initramfs.cpio"),
        &initramfs::build(&init, &modules, &tools)?,
    )?;
    let host_modules = modules::load(&tree, &package.release, host_tier::MODULES)?;
    replace(
        &out_dir.join("host-tier.cpio"),
        &host_tier::build(&host_modules, &host_tools)?,
    )?;
    let qboot = fs::read(QBOOT).with_context(|| format!("read {QBOOT} (package qemu-system-data)"))?;
    replace(&out_dir.join("qboot.rom"), &qboot)?;
    let mut files = serde_json::Map::new();
    for name in FILES {
        let bytes = fs::read(out_dir.join(name)).with_context(|| format!("read {name} back"))?;
        files.insert(
            name.to_owned(),
            json!({ "sha256": sha256(&bytes), "bytes": bytes.len() }),
        );
    }
    let manifest = json!({ "kernel": package.release, "inputs": inputs, "files": files });
    // Last: assets without a matching manifest are made again.
    replace(
        &out_dir.join("manifest.json"),
        format!("{manifest:#}\n").as_bytes(),
    )?;
    eprintln!(
        "guest assets made in {} (kernel {})",
        out_dir.display(),
        package.release
    );
    Ok(())
}

/// Builds `guest-init` statically and small, and returns the program.
fn build_guest_init() -> Result<Vec<u8>> {
    let args = [
        "build",
        "--release",
        "--target",
        TARGET,
        "-p",
        "guest-init",
        "--bin",
        "guest-init",
    ];
    let mut cargo = shell::cargo(&args);
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s");
    shell::must(&mut cargo)?;
    let path = shell::target_dir().join(TARGET).join("release/guest-init");
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// Everything the assets depend on, for comparison with the manifest.
fn inputs(package: &kernel::Package, init: &[u8], tools: &[&[HostFile]]) -> Result<Value> {
    let mut closure = Sha256::new();
    for tool in tools.iter().copied().flatten() {
        closure.update(tool.path.as_os_str().as_encoded_bytes());
        closure.update(&tool.bytes);
    }
    Ok(json!({
        "layout": initramfs::LAYOUT,
        "host_tier": host_tier::layout(),
        "kernel_package": format!("{}={}", package.name, package.version),
        "guest_init_sha256": sha256(init),
        "tools_sha256": hex::encode(closure.finalize()),
        "qboot_sha256": sha256(&fs::read(QBOOT).with_context(|| format!("read {QBOOT} (package qemu-system-data)"))?),
    }))
}

fn is_current(out_dir: &Path, inputs: &Value) -> bool {
    let manifest = fs::read(out_dir.join("manifest.json")).ok();
    let Some(manifest) = manifest.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
        return false;
    };
    let Some(files) = manifest["files"].as_object() else {
        return false;
    };
    let size = |name: &String| fs::metadata(out_dir.join(name)).map(|meta| meta.len()).ok();
    manifest["inputs"] == *inputs
        && files
            .iter()
            .all(|(name, file)| size(name) == file["bytes"].as_u64())
}

/// Puts `bytes` at `path`, so that no reader sees half of them.
#[expect(clippy::disallowed_methods, reason = "build products: made again when lost")]
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&temporary).with_context(|| format!("create {}", temporary.display()))?;
    file.write_all(bytes)
        .with_context(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("rename to {}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Runs `command` in `dir`, with its output kept for the error message.
fn run_quietly(command: &mut Command, dir: &Path) -> Result<()> {
    let out = command
        .current_dir(dir)
        .output()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(
        out.status.success(),
        "{command:?} ended with {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
