//! `hangar`: see [`hangar::cli`].

use std::process::ExitCode;

use clap::Parser as _;
use hangar::cli::{Cli, Command};
use hangar::commands::{self, Context};
use hangar::environment::Environment;
use hangar::output::{Output, Terminal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process(&cli.global);
    match cli.command {
        Command::Up(arguments) => hangar::up::main(arguments, environment),
        Command::S3Serve(arguments) => hangar::up::s3::main(arguments),
        command => client(command, environment),
    }
}

/// Runs a command that asks a node something; one thread is enough for that.
fn client(command: Command, environment: Environment) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            use std::io::Write as _;
            let _unheard = writeln!(std::io::stderr(), "Error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr());
    let output = Output::new(&mut stdout, &mut stderr, Terminal::of_process());
    let code = runtime.block_on(commands::run(command, Context::new(environment, output)));
    runtime.shutdown_background();
    ExitCode::from(code)
}
