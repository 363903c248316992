//! Real guests under real QEMU, by emulation where KVM does not run code. One daemon a test, on a directory of its
//! own; volumed is a stand-in that keeps volumes as plain files.
//!
//! Needs `cargo xtask setup` once (guest kernel and initramfs) and Debian's `qemu-system-x86`, `busybox-static`; the tests
//! of a full disk and of a block device also need root, for a small file system and a loop device.

#![allow(clippy::unwrap_used)]

mod block_device;
mod copies;
mod full_disk;
mod image;
mod nbd_volume;
mod node;
mod refusals;
mod stories;
mod volumed;
