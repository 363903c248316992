//! Outside of the guest: a test program like any other.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock},
};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::time::Instant;

use crate::{
    Body, Case, End,
    case::Part,
    guest, image,
    machine::{Disk, Machine, lock},
    power_cut,
    wire::Run,
};

/// Runs the tests `cases`: outside of a guest all that the command line asks for, inside those that the harness asks for.
/// `cache` is a directory for images, made again when lost.
///
/// `HANGAR_GUEST_SET=long` runs every seed of the power cuts and all that tests only sample otherwise, and
/// `HANGAR_TIER_AGAIN=1` repeats the check of a cut on the disk that its failure kept. `HANGAR_TIER_RECORDS` names a
/// directory for what tests [record](crate::Guest::record).
pub fn main(cases: Vec<Case>, cache: &Path) -> ExitCode {
    if guest::is_inside() {
        guest::serve(&cases);
    }
    let arguments = Arguments::from_args();
    let long = is_long();
    let tier = Arc::new(Tier {
        cache: cache.to_owned(),
        disks: cases.len(),
        initramfs: OnceLock::new(),
        machine: Mutex::new(None),
    });
    let mut trials = Vec::new();
    let mut add = |name: String, case: Case, run: Box<dyn FnOnce() -> Result<()> + Send>| {
        trials.push(Trial::test(name, move || verdict(case.end, run())));
    };
    for (index, case) in cases.into_iter().enumerate() {
        let tier = Arc::clone(&tier);
        let name = case.name.to_owned();
        match case.body {
            Body::Shared(_) => add(name, case, Box::new(move || tier.run_shared(index + 1, &case))),
            Body::Alone(_) => add(name, case, Box::new(move || tier.run_alone(&case, 0))),
            Body::Points { count, .. } => {
                for point in 0..count {
                    let tier = Arc::clone(&tier);
                    let run = move || tier.run_alone(&case, point);
                    add(format!("{name}::point_{point}"), case, Box::new(run));
                }
            }
            Body::PowerCut(cut) => {
                for seed in 1..=if long { cut.long_seeds } else { cut.short_seeds } {
                    let tier = Arc::clone(&tier);
                    let run = move || power_cut::run(&case, &cut, seed, tier.initramfs()?, &tier.cache);
                    add(format!("{name}::seed_{seed}"), case, Box::new(run));
                }
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Says whether everything is to be tried.
#[must_use]
pub fn is_long() -> bool {
    std::env::var("HANGAR_GUEST_SET").is_ok_and(|set| set == "long")
}

fn verdict(end: End, result: Result<()>) -> Result<(), Failed> {
    let report = result.map_err(|error| format!("{error:#}"));
    match (end, report) {
        (End::Passes, report) => report.map_err(Failed::from),
        (End::Fails(_), Ok(())) => Err("it passed, and must not".into()),
        (End::Fails(words), Err(report)) => match words.iter().find(|words| !report.contains(**words)) {
            Some(words) => Err(format!("no `{words}` in the report:\n{report}").into()),
            None => Ok(()),
        },
    }
}

/// What the tests have in common.
struct Tier {
    cache: PathBuf,
    disks: usize,
    initramfs: OnceLock<Result<PathBuf, String>>,
    /// The guest of all tests without one of their own, booted when the first asks.
    machine: Mutex<Option<Arc<Machine>>>,
}

impl Tier {
    /// Runs a test in the guest that many share; `number` is the test's disk.
    fn run_shared(&self, number: usize, case: &Case) -> Result<()> {
        whole(&*self.machine()?, number, case, 0)
    }

    fn run_alone(&self, case: &Case, point: u64) -> Result<()> {
        whole(
            &Machine::boot(self.initramfs()?, &[Disk::Sparse])?,
            1,
            case,
            point,
        )
    }

    fn machine(&self) -> Result<Arc<Machine>> {
        let mut machine = lock(&self.machine);
        if let Some(machine) = machine.as_ref().filter(|machine| machine.lives()) {
            return Ok(Arc::clone(machine));
        }
        let disks: Vec<Disk> = (0..self.disks).map(|_| Disk::Sparse).collect();
        let booted = Arc::new(Machine::boot(self.initramfs()?, &disks)?);
        *machine = Some(Arc::clone(&booted));
        Ok(booted)
    }

    fn initramfs(&self) -> Result<&Path> {
        let made = self.initramfs.get_or_init(|| {
            let program = std::env::current_exe().context("find this program");
            let made = program.and_then(|program| image::initramfs(&program, &self.cache));
            made.map_err(|error| format!("{error:#}"))
        });
        match made {
            Ok(path) => Ok(path),
            Err(error) => Err(anyhow!("{error}")),
        }
    }
}

fn whole(machine: &Machine, number: usize, case: &Case, seed: u64) -> Result<()> {
    let begun = Instant::now();
    let ended = machine.run(Run {
        id: number,
        case: case.name.to_owned(),
        part: Part::Whole,
        seed,
        long: is_long(),
        acknowledged: Vec::new(),
        disk: format!("/dev/nvme0n{number}"),
    })?;
    // Whoever wants the tier faster looks here first.
    eprintln!("{} took {:.1} s", case.name, begun.elapsed().as_secs_f64());
    match ended.failure {
        None => Ok(()),
        Some(failure) => Err(anyhow!("{failure}\n--- commands\n{}", ended.transcript)),
    }
}
