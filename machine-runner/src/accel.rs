//! Which accelerator runs guests on this host, and why.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::AccelPolicy;
use crate::kvm_probe::{KILL_AFTER, LIMIT, Outcome};
use crate::sys;
use crate::vmm::spec::{Accel, Board};

/// What this host can do for guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Accelerator that machines get.
    pub accelerator: Accel,
    /// `kvm-native`, `kvm-emulated` or `none`.
    pub kvm: String,
    /// One sentence with the evidence.
    pub reason: String,
    /// What follows for the user, when it is not KVM.
    pub advice: Option<String>,
    /// Rate of the time-stamp counter in kHz, where it could be measured.
    pub tsc_khz: Option<u64>,
    /// Board that machines get.
    pub board: Board,
    /// Whether disks use io_uring.
    pub io_uring: bool,
    /// QEMU's version, when it runs at all.
    pub qemu_version: Option<String>,
}

/// Judges the outcome of a probe. Pure.
#[must_use]
pub fn judge(policy: AccelPolicy, outcome: &Outcome, tsc_khz: Option<u64>, io_uring: bool) -> Verdict {
    let limit_us = u64::try_from(LIMIT.as_micros()).unwrap_or(u64::MAX);
    let (works, kvm, evidence) = match outcome {
        Outcome::Ran { micros } if *micros <= limit_us => (
            true,
            "kvm-native",
            format!("a 64-bit probe guest counted to 100,000 in {micros} µs"),
        ),
        Outcome::Ran { micros } => (
            false,
            "kvm-emulated",
            format!(
                "a 64-bit probe guest needed {micros} µs to count to 100,000, the limit is {limit_us} µs: this KVM emulates instructions and cannot run a stock kernel"
            ),
        ),
        Outcome::TooSlow => (
            false,
            "kvm-emulated",
            format!(
                "a 64-bit probe guest did not count to 110,000 within {} ms: this KVM emulates instructions and cannot run a stock kernel",
                KILL_AFTER.as_millis()
            ),
        ),
        Outcome::Failed { reason } => (false, "none", format!("no guest code ran: {reason}")),
    };
    let accelerator = match policy {
        AccelPolicy::Kvm => Accel::Kvm,
        AccelPolicy::Tcg => Accel::Tcg,
        AccelPolicy::Auto if works => Accel::Kvm,
        AccelPolicy::Auto => Accel::Tcg,
    };
    let reason = match policy {
        AccelPolicy::Auto => evidence,
        AccelPolicy::Kvm | AccelPolicy::Tcg => format!("set by the configuration; {evidence}"),
    };
    let advice = match accelerator {
        Accel::Kvm if works => None,
        Accel::Kvm => Some("KVM is forced but does not run code here: machines will not start; set accel = \"auto\"".to_owned()),
        Accel::Tcg => Some("machines run by emulation (TCG), 10 to 40 times slower than hardware; use a host with hardware virtualization for real work".to_owned()),
    };
    // Without its rate the small board hangs under TCG; q35 has timers of its own.
    let board = if accelerator == Accel::Tcg && tsc_khz.is_none() {
        Board::Q35
    } else {
        Board::Microvm
    };
    Verdict {
        accelerator,
        kvm: kvm.to_owned(),
        reason,
        advice,
        tsc_khz,
        board,
        io_uring,
        qemu_version: None,
    }
}

/// Measures this host: starts `program probe-kvm` as a child, reads the time-stamp counter, asks QEMU its version.
pub async fn measure(policy: AccelPolicy, program: &Path, qemu: &Path) -> Verdict {
    let outcome = probe_in_child(program).await;
    let verdict = judge(policy, &outcome, measure_tsc_khz().await, sys::io_uring_offered());
    Verdict {
        qemu_version: version_of(qemu).await,
        ..verdict
    }
}

async fn version_of(qemu: &Path) -> Option<String> {
    let output = tokio::process::Command::new(qemu)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next()?.strip_prefix("QEMU emulator version ")?;
    version.split_ascii_whitespace().next().map(str::to_owned)
}

async fn probe_in_child(program: &Path) -> Outcome {
    let failed = |reason: String| Outcome::Failed { reason };
    if !Path::new("/dev/kvm").exists() {
        return failed("/dev/kvm does not exist".to_owned());
    }
    let mut command = tokio::process::Command::new(program);
    command
        .arg("probe-kvm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("start the probe: {error}")),
    };
    match tokio::time::timeout(KILL_AFTER, child.wait_with_output()).await {
        Err(_) => Outcome::TooSlow,
        Ok(Err(error)) => failed(format!("the probe: {error}")),
        Ok(Ok(output)) => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| failed(format!("the probe died: {}", output.status))),
    }
}

/// The counter's rate over 20 ms of the monotonic clock; the median of three, so that one preemption between
/// the two reads does not matter.
async fn measure_tsc_khz() -> Option<u64> {
    let mut rates = Vec::new();
    for _ in 0..3 {
        let (clock, tsc) = (tokio::time::Instant::now(), sys::read_tsc());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (elapsed, ticks) = (clock.elapsed(), sys::read_tsc().checked_sub(tsc)?);
        let micros = u64::try_from(elapsed.as_micros())
            .ok()
            .filter(|micros| *micros > 0)?;
        rates.push(ticks.saturating_mul(1_000) / micros);
    }
    rates.sort_unstable();
    plausible(rates[1])
}

/// A rate that a real counter can have, 100 MHz to 10 GHz.
fn plausible(khz: u64) -> Option<u64> {
    (100_000..=10_000_000).contains(&khz).then_some(khz)
}

#[cfg(test)]
mod tests;
