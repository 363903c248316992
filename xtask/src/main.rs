//! The project's own commands: `cargo xtask ci | tidy | setup | build | demo | soak | guest-test | bench`.
//!
//! Each is what a person would type by hand, written down once. Nothing here is part of a node.

mod bench;
mod ci;
mod demo;
mod demo_image;
mod guest_image;
mod guest_test;
mod setup;
mod shell;
mod soak;
mod tidy;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Hangar's build, proof and demonstration commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything CI runs: fmt, clippy, tidy, all tests, the seeded worlds
    Ci,
    /// Checks the house rules that no compiler checks
    Tidy,
    /// Installs the Debian packages that are missing and makes the guest kernel and initramfs
    Setup,
    /// Builds a node's programs in release mode
    Build,
    /// Shows the main job as a user would do it, on a throw-away node
    Demo,
    /// Runs seeds of a simulated world
    Soak(soak::Args),
    /// Runs the tests that boot guests
    GuestTest {
        /// How much of the tier
        #[arg(value_enum)]
        set: GuestSet,
    },
    /// Runs a benchmark set
    Bench(bench::Args),
    /// Builds the demonstration image as an OCI layout
    DemoImage {
        /// Directory of the layout
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum GuestSet {
    /// What CI runs
    Short,
    /// Everything
    Long,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Ci => ci::run(),
        Command::Tidy => tidy::run(),
        Command::Setup => setup::run(),
        Command::Build => demo::build(),
        Command::Demo => demo::run(),
        Command::Soak(args) => soak::run(&args, soak::Build::Release),
        Command::GuestTest { set } => guest_test::run(set),
        Command::Bench(args) => bench::run(&args),
        Command::DemoImage { out } => demo_image::build(&out),
    }
}
