//! Benchmarks: each figure beside its floor, measured in the same run on the same machine.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command; its table is its result"
)]

mod cpu;
mod litefs;
mod machines;
mod report;
mod volumes;

use clap::Parser;
use report::Report;
use std::path::PathBuf;

/// Measures one set.
#[derive(Parser)]
struct Cli {
    /// The set: `machines`, `volumes`, `bottomless` or `litefs`
    set: String,
    /// Fewer repetitions
    #[arg(long)]
    quick: bool,
    /// Beside the programs that others use for the same job
    #[arg(long)]
    peers: bool,
    /// Upstream's program of LiteFS, to be measured beside ours
    #[arg(long)]
    litefs: Option<PathBuf>,
    /// Where the results go, as JSON
    #[arg(long)]
    json: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::begin(&cli.set);
    let measured = match cli.set.as_str() {
        "machines" => runtime.block_on(machines::run(&mut report, cli.quick)),
        "volumes" => runtime.block_on(volumes::run(&mut report, cli.quick, cli.peers)),
        "bottomless" => runtime.block_on(volumes::bottomless::run(&mut report, cli.quick)),
        "litefs" => runtime.block_on(litefs::run(&mut report, cli.quick, cli.litefs.as_deref())),
        other => anyhow::bail!(
            "no benchmark set is called `{other}`; there are: machines, volumes, bottomless, litefs"
        ),
    };
    // What was measured before an error is as good.
    report.end(&cli.json)?;
    measured
}
