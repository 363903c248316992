//! Builds the demo's image on the spot: an OCI layout of two layers, from a Debian package, without root.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::shell;

/// The name by which `hangar images import` finds the image.
const NAME: &str = "demo:latest";
const PACKAGE: &str = "busybox-static";
/// Makes the layers the same in every build.
const MTIME: u64 = 0;
/// Where the links to busybox go; `/bin` is where the package puts busybox itself.
const APPLET_DIRS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// Writes the layout to `out`, replacing what is there.
pub(crate) fn build(out: &Path) -> Result<()> {
    if out.exists() {
        if !out.join("oci-layout").exists() {
            bail!("{} is there and is no image layout", out.display());
        }
        fs::remove_dir_all(out).with_context(|| format!("remove {}", out.display()))?;
    }
    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;

    let scratch = tempfile::tempdir().context("create a scratch directory")?;
    let package = download(scratch.path())?;
    let package_layer = file_system_of(&package)?;
    let busybox = find_busybox(&package_layer, scratch.path())?;
    let system_layer = system_layer(&busybox)?;

    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for tar in [package_layer, system_layer] {
        diff_ids.push(digest(&tar));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).context("compress a layer")?;
        let packed = encoder.finish().context("compress a layer")?;
        layers.push(put_blob(
            &blobs,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &packed,
        )?);
    }
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sleep", "infinity"],
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": "demo"},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put_blob(
        &blobs,
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    });
    let mut entry = put_blob(
        &blobs,
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    )?;
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    put(&out.join("index.json"), index.to_string().as_bytes())?;
    put(&out.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// Fetches the package's archive through apt, from which it also knows the checksum.
fn download(dir: &Path) -> Result<PathBuf> {
    shell::output(
        Command::new("apt-get")
            .args(["--quiet", "--quiet", "download", PACKAGE])
            .current_dir(dir),
    )
    .with_context(|| format!("download {PACKAGE}; run apt-get update if apt does not know it"))?;
    for entry in fs::read_dir(dir).context("read the scratch directory")? {
        let path = entry.context("read the scratch directory")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download {PACKAGE} left no archive")
}

/// The package's files as a tar archive: they make the first layer as they are.
fn file_system_of(package: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new("dpkg-deb");
    let output = command
        .arg("--fsys-tarfile")
        .arg(package)
        .stderr(Stdio::inherit())
        .output()
        .context("start dpkg-deb")?;
    if !output.status.success() {
        bail!(
            "dpkg-deb --fsys-tarfile {} ended with {}",
            package.display(),
            output.status
        );
    }
    Ok(output.stdout)
}

/// Takes the program out of the layer, to ask it for its applets.
fn find_busybox(layer: &[u8], scratch: &Path) -> Result<PathBuf> {
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().context("read the package")? {
        let mut entry = entry.context("read the package")?;
        if entry.path_bytes().ends_with(b"bin/busybox") {
            let path = scratch.join("busybox");
            entry.unpack(&path).context("unpack busybox")?;
            return Ok(path);
        }
    }
    bail!("{PACKAGE} has no bin/busybox")
}

/// Links for the applets, and the few files and directories that programs expect.
fn system_layer(busybox: &Path) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in [
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("run", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("data", 0o755),
    ] {
        append(
            &mut tar,
            tar::EntryType::Directory,
            &format!("{dir}/"),
            mode,
            None,
            b"",
        )?;
    }
    for dir in APPLET_DIRS {
        append(
            &mut tar,
            tar::EntryType::Directory,
            &format!("{dir}/"),
            0o755,
            None,
            b"",
        )?;
    }
    for (path, content) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        append(
            &mut tar,
            tar::EntryType::Regular,
            path,
            0o644,
            None,
            content.as_bytes(),
        )?;
    }
    for applet in shell::output(Command::new(busybox).arg("--list-full"))?.lines() {
        let known = APPLET_DIRS
            .iter()
            .any(|dir| applet.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
        if known && applet != "bin/busybox" {
            append(
                &mut tar,
                tar::EntryType::Symlink,
                applet,
                0o777,
                Some("/bin/busybox"),
                b"",
            )?;
        }
    }
    tar.into_inner().context("end a layer")
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    link: Option<&str>,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(path).with_context(|| format!("name {path}"))?;
    if let Some(link) = link {
        header
            .set_link_name(link)
            .with_context(|| format!("link {path}"))?;
    }
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_cksum();
    tar.append(&header, content)
        .with_context(|| format!("append {path}"))
}

/// Writes a blob under its digest and returns its descriptor.
fn put_blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = digest(bytes);
    let hex = digest.trim_start_matches("sha256:");
    put(&blobs.join(hex), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("write {}", path.display()))
}
