//! Tracing set-up: lines to standard error, filtered by `HANGAR_LOG` (or `RUST_LOG`).

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How a daemon's configuration wants its log. The environment comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Logging {
    /// One JSON object a line.
    pub json: bool,
    /// Requests too, not only changes.
    pub debug: bool,
}

/// Installs the process-wide subscriber and a panic hook that reports through it. A second call changes nothing.
///
/// `HANGAR_LOG_FORMAT=json` writes one JSON object a line; colour is used on a terminal only.
pub(crate) fn init(name: &'static str, logging: Logging) {
    let filter = EnvFilter::try_from_env("HANGAR_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| {
            EnvFilter::new(if logging.debug {
                "debug,s3s=off"
            } else {
                "info,s3s=off"
            })
        });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let json = std::env::var_os("HANGAR_LOG_FORMAT").map_or(logging.json, |format| format == "json");
    let installed = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    if installed.is_ok() {
        report_panics(name);
    }
}

/// Sends panics to the log, so that one in a task is not lost with the task's handle.
fn report_panics(name: &'static str) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("panic without a message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(daemon = name, message_text = message, location, "panicked");
        previous(panic);
    }));
}
