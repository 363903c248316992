//! Real guests: Debian's kernel and our initramfs under QEMU, without hardware virtualization.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_debug_implementations)]

#[path = "guest/commands.rs"]
mod commands;
#[path = "guest/grow.rs"]
mod grow;
#[path = "guest/image.rs"]
mod image;
#[path = "guest/life.rs"]
mod life;
#[path = "guest/machine.rs"]
mod machine;
#[path = "guest/network.rs"]
mod network;
#[path = "guest/qemu.rs"]
mod qemu;
#[path = "guest/suspend.rs"]
mod suspend;

/// Runs a test on one thread.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
