//! Outside of the guest: a test program like any other.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    Case, guest, image,
    machine::{Machine, lock},
    wire::Run,
};

/// Runs the tests `cases`: outside of a guest all that the command line asks for, inside those that the harness asks for.
/// `cache` is a directory for images, made again when lost.
///
/// `HANGAR_TIER_RECORDS` names a directory for what tests [record](crate::Guest::record).
pub fn main(cases: Vec<Case>, cache: &Path) -> ExitCode {
    if guest::is_inside() {
        guest::serve(&cases);
    }
    let arguments = Arguments::from_args();
    let shared = Arc::new(Shared {
        cache: cache.to_owned(),
        disks: cases.len(),
        machine: Mutex::new(None),
    });
    let trials = cases.iter().enumerate().map(|(index, case)| {
        let (shared, case) = (Arc::clone(&shared), *case);
        Trial::test(case.name, move || shared.run(index + 1, case))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    conclusion.exit_code()
}

/// The guest that runs the tests, booted when the first one asks.
struct Shared {
    cache: PathBuf,
    disks: usize,
    machine: Mutex<Option<Arc<Machine>>>,
}

impl Shared {
    fn run(&self, number: usize, case: Case) -> Result<(), Failed> {
        let machine = self.machine().map_err(|error| format!("{error:#}"))?;
        let run = Run {
            id: number,
            case: case.name.to_owned(),
            nsid: number,
        };
        let ended = machine.run(run).map_err(|error| format!("{error:#}"))?;
        match ended.failure {
            None => Ok(()),
            Some(failure) => Err(format!("{failure}\n--- commands\n{}", ended.transcript).into()),
        }
    }

    fn machine(&self) -> Result<Arc<Machine>> {
        let mut machine = lock(&self.machine);
        if let Some(machine) = machine.as_ref().filter(|machine| machine.lives()) {
            return Ok(Arc::clone(machine));
        }
        let program = std::env::current_exe().context("find this program")?;
        let initramfs = image::initramfs(&program, &self.cache)?;
        let records = std::env::var_os("HANGAR_TIER_RECORDS").map(PathBuf::from);
        let booted = Arc::new(Machine::boot(&initramfs, self.disks, records)?);
        *machine = Some(Arc::clone(&booted));
        Ok(booted)
    }
}
