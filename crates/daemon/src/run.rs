//! A daemon's life: tracing, runtime, signals, the daemon itself, its tasks' end.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::log::Logging;
use crate::shutdown::StopSignals;
use crate::spawn::Tasks;

/// How long tasks may take to end after `main` returned.
const TASK_GRACE: Duration = Duration::from_secs(10);
/// How long blocking calls may still run when the runtime is torn down.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);
/// The exit code when a second signal cut the shutdown short: try again, nothing was lost that was acknowledged.
const INSISTED: u8 = 3;

/// What a daemon's `main` is given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Context {
    /// Cancelled at the first SIGTERM or SIGINT; the daemon then winds down and returns from `main`.
    pub shutdown: CancellationToken,
}

/// Runs a daemon called `name` from start to exit code.
///
/// Sets up tracing and a multi-threaded tokio runtime, turns SIGTERM and SIGINT into `Context::shutdown`, runs `main`,
/// and then awaits every task of [`crate::spawn`] for up to ten seconds. A second signal ends the process at once.
///
/// Exit codes: 0 when `main` returned `Ok`, 1 when it returned an error (logged with its sources), 3 when a second
/// signal came before the end.
pub fn run<F, E>(name: &'static str, main: F) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    run_logging(name, Logging::default(), main)
}

/// As [`run`], with a log as the daemon's configuration wants it.
pub fn run_logging<F, E>(name: &'static str, logging: Logging, main: F) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    crate::log::init(name, logging);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(name)
        .build()
    {
        Ok(runtime) => runtime,
        Err(source) => {
            error!(daemon = name, error = %source, "runtime did not start");
            return ExitCode::FAILURE;
        }
    };
    let tasks = Tasks::track(runtime.handle());
    let code = runtime.block_on(drive(name, main, &tasks));
    Tasks::untrack(runtime.handle());
    runtime.shutdown_timeout(BLOCKING_GRACE);
    code
}

async fn drive<F, E>(name: &'static str, main: F, tasks: &Tasks) -> ExitCode
where
    F: AsyncFnOnce(Context) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let signals = match StopSignals::register() {
        Ok(signals) => signals,
        Err(source) => {
            error!(daemon = name, error = %source, "signal handlers were refused");
            return ExitCode::FAILURE;
        }
    };
    let shutdown = CancellationToken::new();
    info!(daemon = name, pid = std::process::id(), "started");
    let life = async {
        let result = main(Context {
            shutdown: shutdown.clone(),
        })
        .await;
        shutdown.cancel();
        if let Err(names) = tasks.wait(TASK_GRACE).await {
            warn!(daemon = name, tasks = ?names, "tasks outlived the grace period");
        }
        result
    };
    let result = tokio::select! {
        result = life => result,
        () = signals.cancel_then_insist(shutdown.clone()) => return ExitCode::from(INSISTED),
    };
    match result {
        Ok(()) => {
            info!(daemon = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(daemon = name, error = %chain(error.into().as_ref()), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

/// Joins an error and its sources by `: `, outermost first.
fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
