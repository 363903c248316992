//! What is said about the end of a run: the exit event's facts, and the line in the machine's log. Pure.

use serde_json::{Value, json};

use crate::restart::Verdict;
use crate::shim::facts::{ExitCause, ExitReport};

/// Said of a machine that is not started again because it failed too often.
pub(super) const GAVE_UP: &str = "the machine failed too often within five minutes and was not started again; start it when its cause is gone";

/// Said of a guest that stood still for want of room.
pub(super) const GOES_ON: &str = "this host's disk has room again: the guest goes on";

/// The facts of an exit as clients read them.
pub(super) fn exit_event(report: &ExitReport, restarting: bool, restart_count: u32) -> Value {
    json!({
        "exit_event": {
            "exit_code": report.exit_code(),
            "guest_exit_code": report.guest_exit_code.unwrap_or(0),
            "guest_signal": report.guest_signal.unwrap_or(-1),
            "signal": report.guest_signal.unwrap_or(-1),
            "oom_killed": report.oom_killed,
            "requested_stop": report.requested_stop,
            "restarting": restarting,
            "exited_at": report.exited_at,
            "cause": report.cause,
            "error": report.message,
        },
        "restart_count": restart_count,
    })
}

/// Tells whether the workload never ran.
pub(super) fn never_ran(cause: ExitCause) -> bool {
    matches!(
        cause,
        ExitCause::NotStarted | ExitCause::VmmFailed | ExitCause::BootTimeout
    )
}

/// The log's line about an end that the workload's own output does not explain.
pub(super) fn log_line(report: &ExitReport, verdict: Verdict, now_ms: i64) -> Option<String> {
    let reason = report.message.as_ref()?;
    let what = if never_ran(report.cause) {
        "the machine did not start"
    } else {
        "the machine ended"
    };
    let next = match verdict {
        Verdict::RestartAt(at_ms) => {
            let seconds = (at_ms - now_ms).max(0).div_euclid(1000);
            format!("; it is started again in {seconds} s")
        }
        Verdict::GaveUp => format!("; {GAVE_UP}"),
        Verdict::Stay if report.lasting => {
            "; it is not started again, because that would end the same way: update it".to_owned()
        }
        Verdict::Stay => String::new(),
    };
    Some(format!("{what}: {reason}{next}"))
}

#[cfg(test)]
mod tests;
