//! Tests of what only a real kernel can show: device-mapper, LVM, file systems that grow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "host/lvm.rs"]
mod lvm;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let cases = host_tests::cases![lvm::what_is_there_already_is_an_error_five];
    host_tests::main(cases, Path::new(env!("CARGO_TARGET_TMPDIR")))
}
