//! Is everything as it should be: every database what its position says, its transactions without a hole.
//!
//! [`chain`] decides about transactions; [`files`] reads a data directory that no node uses, and one database of a node that runs.

pub mod chain;
pub mod files;

use serde::{Deserialize, Serialize};

/// What was found of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its name.
    pub database: String,
    /// Where it is; empty if nobody can say.
    pub pos: String,
    /// How many LTX files were read.
    pub ltx_files: usize,
    /// What is wrong.
    pub damage: Vec<String>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
}

/// What is to be said of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it should be.
    Sound,
    /// Something is damaged.
    Damaged,
    /// Nothing was found damaged, and not everything could be looked at.
    Unknown,
}

impl Finding {
    /// Begins: nothing was found yet.
    #[must_use]
    pub fn of(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            pos: String::new(),
            ltx_files: 0,
            damage: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// Returns what follows from what was found.
#[must_use]
pub fn verdict(findings: &[Finding]) -> Verdict {
    if findings.iter().any(|finding| !finding.damage.is_empty()) {
        Verdict::Damaged
    } else if findings.iter().any(|finding| !finding.unknown.is_empty()) {
        Verdict::Unknown
    } else {
        Verdict::Sound
    }
}
