//! A power cut: a guest whose disk forgets what was not flushed.

use std::{
    io::Write as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use anyhow::{Context, Result, bail};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    Case, PowerCut,
    case::Part,
    machine::{DISK_BYTES, Disk, Event, Machine, VIRTIO_DISK, lock},
    nbd,
    volatile_disk::VolatileDisk,
    wire::Run,
};

/// A variable of the environment: whoever sets it wants the check alone, on the disk that an earlier failure kept.
const AGAIN: &str = "HANGAR_TIER_AGAIN";

/// Requests until the cut; this many means never.
const UNARMED: u64 = u64::MAX;

/// Counts the requests after the arming.
struct Countdown {
    left: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
}

impl nbd::Power for Countdown {
    fn fails(&mut self) -> bool {
        if self.left.load(Ordering::Acquire) == UNARMED {
            return false;
        }
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn failed(&mut self) {
        // Whoever waited has given up by now.
        let _ = self.events.send(Event::PowerFailed);
    }
}

/// Runs the workload of `cut`, cuts the power where `seed` says, and checks what is left. `kept` gets the disk of a
/// check that failed, because the same seed does not leave the same disk: the guest's own pace decides too.
pub(crate) fn run(case: &Case, cut: &PowerCut, seed: u64, initramfs: &Path, kept: &Path) -> Result<()> {
    let place = kept.join(format!("{}-{seed}", case.name.replace("::", "-")));
    let run = |part, acknowledged| Run {
        id: 1,
        case: case.name.to_owned(),
        part,
        seed,
        long: crate::harness::is_long(),
        acknowledged,
        disk: VIRTIO_DISK.to_owned(),
    };
    let dir = tempfile::tempdir().context("make a directory for sockets")?;
    if std::env::var_os(AGAIN).is_some() && place.exists() {
        let disk = VolatileDisk::kept(&place.join("left")).context("read the disk that was kept")?;
        let words = std::fs::read_to_string(place.join("acknowledged"))?;
        let run = run(Part::Check, words.lines().map(str::to_owned).collect());
        return check(&run, disk, initramfs, dir.path(), &place);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let requests = rng.random_range(1..=cut.requests);
    let disk = Arc::new(Mutex::new(VolatileDisk::new(DISK_BYTES)));
    let (sender, events) = mpsc::channel();
    let left = Arc::new(AtomicU64::new(UNARMED));
    let power = Countdown {
        left: Arc::clone(&left),
        events: sender.clone(),
    };
    let socket = dir.path().join("before");
    nbd::serve(&socket, Arc::clone(&disk), power)?;
    let machine = Machine::boot(initramfs, &[Disk::Nbd(socket)])?;
    machine.begin(run(Part::Workload, Vec::new()), sender)?;
    let mut acknowledged = Vec::new();
    let mut armed = false;
    loop {
        match machine.next(&events).context("the workload")? {
            Event::Armed => {
                armed = true;
                left.store(requests, Ordering::Release);
            }
            Event::Acknowledged(what) => acknowledged.push(what),
            Event::PowerFailed | Event::Gone => break,
            Event::Ended(ended) => {
                if let Some(failure) = ended.failure {
                    bail!("the workload: {failure}\n--- commands\n{}", ended.transcript);
                }
                break;
            }
        }
    }
    anyhow::ensure!(armed, "the workload ended before it let the power be cut");
    machine.cut_power()?;
    // Said before the end, heard after it.
    acknowledged.extend(events.try_iter().filter_map(|event| match event {
        Event::Acknowledged(what) => Some(what),
        Event::Armed | Event::PowerFailed | Event::Gone | Event::Ended(_) => None,
    }));
    drop(machine);
    eprintln!(
        "{} seed {seed}: power cut after {requests} requests, {} things acknowledged",
        case.name,
        acknowledged.len()
    );
    let after = lock(&disk).cut(&mut rng);
    drop(disk);
    check(
        &run(Part::Check, acknowledged),
        after,
        initramfs,
        dir.path(),
        &place,
    )
}

fn check(run: &Run, disk: VolatileDisk, initramfs: &Path, dir: &Path, place: &Path) -> Result<()> {
    struct Stays;
    impl nbd::Power for Stays {
        fn fails(&mut self) -> bool {
            false
        }

        fn failed(&mut self) {}
    }
    // A copy that costs its pages only once they are written.
    let image = disk.clone();
    let socket = dir.join("after");
    nbd::serve(&socket, Arc::new(Mutex::new(disk)), Stays)?;
    let checked = Machine::boot(initramfs, &[Disk::Nbd(socket)]).and_then(|machine| machine.run(run.clone()));
    let failure = match checked {
        Ok(ended) => match ended.failure {
            None => return Ok(()),
            Some(failure) => format!("{failure}\n--- commands\n{}", ended.transcript),
        },
        Err(error) => format!("{error:#}"),
    };
    let note = match keep(&image, &run.acknowledged, place) {
        Ok(()) => format!(
            "the disk as the cut left it: {} ({AGAIN}=1 checks it again)",
            place.display()
        ),
        Err(error) => format!("the disk could not be kept: {error}"),
    };
    bail!(
        "{failure}\n--- {note}\n--- acknowledged before the cut\n{}",
        run.acknowledged.join("\n")
    )
}

fn keep(image: &VolatileDisk, acknowledged: &[String], place: &Path) -> std::io::Result<()> {
    // There may be none.
    let _ = std::fs::remove_dir_all(place);
    image.keep(&place.join("left"))?;
    let mut file = std::fs::File::create(place.join("acknowledged"))?;
    file.write_all(acknowledged.join("\n").as_bytes())
}
