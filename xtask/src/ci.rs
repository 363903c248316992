//! `cargo xtask ci`: the gate. The same command on a desk, in `make test` and on a CI machine.

use crate::{setup, shell, soak, tidy};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

/// How many seeds of each simulated world every run replays, from the first on.
const FIXED_SEEDS: [(&str, u64); 3] = [("operations", 1_000), ("disk", 1_000), ("litefs", 40)];

/// Runs every stage, stops at the first that fails, and ends with `N passed, 0 failed`.
#[allow(clippy::print_stdout, reason = "the closing line is this command's result")]
pub(crate) fn run() -> Result<()> {
    stage("setup", setup::run)?;
    stage("fmt", || {
        shell::must(&mut shell::cargo(&["fmt", "--all", "--check"]))
    })?;
    stage("tidy", tidy::run)?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    stage("clippy", || shell::must(&mut shell::cargo(&clippy)))?;
    stage("build", || {
        shell::must(&mut shell::cargo(&["build", "--workspace", "--bins"]))
    })?;
    let mut passed = 0;
    stage("tests", || {
        passed = tests()?;
        Ok(())
    })?;
    for (world, count) in FIXED_SEEDS {
        let seeds = soak::Args {
            world: world.into(),
            seeds: count,
            from: Some(1),
        };
        stage(&format!("soak {world}"), || soak::run(&seeds, soak::Build::Dev))?;
        passed += count;
    }
    println!("\n{passed} passed, 0 failed");
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a stage's duration is printed, nothing else"
)]
fn stage(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n== {name}");
    let begun = Instant::now();
    run().with_context(|| format!("stage {name}"))?;
    eprintln!("== {name}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Runs all tests of the workspace and returns how many passed, read from the runner's own summaries.
#[allow(clippy::print_stdout, reason = "the runner's lines are passed on")]
fn tests() -> Result<u64> {
    // Properties are tried with the same cases each time; whoever wants others sets it.
    let seed = std::env::var("PROPTEST_RNG_SEED").unwrap_or_else(|_| "20261122".to_owned());
    let mut child = shell::cargo(&["test", "--workspace", "--no-fail-fast"])
        .env("PROPTEST_RNG_SEED", seed)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("standard output of cargo test")?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counts) = line.strip_prefix("test result: ") {
            passed += count(counts, "passed")?;
            failed += count(counts, "failed")?;
        }
    }
    let status = child.wait()?;
    if !status.success() || failed > 0 {
        bail!("{passed} tests passed, {failed} failed; cargo test ended with {status}");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(passed)
}

/// Reads `N` out of a summary's `… N <what>; …`.
fn count(summary: &str, what: &str) -> Result<u64> {
    let word = summary
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(what));
    let word = word.with_context(|| format!("no `{what}` in the summary `{summary}`"))?;
    Ok(word.trim().parse()?)
}
