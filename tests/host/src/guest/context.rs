//! What a test has: a disk, a directory, and commands whose words are kept for the report.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{Line, boot, say};
use crate::{
    machine::lock,
    wire::{FromGuest, Run},
};

/// A test's share of the guest.
#[derive(Debug)]
pub struct Guest {
    number: usize,
    seed: u64,
    long: bool,
    acknowledged: Vec<String>,
    disk: PathBuf,
    scratch: PathBuf,
    line: Line,
    transcript: Mutex<String>,
    /// How many bytes the kernel's log had when the test began.
    kernel_log_began: usize,
}

/// How a command went.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Guest {
    pub(super) fn new(run: &Run, line: Line) -> Self {
        let scratch = PathBuf::from(format!("/tmp/{}", run.id));
        let guest = Self {
            number: run.id,
            seed: run.seed,
            long: run.long,
            acknowledged: run.acknowledged.clone(),
            disk: PathBuf::from(&run.disk),
            scratch,
            line,
            transcript: Mutex::default(),
            kernel_log_began: kernel_log().len(),
        };
        let lvm = guest.lvm_dir();
        fs::create_dir_all(lvm.join("locks")).expect("the scratch directory can be made");
        let filter = format!("filter = [ \"a|^{}$|\", \"r|.*|\" ]", guest.disk.display());
        let dir = lvm.to_string_lossy();
        let conf = boot::lvm_conf(&filter, &dir, &format!("{dir}/locks"));
        boot::put(&lvm.join("lvm.conf"), &conf).expect("LVM's configuration can be written");
        guest
    }

    /// The test's own disk: 4 GiB, reads zero at first, shared with no other test. NVMe; virtio in a power cut.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A directory of the test's own, in memory.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A name for a volume group that no other test of this guest uses.
    #[must_use]
    pub fn vg(&self) -> String {
        format!("vg{}", self.number)
    }

    /// The directory of LVM's configuration in which only the test's disk is visible; commands of [`run`](Self::run) have
    /// it in `LVM_SYSTEM_DIR`.
    #[must_use]
    pub fn lvm_dir(&self) -> PathBuf {
        self.scratch.join("lvm")
    }

    /// Returns a command with the environment of a daemon that drives LVM.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", boot::PATH)
            .env("LC_ALL", "C")
            .env("LVM_SYSTEM_DIR", self.lvm_dir())
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .env("DM_DISABLE_UDEV", "1")
            .env("disk", &self.disk)
            .env("vg", self.vg())
            .current_dir(&self.scratch)
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of shell in the scratch directory. `$disk` is the test's disk, `$vg` its volume group's name.
    ///
    /// # Panics
    /// When no shell can be started.
    pub fn run(&self, script: &str) -> Ran {
        let out = self.command("/bin/sh").args(["-c", script]).output();
        let out = out.expect("the shell starts");
        let ran = Ran {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        };
        let end = ran.code.map_or("signal".to_owned(), |code| code.to_string());
        self.note(&format!("$ {script}\n{}{}→ {end}", ran.stdout, ran.stderr));
        ran
    }

    /// Runs a line of shell that must end well, and returns what it printed.
    ///
    /// # Panics
    /// When its exit code is not 0.
    #[track_caller]
    pub fn must(&self, script: &str) -> String {
        let ran = self.run(script);
        assert!(
            ran.code == Some(0),
            "`{script}` ended with {:?}: {}",
            ran.code,
            ran.stderr
        );
        ran.stdout
    }

    /// Adds a line to what is shown when the test fails.
    pub fn note(&self, text: &str) {
        // Into memory: it cannot fail.
        let _ = writeln!(lock(&self.transcript), "{text}");
    }

    /// Says whether this is the long set, in which a test tries everything and not only a sample.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Which of its [points](crate::Body::Points) the test is to try.
    #[must_use]
    pub fn point(&self) -> u64 {
        self.seed
    }

    /// Chance, from the test's seed.
    #[must_use]
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// Allows the power to be cut from here on.
    pub fn arm(&self) {
        say(&self.line, &FromGuest::Armed { id: self.number });
    }

    /// Tells the harness that `what` is done for good: after a power cut it must be there.
    pub fn acknowledge(&self, what: &str) {
        let (id, what) = (self.number, what.to_owned());
        say(&self.line, &FromGuest::Acknowledged { id, what });
    }

    /// What the workload acknowledged before the power was cut, in order.
    #[must_use]
    pub fn acknowledged(&self) -> &[String] {
        &self.acknowledged
    }

    /// Hands `text` to whoever runs the tests, as an example of what the real tools print.
    pub fn record(&self, name: &str, text: &str) {
        let (name, text) = (name.to_owned(), text.to_owned());
        say(&self.line, &FromGuest::Record { name, text });
    }

    /// Runs a future on a runtime of one thread.
    ///
    /// # Panics
    /// When the runtime cannot be made.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(future)
    }

    pub(super) fn transcript_with_kernel_log(&self) -> String {
        let log = kernel_log();
        let since = log.get(self.kernel_log_began..).unwrap_or(&log);
        let transcript = lock(&self.transcript);
        format!("{transcript}--- kernel\n{since}")
    }
}

/// The kernel's log so far.
fn kernel_log() -> String {
    let dmesg = Command::new("/busybox/dmesg").output();
    dmesg.map_or_else(
        |error| format!("dmesg: {error}"),
        |out| String::from_utf8_lossy(&out.stdout).into_owned(),
    )
}
