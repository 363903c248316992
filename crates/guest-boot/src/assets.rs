//! Where `cargo xtask setup` puts the kernel, the initramfs archives and the firmware.

use std::path::{Path, PathBuf};

/// Returns the directory of the guest assets: `$HANGAR_ASSETS`, or `assets` in cargo's target directory.
#[must_use]
pub fn assets_dir() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match (
        std::env::var_os("HANGAR_ASSETS"),
        std::env::var_os("CARGO_TARGET_DIR"),
    ) {
        (Some(dir), _) => root.join(dir),
        (None, Some(target)) => root.join(target).join("assets"),
        (None, None) => root.join("target/assets"),
    }
}
