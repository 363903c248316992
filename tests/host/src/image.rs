//! The initramfs: the archive that `cargo xtask setup` made, and behind it this program with its libraries.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use guest_boot::{Archive, assets_dir};
use sha2::{Digest, Sha256};

/// A run boots from its image until its end.
const LONGEST_RUN: Duration = Duration::from_secs(6 * 3600);

#[allow(
    clippy::disallowed_methods,
    reason = "compared with what the file system says, which has this clock"
)]
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
    if let Ok(found) = fs::File::open(&path) {
        found.set_modified(SystemTime::now())?;
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

/// Removes the images of earlier builds that no run can be using any more.
fn forget_old(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unused = entry.metadata().and_then(|found| found.modified());
        let is_old = unused.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LONGEST_RUN));
        if name.starts_with("host-tier-") && is_old {
            // Another run may have been faster.
            let _ = fs::remove_file(entry.path());
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
