//! `litefs`: a file system that replicates the SQLite databases on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    litefs_rs::commands::main(std::env::args().skip(1))
}
