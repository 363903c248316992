//! What the command line asks for.

mod primary;
mod run;
mod transfer;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::Context as _;

use crate::{
    cli::{Command, MountArgs, USAGE, UsageError, parse},
    config::{self, Config},
    node,
};

const MISUSE: u8 = 2;

/// Runs the program.
///
/// * `args`: without its own name.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    match parse(args) {
        Ok(Command::Mount(args)) => mount(&args),
        Ok(Command::Version) => {
            say(&format!(
                "LiteFS-compatible litefs-rs v{}",
                env!("CARGO_PKG_VERSION")
            ));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            complain(USAGE);
            ExitCode::from(MISUSE)
        }
        Ok(Command::Run(args)) => finish(runtime().and_then(|runtime| runtime.block_on(run::run(&args)))),
        Ok(Command::Verify(args)) => finish(runtime().map(|runtime| runtime.block_on(verify::verify(&args)))),
        Ok(Command::Promote(args)) => finish(runtime().and_then(|runtime| {
            runtime.block_on(primary::promote(&args.url))?;
            Ok(ExitCode::SUCCESS)
        })),
        Ok(Command::Status(args)) => finish(runtime().and_then(|runtime| {
            say(runtime.block_on(primary::status(&args.url))?.trim_end());
            Ok(ExitCode::SUCCESS)
        })),
        Ok(Command::Import(args)) => finish(runtime().and_then(|runtime| {
            runtime
                .block_on(transfer::import(&args))
                .map_err(anyhow::Error::from)?;
            complain(&format!("Import of database \"{}\" done", args.name));
            Ok(ExitCode::SUCCESS)
        })),
        Ok(Command::Export(args)) => finish(runtime().and_then(|runtime| {
            runtime
                .block_on(transfer::export(&args))
                .map_err(anyhow::Error::from)?;
            complain(&format!("Export of database \"{}\" done", args.name));
            Ok(ExitCode::SUCCESS)
        })),
        Err(error @ UsageError::UnknownCommand(_)) => {
            complain(&format!("ERROR: {error}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("ERROR: {error}"));
            ExitCode::from(MISUSE)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("start")
}

fn finish(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        complain(&format!("ERROR: {error:#}"));
        ExitCode::FAILURE
    })
}

fn mount(args: &MountArgs) -> ExitCode {
    let mut config = match load(args) {
        Ok(config) => config,
        Err(problem) => {
            complain(&format!("ERROR: {problem}"));
            return ExitCode::from(MISUSE);
        }
    };
    if !args.command.is_empty() {
        // As LiteFS: joined, and split again as a shell does.
        config.exec = vec![config::Command {
            line: args.command.join(" "),
            if_candidate: false,
        }];
    }
    let logging = daemon::Logging {
        json: config.log_json,
        debug: config.log_debug || args.debug,
    };
    let unmount_first = !args.skip_unmount;
    let stay = !config.exit_on_error;
    let code = AtomicU8::new(0);
    // What a worker left half done in memory must never be taken for a database's state.
    daemon::end_on_panic();
    let ended = daemon::run_logging("litefs", logging, async |context| {
        let run = node::run(config, unmount_first, context.shutdown.clone(), &code).await;
        if stay && let Err(error) = &run {
            tracing::error!(error = %crate::store::chain(error), "did not start, and stays for a look");
            context.shutdown.cancelled().await;
        }
        run
    });
    if ended == ExitCode::SUCCESS {
        ExitCode::from(code.load(Ordering::Acquire))
    } else {
        ended
    }
}

fn load(args: &MountArgs) -> Result<Config, String> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None => {
            let found = usual_places().into_iter().find(|path| path.exists());
            let path = found.ok_or("config file not found")?;
            complain(&format!("config file read from {}", path.display()));
            path
        }
    };
    let text = std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let variable = |name: &str| match std::env::var(name) {
        Ok(value) => Some(value),
        Err(_) if name == "HOSTNAME" => {
            let name = rustix::system::uname();
            Some(name.nodename().to_string_lossy().into_owned())
        }
        Err(_) => None,
    };
    let lookup: Option<&config::Lookup<'_>> = if args.no_expand_env { None } else { Some(&variable) };
    Config::parse(&text, lookup).map_err(|error| format!("{}: {error}", path.display()))
}

fn usual_places() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("litefs.yml"));
    let mut places = vec![PathBuf::from("litefs.yml")];
    places.extend(home);
    places.push(PathBuf::from("/etc/litefs.yml"));
    places
}

#[allow(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

fn complain(text: &str) {
    eprintln!("{text}");
}
