//! `flaps serve --config FILE`: the node's public API.

use clap::Parser as _;
use flaps::cli::{Cli, Command};

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => daemon::run("flaps", async move |context| {
            flaps::serve::run(&config, context.shutdown).await
        }),
    }
}
