//! What each command does: asks the node, prints the answer.

use std::sync::Arc;

use clap::CommandFactory as _;
use daemon::wall_clock::{SystemClock, WallClock};
use serde_json::Value;

use crate::cli::{Cli, Command};
use crate::environment::Environment;
use crate::failure::{DONE, Failure};
use crate::output::Output;
use crate::rest::Rest;

mod apps;
mod completions;
mod images;
mod key;
mod machine;
mod mounts;
mod moves;
mod snapshots;
mod volumes;

/// What a command works with.
#[derive(Debug)]
pub struct Context<'a> {
    /// Environment and global options.
    pub environment: Environment,
    /// Where it writes.
    pub output: Output<'a>,
    /// Wall time, for "3 seconds ago".
    pub clock: Arc<dyn WallClock>,
}

impl<'a> Context<'a> {
    /// Joins the parts, with the system's clock.
    pub fn new(environment: Environment, mut output: Output<'a>) -> Self {
        if environment.no_colour() {
            output.without_colour();
        }
        Self {
            environment,
            output,
            clock: Arc::new(SystemClock),
        }
    }

    fn rest(&self) -> Result<Rest, Failure> {
        Rest::new(&self.environment)
    }

    fn app(&self, argument: &crate::cli::AppArg) -> Result<String, Failure> {
        self.environment.app(argument.app.as_deref())
    }
}

/// Runs a command and returns its exit code; failures are written where words go.
pub async fn run(command: Command, mut context: Context<'_>) -> u8 {
    match dispatch(command, &mut context).await {
        Ok(()) => DONE,
        Err(failure) => {
            let code = failure.exit_code();
            if code != DONE {
                // Nobody is left to tell when even this cannot be written.
                let _unheard = context.output.say(format!("Error: {failure}"));
            }
            code
        }
    }
}

async fn dispatch(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Apps { command } => apps::run(command, context).await,
        Command::Volumes { command } => volumes::run(command, context).await,
        Command::Machine { command } => machine::run(command, context).await,
        Command::Images { command } => images::run(command, context).await,
        Command::Key { command } => key::run(command, context).await,
        Command::Doctor(arguments) => crate::doctor::run(&arguments, context).await,
        Command::Completions { shell } => {
            completions::script(shell, &mut Cli::command(), &mut context.output)
        }
        Command::Man => completions::manual(Cli::command(), &mut context.output),
        Command::Up(_) | Command::S3Serve(_) => unreachable!("main runs these itself"),
    }
}

/// Says what was not found and where, as `fly` does: the API says only what kind of thing.
fn naming(failure: Failure, kind: &str, id: &str, app: &str) -> Failure {
    match failure {
        Failure::Refused {
            doing,
            status: 404,
            error,
            request_id,
        } if error == format!("{kind} not found") => Failure::Refused {
            doing,
            status: 404,
            error: format!("{kind} {id} was not found in app '{app}'"),
            request_id,
        },
        other => other,
    }
}

/// A text field of an object, or nothing.
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The items of a list answer.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
