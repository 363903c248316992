//! What was done and how long each step took.

use super::Node;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// The steps so far.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<(String, Duration)>,
    since_build: usize,
}

impl Table {
    /// Runs one step and remembers its time.
    #[allow(
        clippy::disallowed_methods,
        reason = "the duration is shown to a person, nothing else"
    )]
    pub(super) fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n== {name}");
        let begun = Instant::now();
        let value = run().with_context(|| format!("step `{name}`"))?;
        self.rows.push((name.to_owned(), begun.elapsed()));
        Ok(value)
    }

    /// Marks the end of installing and building: the total counts from here.
    pub(super) fn start_clock(&mut self) {
        self.since_build = self.rows.len();
    }

    /// Prints the table and what to try next.
    #[allow(clippy::print_stdout, reason = "the demonstration's result")]
    pub(super) fn print(&self, node: &Node) {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        println!("\n{:width$}  seconds", "step");
        for (name, took) in &self.rows {
            println!("{name:width$}  {:>7.1}", took.as_secs_f64());
        }
        let total: Duration = self.rows[self.since_build..].iter().map(|(_, took)| *took).sum();
        println!("{:width$}  {:>7.1}", "all after the build", total.as_secs_f64());
        println!("\nTry next, from this directory:");
        println!(
            "  export PATH={}:$PATH HANGAR_DATA={}",
            node.bin_dir().display(),
            node.dir().join("node").display()
        );
        println!(
            "  hangar up &           # the same node again: volumes, snapshots and the image are still there"
        );
        println!("  hangar doctor         # what this host can do");
        println!("  hangar volumes list -a demo");
        println!("  hangar machine run demo:latest -a demo --volume data:/data");
    }
}
