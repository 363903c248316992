//! Machine sizes by name: `shared-cpu-1x` to `performance-16x`.

use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::size;

const SHARED_MB_PER_CPU: u64 = 256;
const PERFORMANCE_MB_PER_CPU: u64 = 2048;

/// What the command line says about the guest's size.
#[derive(Debug, Clone, Default)]
pub struct Wish<'a> {
    /// A preset's name.
    pub size: Option<&'a str>,
    /// Number of CPUs.
    pub cpus: Option<u64>,
    /// Memory, `512` or `1gb`.
    pub memory: Option<&'a str>,
    /// `shared` or `performance`.
    pub cpu_kind: Option<&'a str>,
}

impl Wish<'_> {
    /// Changes the `guest` object of a machine configuration. Limits are the node's to check.
    ///
    /// # Errors
    /// [`Failure::BadValue`] for a size that is none.
    pub fn apply(&self, guest: &mut Map<String, Value>) -> Result<(), Failure> {
        if let Some(name) = self.size {
            let (kind, cpus, memory_mb) = preset(name).ok_or_else(|| Failure::BadValue {
                what: "machine size",
                given: name.to_owned(),
                expected: "use shared-cpu-1x, -2x, -4x, -6x, -8x or performance-1x to performance-16x",
            })?;
            guest.insert("cpu_kind".to_owned(), json!(kind));
            guest.insert("cpus".to_owned(), json!(cpus));
            guest.insert("memory_mb".to_owned(), json!(memory_mb));
        }
        if let Some(kind) = self.cpu_kind {
            guest.insert("cpu_kind".to_owned(), json!(kind));
        }
        if let Some(cpus) = self.cpus {
            guest.insert("cpus".to_owned(), json!(cpus));
        }
        if let Some(memory) = self.memory {
            let memory_mb = size::parse_mb(memory).ok_or_else(|| Failure::BadValue {
                what: "memory",
                given: memory.to_owned(),
                expected: "use megabytes or a number with gb",
            })?;
            guest.insert("memory_mb".to_owned(), json!(memory_mb));
        }
        Ok(())
    }
}

fn preset(name: &str) -> Option<(&'static str, u64, u64)> {
    let shared = name.strip_prefix("shared-cpu-");
    let rest = shared.or_else(|| name.strip_prefix("performance-"))?;
    let cpus: u64 = rest.strip_suffix('x')?.parse().ok()?;
    let (kind, known, mb): (_, &[u64], _) = if shared.is_some() {
        ("shared", &[1, 2, 4, 6, 8], SHARED_MB_PER_CPU)
    } else {
        (
            "performance",
            &[1, 2, 4, 6, 8, 10, 12, 14, 16],
            PERFORMANCE_MB_PER_CPU,
        )
    };
    known.contains(&cpus).then_some((kind, cpus, cpus * mb))
}

/// Names a guest's size as tables show it, like `shared-cpu-1x:256MB`.
pub fn describe(guest: &Value) -> String {
    let cpus = guest["cpus"].as_u64().unwrap_or(1);
    let memory_mb = guest["memory_mb"].as_u64().unwrap_or(SHARED_MB_PER_CPU);
    match guest["cpu_kind"].as_str() {
        Some("performance") => format!("performance-{cpus}x:{memory_mb}MB"),
        _ => format!("shared-cpu-{cpus}x:{memory_mb}MB"),
    }
}

#[cfg(test)]
mod tests;
