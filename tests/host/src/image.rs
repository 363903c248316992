//! The initramfs: the archive that `cargo xtask setup` made, and behind it this program with its libraries.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use guest_boot::{Archive, assets_dir};
use sha2::{Digest, Sha256};

/// Returns the initramfs with `program` as PID 1, kept in `cache` until program or assets change.
pub(crate) fn initramfs(program: &Path, cache: &Path) -> Result<PathBuf> {
    let base = assets_dir().join("host-tier.cpio");
    let base =
        fs::read(&base).with_context(|| format!("{} is missing: run `cargo xtask setup`", base.display()))?;
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let mut digest = Sha256::new();
    digest.update(&base);
    digest.update(&bytes);
    let path = cache.join(format!(
        "host-tier-{}.cpio",
        &hex::encode(digest.finalize())[..16]
    ));
    if path.exists() {
        return Ok(path);
    }
    forget_old(cache)?;
    let mut archive = Archive::default();
    archive.program("init", &stripped(program, cache)?);
    for library in guest_boot::libraries(program)? {
        let bytes = fs::read(&library).with_context(|| format!("read {}", library.display()))?;
        archive.program(&library.to_string_lossy(), &bytes);
    }
    let mut file = tempfile::NamedTempFile::new_in(cache).context("make the initramfs")?;
    file.write_all(&base)?;
    file.write_all(&archive.build()?)?;
    // In one step: another run may be reading the same cache.
    file.persist(&path)?;
    Ok(path)
}

/// Removes the images of earlier builds. A guest that boots from one has it open.
fn forget_old(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("host-tier-") {
            // Another run may have been faster.
            let _ = fs::remove_file(cache.join(name));
        }
    }
    Ok(())
}

/// The program without what only a debugger reads, which is most of it.
fn stripped(program: &Path, cache: &Path) -> Result<Vec<u8>> {
    let small = tempfile::NamedTempFile::new_in(cache)?;
    let status = Command::new("strip")
        .args(["--strip-all", "-o"])
        .arg(small.path())
        .arg(program)
        .status()
        .context("start strip (package binutils)")?;
    ensure!(status.success(), "strip ended with {status}");
    Ok(fs::read(small.path())?)
}
