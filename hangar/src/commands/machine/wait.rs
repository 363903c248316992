//! Waiting for a machine's state.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Machine, render, text};
use crate::cli::machine::Wait;
use crate::failure::Failure;
use crate::output::Output;

/// How long a start may take before the command gives up (the machine goes on).
pub(super) const START_WITHIN: Duration = Duration::from_secs(300);
/// Longest single wait that the API takes.
const CALL_S_MAX: u64 = 60;

pub(super) async fn run(arguments: Wait, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.one.app, &arguments.one.machine)?;
    let within = duration(&arguments.wait_timeout)?;
    until(&machine, &arguments.state, within, &context.output).await?;
    context.output.line(format!(
        "Machine {} reached state {:?}",
        machine.id, arguments.state
    ))
}

/// Waits until the machine is in `state`.
pub(super) async fn until(
    machine: &Machine,
    state: &str,
    within: Duration,
    output: &Output<'_>,
) -> Result<(), Failure> {
    let message = format!("waiting for {} to be {state}", machine.id);
    output.during(&message, wait(machine, state, within)).await
}

/// Waits until a machine that was started runs, has run to its end, or is known not to start; returns it as it is then.
///
/// One that failed to start and is tried again ends the wait: its user is to know why, not to sit before it.
pub(super) async fn until_up(
    machine: &Machine,
    within: Duration,
    output: &Output<'_>,
) -> Result<Value, Failure> {
    let mut states = "started,stopped,failed,destroyed,restarting";
    loop {
        let waited = until(machine, states, within, output).await;
        let value = match waited {
            Ok(()) => machine.get().await,
            Err(failure) => Err(failure),
        };
        let value = match value {
            Err(failure) if failure.is_not_found() => json!({"id": machine.id, "state": "destroyed"}),
            other => other?,
        };
        // A workload that ran and failed is its own affair: its next start is what is waited for.
        let crashed = text(&value, "state") == "restarting" && render::why_not_running(&value).is_none();
        if !crashed {
            return Ok(value);
        }
        states = "started,stopped,failed,destroyed";
    }
}

/// Refuses a machine that did not start.
///
/// # Errors
/// [`Failure::NotStarted`] with the reason.
pub(super) fn refuse_failed(machine: &Value) -> Result<(), Failure> {
    let (state, reason) = (text(machine, "state"), render::why_not_running(machine));
    if state == "failed" || (state != "started" && reason.is_some()) {
        return Err(Failure::NotStarted {
            id: text(machine, "id").to_owned(),
            state: state.to_owned(),
            reason,
        });
    }
    Ok(())
}

async fn wait(machine: &Machine, state: &str, within: Duration) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        // Round up, so that a wait of half a second asks once and not for nothing.
        let seconds = (left.as_secs() + u64::from(left.subsec_nanos() > 0)).clamp(1, CALL_S_MAX);
        let path = machine.path(&format!(
            "/wait?state={}&timeout={seconds}",
            crate::rest::escaped(state)
        ));
        let over = || tokio::time::Instant::now() >= end;
        match machine.rest.get("wait for machine", &path).await {
            Ok(_) => return Ok(()),
            Err(Failure::Refused { status: 408, .. }) if over() => {
                return Err(Failure::WaitedTooLong {
                    what: format!("machine {}", machine.id),
                    state: state.to_owned(),
                    last: last_state(machine).await,
                    within,
                });
            }
            Err(Failure::Refused { status: 408, .. }) => {}
            // It went away altogether, which is what was waited for.
            Err(failure) if failure.is_not_found() && state == "destroyed" => return Ok(()),
            Err(failure) => return Err(machine.named(failure)),
        }
    }
}

async fn last_state(machine: &Machine) -> String {
    match machine.get().await {
        Ok(value) => text(&value, "state").to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

/// Parses `20s`, `5m`, `1h`, `90`.
pub(super) fn duration(given: &str) -> Result<Duration, Failure> {
    let bad = || Failure::BadValue {
        what: "duration",
        given: given.to_owned(),
        expected: "use seconds, or a number with s, m or h",
    };
    let (digits, unit) = match given.trim().strip_suffix(['s', 'm', 'h']) {
        Some(digits) => (digits, given.trim().as_bytes()[digits.len()]),
        None => (given.trim(), b's'),
    };
    let count: u64 = digits.parse().map_err(|_| bad())?;
    let seconds = count.checked_mul(match unit {
        b'm' => 60,
        b'h' => 3600,
        _ => 1,
    });
    seconds
        .filter(|seconds| *seconds <= 7 * 86_400)
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests;
