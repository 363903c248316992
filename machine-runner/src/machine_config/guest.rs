//! `guest`: processors, memory, presets.

use serde_json::{Map, Value};

use super::Guest;
use super::fields::{Fields, InvalidConfig};

/// Name, CPUs, memory in MiB.
const PRESETS: [(&str, u32, u32); 14] = [
    ("shared-cpu-1x", 1, 256),
    ("shared-cpu-2x", 2, 512),
    ("shared-cpu-4x", 4, 1024),
    ("shared-cpu-6x", 6, 1536),
    ("shared-cpu-8x", 8, 2048),
    ("performance-1x", 1, 2048),
    ("performance-2x", 2, 4096),
    ("performance-4x", 4, 8192),
    ("performance-6x", 6, 12_288),
    ("performance-8x", 8, 16_384),
    ("performance-10x", 10, 20_480),
    ("performance-12x", 12, 24_576),
    ("performance-14x", 14, 28_672),
    ("performance-16x", 16, 32_768),
];

fn preset(name: &str) -> Option<Guest> {
    let (name, cpus, memory_mb) = PRESETS.iter().find(|(preset, ..)| *preset == name)?;
    let cpu_kind = if name.starts_with("shared") {
        "shared"
    } else {
        "performance"
    };
    Some(Guest {
        cpus: *cpus,
        cpu_kind: cpu_kind.to_owned(),
        memory_mb: *memory_mb,
        kernel_args: Vec::new(),
    })
}

pub(super) fn parse(config: &Map<String, Value>) -> Result<Guest, InvalidConfig> {
    let config = Fields::of("config", config);
    let base = match config.text("size")?.as_deref() {
        None | Some("") => preset("shared-cpu-1x"),
        Some(name) => preset(name),
    };
    let names = || PRESETS.map(|(name, ..)| name).join(", ");
    let base =
        base.ok_or_else(|| InvalidConfig::new("config.size", format!("must be one of {}", names())))?;
    let Some(guest) = config.object("guest")? else {
        return Ok(base);
    };
    if guest.text("gpu_kind")?.is_some_and(|kind| !kind.is_empty()) {
        return Err(InvalidConfig::new(
            "config.guest.gpu_kind",
            "is not supported: this node offers no GPUs",
        ));
    }
    guest.only(&["cpus", "cpu_kind", "memory_mb", "max_memory_mb", "kernel_args"])?;
    let cpu_kind = guest
        .text("cpu_kind")?
        .filter(|kind| !kind.is_empty())
        .unwrap_or(base.cpu_kind);
    let per_cpu_max = match cpu_kind.as_str() {
        "shared" => 2048,
        "performance" => 8192,
        other => {
            let sentence = format!("must be shared or performance, got {other:?}");
            return Err(InvalidConfig::new("config.guest.cpu_kind", sentence));
        }
    };
    let cpus = guest.integer("cpus", 1..=16)?.unwrap_or(base.cpus);
    if !cpus.is_power_of_two() && !cpus.is_multiple_of(2) {
        return Err(InvalidConfig::new(
            "config.guest.cpus",
            format!("must be 1, 2, 4, 6, 8, …, 16, got {cpus}"),
        ));
    }
    let memory_max = cpus * per_cpu_max;
    let memory_mb = guest.integer("memory_mb", 1..=131_072)?;
    let memory_mb = memory_mb.unwrap_or(
        base.memory_mb
            .max(cpus * if per_cpu_max == 2048 { 256 } else { 2048 }),
    );
    let memory_min = 128;
    if memory_mb < memory_min || memory_mb > memory_max {
        let sentence =
            format!("must be {memory_min} to {memory_max} for {cpus} {cpu_kind} CPUs, got {memory_mb}");
        return Err(InvalidConfig::new("config.guest.memory_mb", sentence));
    }
    if let Some(most) = guest
        .integer("max_memory_mb", 0..=131_072)?
        .filter(|most| *most > 0)
        && most != memory_mb
    {
        let sentence = "is not supported apart from memory_mb: memory does not change while a machine runs";
        return Err(InvalidConfig::new("config.guest.max_memory_mb", sentence));
    }
    let kernel_args = guest.texts("kernel_args")?.unwrap_or_default();
    if kernel_args
        .iter()
        .any(|arg| arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        return Err(InvalidConfig::new(
            "config.guest.kernel_args",
            "must be words without white space",
        ));
    }
    Ok(Guest {
        cpus,
        cpu_kind,
        memory_mb,
        kernel_args,
    })
}
