//! Leave to claim a disk by force: a file in its directory that names the epoch over which it may be claimed.
//!
//! Once the claim is made another epoch is the last one that wrote, and the leave is of no meaning: neither a restart nor a file
//! that somebody forgot ever takes a disk from anybody by accident.

use std::path::PathBuf;

use crashsafe::{Disk, RealDisk};
use log_disk::Epoch;

use super::open::Insist;
use super::state::DiskDir;

const LABEL: &str = "disk:force";

/// Why the leave could not be given, or looked for.
#[derive(Debug, thiserror::Error)]
#[error("leave to claim by force {}", path.display())]
pub struct ForceError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: std::io::Error,
}

/// Lets the disk's next process claim it although `over`, the last epoch that wrote, has not given it up.
///
/// # Errors
/// [`ForceError`].
pub fn permit(disk: &dyn Disk, dir: &DiskDir, over: Epoch) -> Result<(), ForceError> {
    let path = dir.force();
    let text = format!("{}\n", over.0);
    crashsafe::write_atomic(disk, LABEL, &path, text.as_bytes(), 0o600)
        .map_err(|source| ForceError { path, source })
}

/// Reads the leave into what the operator insists on.
pub(super) fn leave(dir: &DiskDir, insist: Insist) -> Result<Insist, ForceError> {
    let path = dir.force();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Insist {
            force_over: text.trim().parse().ok().map(Epoch),
            ..insist
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(insist),
        Err(source) => Err(ForceError { path, source }),
    }
}

/// Removes the leave. One that stays does no harm.
pub(super) fn used_up(dir: &DiskDir) {
    match RealDisk.remove_file(LABEL, &dir.force()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(error = %error, "the leave to claim by force was not removed");
        }
        Ok(()) | Err(_) => {}
    }
}
