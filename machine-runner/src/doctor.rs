//! What this host can do for machines, with what to do about the rest.

use serde_json::{Value, json};

use crate::accel::Verdict;
use crate::config::Config;

/// Files that every guest needs.
pub const ASSETS: [&str; 3] = ["vmlinux", "initramfs.cpio", "qboot.rom"];

/// The verdicts as JSON; `ok` is false when no machine could start.
#[must_use]
pub fn report(config: &Config, verdict: &Verdict) -> Value {
    let raw = &config.raw;
    let missing: Vec<_> = ASSETS
        .into_iter()
        .filter(|name| !raw.assets_dir.join(name).is_file())
        .collect();
    let assets_advice = (!missing.is_empty()).then(|| {
        format!(
            "make them with `cargo xtask setup`, or point assets_dir at them; looked in {}",
            raw.assets_dir.display()
        )
    });
    let qemu = verdict.qemu_version.is_some();
    let qemu_advice = (!qemu).then(|| {
        format!(
            "install QEMU (Debian: qemu-system-x86); {} does not run",
            raw.qemu.display()
        )
    });
    let no_volumed = "set volumed_socket, or machines with volumes are refused";
    json!({
        "ok": missing.is_empty() && qemu,
        "accelerator": verdict.accelerator,
        "kvm": {"verdict": verdict.kvm, "usable": verdict.kvm == "kvm-native", "reason": verdict.reason,
                "advice": verdict.advice},
        "board": verdict.board,
        "tsc_khz": verdict.tsc_khz,
        "io_uring": verdict.io_uring,
        "assets": {"dir": raw.assets_dir, "missing": missing, "advice": assets_advice},
        "qemu": {"path": raw.qemu, "version": verdict.qemu_version, "advice": qemu_advice},
        "capabilities": crate::vmm::qemu::capabilities(),
        "volumed": {
            "configured": raw.volumed_socket.is_some(),
            "advice": raw.volumed_socket.is_none().then_some(no_volumed),
        },
    })
}

/// The same for people.
#[must_use]
pub fn words(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let kvm = &report["kvm"];
    let mut lines = vec![
        format!(
            "accelerator: {} ({}): {}",
            text(&report["accelerator"]),
            text(&kvm["verdict"]),
            text(&kvm["reason"])
        ),
        format!("qemu: {}", text(&report["qemu"]["version"])),
        format!("guest files missing: {}", report["assets"]["missing"]),
    ];
    for part in ["kvm", "assets", "qemu", "volumed"] {
        if let Some(advice) = report[part]["advice"].as_str() {
            lines.push(format!("  {part}: {advice}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
