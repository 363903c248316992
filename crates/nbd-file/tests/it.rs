//! A file that is an export, a loop device over it, and servers that die: as root, with /dev/fuse.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod it {
    pub(super) mod cases;
    pub(super) mod place;
    pub(super) mod server;
}

use std::path::PathBuf;

use libtest_mimic::{Arguments, Trial};

/// The first argument that makes this program serve a file: its socket and directory follow.
const SERVE: &str = "serve-file";

fn main() -> std::process::ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if let [serve, socket, directory] = &args[..]
        && serve.as_os_str() == SERVE
    {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
        let mounted = nbd_file::mount(&nbd_file::Config::new(socket, "", directory)).unwrap();
        mounted.wait().unwrap();
        return std::process::ExitCode::SUCCESS;
    }
    let trials = it::cases::ALL.iter().map(|(name, case)| {
        Trial::test(*name, || {
            case();
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    // It prints the summary that the build reads.
    conclusion.exit_code()
}
