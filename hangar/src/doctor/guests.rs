//! What machines need.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use daemon::config_file::ConfigError;
use serde_json::Value;
use tokio::process::Command;

use super::{Finding, Verdict};
use crate::node::{ASSETS, Layout, NodeConfig, Programs};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// The KVM probe runs a guest; it gives up by itself long before this.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) fn programs(programs: &Programs) -> Finding {
    const NAME: &str = "programs";
    let missing = programs.missing();
    if missing.is_empty() {
        return Finding::ok(NAME, "volumed, machine-runner and flaps are beside hangar");
    }
    let names: Vec<String> = missing.iter().map(|path| path.display().to_string()).collect();
    let what = (
        format!("missing: {}", names.join(", ")),
        "`hangar up` will not start",
        "cargo build --bins, or install all four",
    );
    Finding::bad(NAME, Verdict::Missing, what)
}

pub(super) async fn accelerator(layout: &Layout, programs: &Programs) -> Finding {
    const NAME: &str = "kvm";
    let mut arguments = vec!["doctor".to_owned(), "--json".to_owned()];
    let config = layout.config("machine-runner");
    if config.is_file() {
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
    }
    let answer = run(&programs.path("machine-runner"), &arguments).await;
    let Some(report) = answer
        .as_ref()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
    else {
        let what = (
            "machine-runner could not be asked",
            "nothing is known of KVM",
            "build or install machine-runner",
        );
        return Finding::bad(NAME, Verdict::Warning, what);
    };
    let (usable, reason) = kvm_verdict(&report);
    if usable {
        return Finding::ok(
            NAME,
            if reason.is_empty() {
                "usable".to_owned()
            } else {
                reason
            },
        );
    }
    let found = if reason.is_empty() {
        "not usable".to_owned()
    } else {
        format!("not usable: {reason}")
    };
    let follows = "machines run under QEMU's emulation (TCG): everything works, several times slower";
    let remedy = "use a host with hardware virtualization, and give this user access to /dev/kvm";
    Finding::bad(NAME, Verdict::Warning, (found, follows, remedy))
}

/// Reads machine-runner's report: whether machines get KVM, and the evidence.
fn kvm_verdict(report: &Value) -> (bool, String) {
    let reason = report["kvm"]["reason"].as_str().unwrap_or_default().to_owned();
    (report["accelerator"] == "kvm", reason)
}

pub(super) async fn qemu(node: &Result<NodeConfig, ConfigError>) -> Finding {
    const NAME: &str = "qemu";
    let configured = node
        .as_ref()
        .ok()
        .and_then(|node| node.machine_runner.get("qemu")?.as_str().map(str::to_owned));
    let program = configured.unwrap_or_else(|| QEMU.to_owned());
    match run(Path::new(&program), &["--version".to_owned()]).await {
        Some(text) => Finding::ok(NAME, text.lines().next().unwrap_or_default().trim()),
        None => {
            let what = (
                format!("{program} is missing"),
                "no machine can run",
                "apt-get install qemu-system-x86",
            );
            Finding::bad(NAME, Verdict::Missing, what)
        }
    }
}

pub(super) fn assets(directory: &Path) -> Finding {
    const NAME: &str = "guest kernel";
    let missing: Vec<&str> = ASSETS
        .into_iter()
        .filter(|name| !directory.join(name).is_file())
        .collect();
    if missing.is_empty() {
        return Finding::ok(NAME, format!("in {}", directory.display()));
    }
    let found = format!("missing in {}: {}", directory.display(), missing.join(", "));
    Finding::bad(
        NAME,
        Verdict::Missing,
        (
            found,
            "no machine can run",
            "cargo xtask setup, or set HANGAR_ASSETS",
        ),
    )
}

/// Runs a program and returns its standard output when it ended well in time.
async fn run(program: &Path, arguments: &[String]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, output).await.ok()?.ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
