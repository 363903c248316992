//! `cargo xtask guest-test short|long`: the tests that boot real guests under QEMU.

use crate::{GuestSet, setup, shell};
use anyhow::Result;

/// Runs the tier; `long` repeats the timing-sensitive tests more often, and cuts the power at many more places.
pub(crate) fn run(set: GuestSet) -> Result<()> {
    setup::run()?;
    shell::must(&mut shell::cargo(&["build", "--bins"]))?;
    let mut command = shell::cargo(&[
        "test",
        "-p",
        "guest-init",
        "--test",
        "guest",
        "-p",
        "machine-runner",
        "--test",
        "guests",
        "-p",
        "host-tests",
        "--test",
        "host",
    ]);
    command.env(
        "HANGAR_GUEST_SET",
        match set {
            GuestSet::Short => "short",
            GuestSet::Long => "long",
        },
    );
    shell::must(&mut command)
}
