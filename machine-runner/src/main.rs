//! `machine-runner`: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use machine_runner::cli::{Cli, Command};
use machine_runner::config::{AccelPolicy, Config};
use machine_runner::{accel, doctor, kvm_probe, serve, shim, switch};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => daemon::run("machine-runner", async |context| {
            serve::serve(&config, context).await
        }),
        Command::Shim { dir } => daemon::run("machine-shim", async |context: daemon::Context| {
            shim::run(&dir, context.shutdown).await
        }),
        Command::Switch { dir } => daemon::run("machine-switch", async |context: daemon::Context| {
            switch::run(&dir, context.shutdown).await
        }),
        Command::ProbeKvm => {
            let outcome = kvm_probe::probe();
            print_json(&serde_json::json!(outcome))
        }
        Command::Doctor { config, json } => diagnose(config.as_deref(), json),
    }
}

#[allow(clippy::print_stdout)] // data for the caller
fn print_json(value: &serde_json::Value) -> ExitCode {
    println!("{value}");
    ExitCode::SUCCESS
}

#[allow(clippy::print_stdout)] // data for the caller
fn diagnose(path: Option<&std::path::Path>, json: bool) -> ExitCode {
    daemon::run("machine-doctor", async |_context| -> anyhow::Result<()> {
        let config: Config = match path {
            Some(path) => serve::configuration(path)?,
            None => {
                let assets =
                    std::env::var("HANGAR_ASSETS").unwrap_or_else(|_| "/usr/share/hangar".to_owned());
                let text = format!(
                    "data_dir = '/var/lib/hangar'\nsocket = '/run/hangar.sock'\nassets_dir = '{assets}'\n"
                );
                Config::try_from(toml::from_str::<machine_runner::config::RawConfig>(&text)?)?
            }
        };
        let policy: AccelPolicy = config.raw.accel;
        let verdict = accel::measure(policy, &std::env::current_exe()?, &config.raw.qemu).await;
        let report = doctor::report(&config, &verdict);
        if json {
            println!("{report:#}");
        } else {
            println!("{}", doctor::words(&report));
        }
        Ok(())
    })
}
