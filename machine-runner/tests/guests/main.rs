//! Real guests under real QEMU, by emulation where KVM does not run code. One daemon a test, on a directory of its
//! own; volumed is a stand-in that keeps volumes as plain files.
//!
//! Needs `cargo xtask setup` once (guest kernel and initramfs) and Debian's `qemu-system-x86`, `busybox-static`; the test
//! of a full disk also needs root, for a small file system.

#![allow(clippy::unwrap_used)]

mod copies;
mod full_disk;
mod image;
mod node;
mod refusals;
mod stories;
mod volumed;
