//! `volumed`.

use std::process::ExitCode;

use clap::Parser;
use volumed::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => daemon::run("volumed", async |ctx| {
            let config = volumed::config::load(&config)?;
            volumed::serve::serve(ctx, config).await
        }),
    }
}
