//! A guest under QEMU, and the line to it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::wire::{FromGuest, PORT, Run, ToGuest};

/// Longest that a guest may take to boot; generous, for shared and busy hosts.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// Longest that one test may take, and in the long set.
const CASE_LIMIT: Duration = Duration::from_secs(600);
const LONG_CASE_LIMIT: Duration = Duration::from_secs(2 * 3600);
/// Size of a test's disk, in bytes. Sparse: what is not written takes no room.
pub(crate) const DISK_BYTES: u64 = 4 << 30;
/// What the guest calls its one virtio disk.
pub(crate) const VIRTIO_DISK: &str = "/dev/vda";
const MEMORY_MIB: u32 = 1024;

/// How a test ended.
pub(crate) struct Ended {
    pub(crate) failure: Option<String>,
    pub(crate) transcript: String,
}

/// What happens while a test runs.
pub(crate) enum Event {
    Armed,
    Acknowledged(String),
    Ended(Ended),
    /// The guest is gone, and the test with it.
    Gone,
    /// The disk's power failed; said by the server of the disk.
    PowerFailed,
}

/// A disk of a guest.
pub(crate) enum Disk {
    /// An empty file of its own, as the next NVMe namespace.
    Sparse,
    /// Served by NBD on this socket, as [`VIRTIO_DISK`]. QEMU's NVMe disk (7.2) has a volatile cache and ignores FUA, which
    /// is a lie that costs ext4 its last commit; virtio-blk has flushes alone and means them.
    Nbd(PathBuf),
}

/// Who waits for which test.
type Waiting = BTreeMap<usize, mpsc::Sender<Event>>;

/// A running guest.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    child: Mutex<Child>,
    line: Mutex<UnixStream>,
    listener: Mutex<Option<JoinHandle<()>>>,
    /// `None` when the guest is gone.
    waiting: Arc<Mutex<Option<Waiting>>>,
}

impl Machine {
    /// Boots a guest with `disks`, and waits until it takes tests.
    pub(crate) fn boot(initramfs: &Path, disks: &[Disk]) -> Result<Self> {
        let dir = tempfile::tempdir().context("make the guest's directory")?;
        let mut command = command(dir.path(), initramfs);
        command.args(["-device", "nvme,id=nv0,serial=tier"]);
        for (index, disk) in disks.iter().enumerate() {
            let nsid = index + 1;
            let node = format!("driver=raw,node-name=d{nsid},discard=unmap");
            let (node, device) = match disk {
                Disk::Sparse => {
                    let path = dir.path().join(format!("disk{nsid}"));
                    File::create(&path)?.set_len(DISK_BYTES)?;
                    let file = format!(
                        "cache.no-flush=on,file.driver=file,file.filename={}",
                        path.display()
                    );
                    (
                        format!("{node},{file}"),
                        format!("nvme-ns,drive=d{nsid},bus=nv0,nsid={nsid}"),
                    )
                }
                Disk::Nbd(socket) => {
                    let server = format!("file.server.type=unix,file.server.path={}", socket.display());
                    (
                        format!("{node},file.driver=nbd,{server}"),
                        format!("virtio-blk-device,drive=d{nsid}"),
                    )
                }
            };
            command.args(["-blockdev", &node, "-device", &device]);
        }
        let child = command
            .spawn()
            .context("start qemu-system-x86_64 (package qemu-system-x86)")?;
        let mut machine = Starting { dir, child };
        let line = match machine.line() {
            Ok(line) => line,
            Err(error) => return Err(machine.failed(error)),
        };
        let (ready, is_ready) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let records = std::env::var_os("HANGAR_TIER_RECORDS").map(PathBuf::from);
        let reader = BufReader::new(line.try_clone()?);
        let shared = Arc::clone(&waiting);
        let listener = std::thread::Builder::new()
            .name("guest".into())
            .spawn(move || listen(reader, &ready, &shared, records.as_deref()))?;
        if is_ready.recv_timeout(BOOT_LIMIT).is_err() {
            return Err(machine.failed(anyhow!("the guest did not come up within {BOOT_LIMIT:?}")));
        }
        let Starting { dir, child } = machine;
        Ok(Self {
            dir,
            child: Mutex::new(child),
            line: Mutex::new(line),
            listener: Mutex::new(Some(listener)),
            waiting,
        })
    }

    /// Runs a test and waits for its end.
    pub(crate) fn run(&self, run: Run) -> Result<Ended> {
        let (sender, events) = mpsc::channel();
        self.begin(run, sender)?;
        loop {
            if let Event::Ended(ended) = self.next(&events)? {
                return Ok(ended);
            }
        }
    }

    /// Begins a test; `sender` gets what happens.
    pub(crate) fn begin(&self, run: Run, sender: mpsc::Sender<Event>) -> Result<()> {
        match &mut *lock(&self.waiting) {
            Some(waiting) => waiting.insert(run.id, sender),
            None => bail!("the guest is gone\n{}", self.console()),
        };
        let mut text = serde_json::to_string(&ToGuest::Run(run))?;
        text.push('\n');
        lock(&self.line)
            .write_all(text.as_bytes())
            .context("write to the guest")
    }

