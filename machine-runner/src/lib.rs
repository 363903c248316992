//! Runs machines: QEMU guests with volumes attached, driven by the machine half of the Machines API.
//!
//! `serve` is the daemon; it starts one [`shim`] a running machine, so that its own end never touches a guest.

pub mod accel;
pub mod api;
pub mod catalog;
pub mod checks;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod erofs;
pub mod go_duration;
pub mod guest;
pub mod ids;
pub mod images;
pub mod kvm_probe;
pub mod lease;
pub mod lifecycle;
pub mod machine_config;
pub mod metrics;
pub mod names;
pub mod network;
pub mod prober;
pub mod record;
pub mod restart;
pub mod runner;
pub mod serve;
pub mod shim;
pub mod switch;
mod sys;
pub mod vmm;
pub mod volumes;
pub mod words;
