//! Clients are programs of Debian packages; a test runs them and reads what they print.

use std::process::Command;

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn run(program: &str, package: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|error| panic!("{program} (package {package}): {error}"));
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {told}{said}");
    told
}