    /// Returns what happens next.
    pub(crate) fn next(&self, events: &mpsc::Receiver<Event>) -> Result<Event> {
        let limit = if crate::harness::is_long() {
            LONG_CASE_LIMIT
        } else {
            CASE_LIMIT
        };
        match events.recv_timeout(limit) {
            Ok(Event::Gone) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!(
                    "the guest died while it ran the test
{}",
                    self.console()
                )
            }
            Ok(event) => Ok(event),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("no result within {limit:?}\n{}", self.console())
            }
        }
    }

    /// Ends the machine as a power cut does, and waits until nothing it said is on its way any more.
    pub(crate) fn cut_power(&self) -> Result<()> {
        let mut child = lock(&self.child);
        child.kill().context("kill QEMU")?;
        child.wait().context("wait for QEMU")?;
        drop(child);
        let listener = lock(&self.listener).take();
        if let Some(listener) = listener {
            // It does not panic.
            let _ = listener.join();
        }
        Ok(())
    }

    /// Tells whether the guest can take another test.
    pub(crate) fn lives(&self) -> bool {
        lock(&self.waiting).is_some()
    }

    fn console(&self) -> String {
        console(self.dir.path())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // Fails only when it has ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A guest that has not said anything yet.
struct Starting {
    dir: tempfile::TempDir,
    child: Child,
}

impl Starting {
    /// Waits until QEMU has bound its socket. QEMU says so on its monitor: one line of JSON.
    fn line(&mut self) -> Result<UnixStream> {
        let stdout = self.child.stdout.take().context("QEMU's monitor")?;
        let mut greeting = String::new();
        BufReader::new(stdout).read_line(&mut greeting)?;
        ensure!(greeting.contains("QMP"), "QEMU did not start: {greeting}");
        UnixStream::connect(self.dir.path().join("line")).context("connect to the guest's port")
    }

    fn failed(&mut self, error: anyhow::Error) -> anyhow::Error {
        let _ = self.child.kill();
        let status = self.child.wait();
        error.context(format!("QEMU: {status:?}\n{}", console(self.dir.path())))
    }
}

fn listen(
    reader: BufReader<UnixStream>,
    ready: &mpsc::Sender<()>,
    waiting: &Mutex<Option<Waiting>>,
    records: Option<&Path>,
) {
    for line in reader.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(FromGuest::Ready) => {
                // Nobody listens after the time limit.
                let _ = ready.send(());
            }
            Ok(FromGuest::Done {
                id,
                failure,
                transcript,
            }) => tell(waiting, id, Event::Ended(Ended { failure, transcript })),
            Ok(FromGuest::Armed { id }) => tell(waiting, id, Event::Armed),
            Ok(FromGuest::Acknowledged { id, what }) => tell(waiting, id, Event::Acknowledged(what)),
            Ok(FromGuest::Record { name, text }) => record(records, &name, &text),
            Err(error) => eprintln!("the guest says what is no message ({error}): {line}"),
        }
    }
    for sender in lock(waiting)
        .take()
        .into_iter()
        .flatten()
        .map(|(_, sender)| sender)
    {
        // Tests that have ended do not wait.
        let _ = sender.send(Event::Gone);
    }
}

fn tell(waiting: &Mutex<Option<Waiting>>, id: usize, event: Event) {
    let sender = lock(waiting)
        .as_mut()
        .and_then(|waiting| waiting.get(&id).cloned());
    if let Some(sender) = sender {
        // Nobody waits after the time limit.
        let _ = sender.send(event);
    }
}

fn record(dir: Option<&Path>, name: &str, text: &str) {
    let Some(dir) = dir else { return };
    let written = fs::create_dir_all(dir)
        .and_then(|()| File::create(dir.join(name)))
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        eprintln!("record {name} in {}: {error}", dir.display());
    }
}

fn command(dir: &Path, initramfs: &Path) -> Command {
    let assets = guest_boot::assets_dir();
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args("-accel tcg,thread=multi,tb-size=256 -cpu max -nodefaults -no-user-config".split(' '))
        .args("-M microvm,pcie=on -smp 2 -display none -no-reboot -qmp stdio".split(' '))
        .args(["-m", &MEMORY_MIB.to_string()])
        .arg("-bios")
        .arg(assets.join("qboot.rom"))
        .arg("-kernel")
        .arg(assets.join("vmlinux"))
        .arg("-initrd")
        .arg(initramfs);
    let khz = guest_boot::tsc_khz();
    command.arg("-append").arg(format!(
        "console=ttyS0 loglevel=6 panic=-1 tsc_early_khz={khz} {}=1",
        crate::guest::MARK
    ));
    command
        .arg("-serial")
        .arg(format!("file:{}", dir.join("console").display()))
        .args(["-device", "virtio-serial-device", "-device", "virtio-rng-device"])
        .arg("-chardev")
        .arg(format!(
            "socket,id=line,path={},server=on,wait=off",
            dir.join("line").display()
        ))
        .arg("-device")
        .arg(format!("virtserialport,chardev=line,name={PORT}"));
    // The monitor stays open as long as we live; QEMU's end of a closed one is no end of QEMU.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The end of what the guest's kernel and PID 1 wrote to the console.
fn console(dir: &Path) -> String {
    const LINES: usize = 200;
    let text = fs::read(dir.join("console")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    format!("--- the guest's console, last lines\n{}", tail.join("\n"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
