//! Debian's cloud kernel: from the package to an uncompressed ELF file.

use super::run_quietly;
use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

/// The package that always depends on the newest cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Largest kernel we expect, uncompressed, in bytes.
const VMLINUX_BYTES_MAX: usize = 512 << 20;

/// A kernel package.
pub(super) struct Package {
    /// `linux-image-6.1.0-56-cloud-amd64`.
    pub(super) name: String,
    /// `6.1.192-2`.
    pub(super) version: String,
    /// `6.1.0-56-cloud-amd64`.
    pub(super) release: String,
}

/// Asks apt which kernel package is the newest; when apt knows none, takes the newest in `cache`.
pub(super) fn latest_package(cache: &Path) -> Result<Package> {
    let depends = shell::output(Command::new("apt-cache").args(["depends", META_PACKAGE]))?;
    let name = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let Some(release) = name else {
        return cached_package(cache);
    };
    let name = format!("linux-image-{release}");
    let policy = shell::output(Command::new("apt-cache").args(["policy", &name]))?;
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    let version = version
        .with_context(|| format!("apt knows no version of {name}"))?
        .to_owned();
    Ok(Package {
        version,
        release: release.to_owned(),
        name,
    })
}

fn cached_package(cache: &Path) -> Result<Package> {
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(cache)? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    let newest = found.iter().rev().find_map(|file| {
        let (name, rest) = file.strip_suffix(".deb")?.split_once('_')?;
        let (version, _) = rest.split_once('_')?;
        let release = name.strip_prefix("linux-image-")?;
        Some(Package {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            release: release.to_owned(),
        })
    });
    newest.with_context(|| format!("apt knows no {META_PACKAGE}; as root, run `apt-get update`"))
}

impl Package {
    /// Downloads the package, unless the cache has it, and unpacks it; returns the tree's root.
    pub(super) fn unpack(&self, cache: &Path) -> Result<PathBuf> {
        let deb = match self.deb(cache)? {
            Some(deb) => deb,
            None => {
                eprintln!("downloading {} {}", self.name, self.version);
                let wanted = format!("{}={}", self.name, self.version);
                run_quietly(Command::new("apt-get").args(["download", "-q", &wanted]), cache)?;
                self.deb(cache)?
                    .with_context(|| format!("apt-get download left no {wanted}"))?
            }
        };
        let tree = cache.join(format!("{}_{}", self.name, self.version));
        if tree.exists() {
            fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
        }
        run_quietly(
            Command::new("dpkg").arg("-x").arg(&deb).arg(&tree),
            Path::new("/"),
        )?;
        Ok(tree)
    }

    fn deb(&self, cache: &Path) -> Result<Option<PathBuf>> {
        let prefix = format!("{}_{}_", self.name, self.version.replace(':', "%3a"));
        for entry in fs::read_dir(cache)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&prefix) && name.ends_with(".deb") {
                return Ok(Some(path.canonicalize()?));
            }
        }
        Ok(None)
    }
}

/// Returns the ELF file inside a bzImage, whatever it is compressed with.
///
/// Source: the x86 boot protocol, `setup_sects`, `payload_offset` and `payload_length`.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        image.get(0x202..0x206) == Some(b"HdrS"),
        "no bzImage: its header has no mark"
    );
    let setup_sectors = image.get(0x1f1).copied().unwrap_or_default();
    let field = |at: usize| -> usize {
        let bytes = image
            .get(at..at + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        u32::from_le_bytes(bytes.unwrap_or_default()) as usize
    };
    let start = (usize::from(setup_sectors) + 1) * 512 + field(0x248);
    let payload = image
        .get(start..start + field(0x24c))
        .context("the bzImage ends before its payload")?;
    let vmlinux = match payload {
        [0x02, 0x21, 0x4c, 0x18, rest @ ..] => unlz4(rest)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => unzstd(payload)?,
        // The last four bytes are the uncompressed size, which this decoder would take for another stream.
        [0xfd, b'7', b'z', b'X', b'Z', 0, .., _, _, _, _] => unxz(&payload[..payload.len() - 4])?,
        [0x7f, b'E', b'L', b'F', ..] => payload.to_vec(),
        _ => bail!(
            "kernel payload of unknown compression {:02x?}",
            &payload[..payload.len().min(6)]
        ),
    };
    ensure!(
        vmlinux.starts_with(b"\x7fELF"),
        "the kernel's payload is no ELF file"
    );
    Ok(vmlinux)
}

/// Undoes the "legacy" LZ4 frame format: blocks of at most 8 MiB, each behind its compressed size.
fn unlz4(mut rest: &[u8]) -> Result<Vec<u8>> {
    const BLOCK_BYTES: usize = 8 << 20;
    let mut out = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        // The payload ends with its uncompressed size, which is no block.
        let Some(compressed) = after.get(..u32::from_le_bytes(*size) as usize) else {
            break;
        };
        let bytes =
            lz4_flex::block::decompress_into(compressed, &mut block).context("decompress an lz4 block")?;
        out.extend_from_slice(&block[..bytes]);
        ensure!(
            out.len() <= VMLINUX_BYTES_MAX,
            "kernel of more than {VMLINUX_BYTES_MAX} bytes"
        );
        rest = &after[compressed.len()..];
    }
    Ok(out)
}

fn unzstd(payload: &[u8]) -> Result<Vec<u8>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(payload).context("read the zstd payload")?;
    let mut out = Vec::new();
    let mut limited = decoder.single_frame().take(VMLINUX_BYTES_MAX as u64);
    limited
        .read_to_end(&mut out)
        .context("decompress the zstd payload")?;
    Ok(out)
}

pub(super) fn unxz(payload: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let decoder = xz2::bufread::XzDecoder::new(payload);
    decoder
        .take(VMLINUX_BYTES_MAX as u64)
        .read_to_end(&mut out)
        .context("decompress the xz payload")?;
    Ok(out)
}

#[cfg(test)]
mod tests;
