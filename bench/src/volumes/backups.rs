//! Backup and restore of one image, with the same change in between: ours, restic and Borg.
//!
//! Ours and restic write to the same S3 endpoint, which is served by this process; Borg knows no S3 and writes to a
//! directory. Processor time is the program's own, without the endpoint's.

use crate::{
    cpu,
    report::{self, Peer, Report},
};
use anyhow::{Context, Result, ensure};
use daemon::unix_http::Client;
use it::{
    reflink::Mounted,
    volumed::{Running, Volumed},
};
use rand::{Rng as _, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

const MIB: usize = 1 << 20;
/// Of 64 MiB that change in each GiB.
const CHANGES_PER_GIB: usize = 64;

/// What one program took for each part of its job.
#[derive(Default)]
struct Times {
    full: Vec<Took>,
    changed: Vec<Took>,
    restore: Vec<Took>,
    /// Bytes that the change added to the store.
    added: Vec<u64>,
}

/// Wall-clock and processor time of one step.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

/// Measures on a file system where a capture is a copy, and on one where it shares its volume's blocks.
pub(crate) async fn run(report: &mut Report, quick: bool, peers: bool) -> Result<()> {
    for reflink in [false, true] {
        measure(report, quick, peers, reflink).await?;
    }
    Ok(())
}

async fn measure(report: &mut Report, quick: bool, peers: bool, reflink: bool) -> Result<()> {
    let (mib, rounds) = (1024, if quick { 1 } else { 3 });
    let (mut plain, mut sealed, mut restic, mut borg) = (
        Times::default(),
        Times::default(),
        Times::default(),
        Times::default(),
    );
    for round in 0..rounds {
        let mut bench = Bench::new(mib, round, reflink).await?;
        bench.ours(false, &mut plain).await?;
        bench.ours(true, &mut sealed).await?;
        if peers {
            // They block this thread alone: the endpoint is served by the runtime's own.
            bench.restic(&mut restic)?;
            bench.borg(&mut borg)?;
        }
    }
    let on = if reflink { ", reflink" } else { "" };
    for (what, times) in [("plain volume", &plain), ("encrypted volume", &sealed)] {
        for (part, ours, of_restic, of_borg) in [
            ("first backup", &times.full, &restic.full, &borg.full),
            (
                "backup of the change",
                &times.changed,
                &restic.changed,
                &borg.changed,
            ),
            ("restore", &times.restore, &restic.restore, &borg.restore),
        ] {
            for (kind, column) in [("wall", wall as fn(&Took) -> f64), ("cpu", processor)] {
                let name = format!("{what}{on}: {part}, {kind}");
                let value = median(ours, column);
                if peers {
                    for (peer, times) in [("restic", of_restic), ("borg", of_borg)] {
                        let peer = Peer {
                            name: peer,
                            value: median(times, column),
                        };
                        report.beside_peer(&format!("{name}, beside {}", peer.name), value, "s", peer);
                    }
                } else {
                    report.alone(&name, value, "s");
                }
            }
        }
    }
    for (name, times) in [("ours", &plain), ("restic", &restic), ("borg", &borg)] {
        if let Some(added) = times.added.first() {
            report.alone(
                &format!("{name}{on}: stored for the change"),
                *added as f64 / MIB as f64,
                "MiB",
            );
        }
    }
    Ok(())
}

fn wall(took: &Took) -> f64 {
    took.wall.as_secs_f64()
}

fn processor(took: &Took) -> f64 {
    took.cpu.as_secs_f64()
}

fn median(samples: &[Took], column: fn(&Took) -> f64) -> f64 {
    report::median(samples.iter().map(column).collect())
}

/// One round: an image, its changed successor, a bucket.
struct Bench {
    volumed: Volumed,
    mib: usize,
    before: PathBuf,
    after: PathBuf,
    /// Where all of it lies, if not on the temporary directory's file system.
    _mounted: Option<Mounted>,
}

impl Bench {
    async fn new(mib: usize, seed: u64, reflink: bool) -> Result<Self> {
        let (volumed, mounted) = if reflink {
            let (dir, mounted) = it::reflink::xfs(24)?;
            (Volumed::new_in(dir).await?, Some(mounted))
        } else {
            (Volumed::new().await?, None)
        };
        let before = volumed.path("before");
        let after = volumed.path("after");
        let image = File::create(&before)?;
        image.set_len((mib * MIB) as u64)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for index in 0..mib {
            if let Some(bytes) = content(index, &mut rng) {
                image.write_all_at(&bytes, (index * MIB) as u64)?;
            }
        }
        image.sync_all()?;
        std::fs::copy(&before, &after)?;
        let image = OpenOptions::new().write(true).open(&after)?;
        for _ in 0..mib * CHANGES_PER_GIB / 1024 {
            let place = rng.random_range(0..(mib - 1) * MIB / 4096) * 4096;
            let mut bytes = vec![0; MIB];
            rng.fill_bytes(&mut bytes);
            image.write_all_at(&bytes, place as u64)?;
        }
        image.sync_all()?;
        Ok(Self {
            volumed,
            mib,
            before,
            after,
            _mounted: mounted,
        })
    }

    async fn ours(&mut self, encrypted: bool, times: &mut Times) -> Result<()> {
        let running = self.volumed.start().await?;
        let client = self.volumed.client();
        let gib = self.mib.div_ceil(1024);
        let body = json!({"name": "data", "size_gb": gib, "encrypted": encrypted});
        let volume = self.volumed.create(&client, &body).await?;
        self.fill(&client, &volume, &self.before).await?;
        times
            .full
            .push(self.snapshot(&running, &client, &volume).await?.0);
        self.fill(&client, &volume, &self.after).await?;
        let stored = self.volumed.stored_bytes().await?;
        let (took, snapshot) = self.snapshot(&running, &client, &volume).await?;
        times.changed.push(took);
        times.added.push(self.volumed.stored_bytes().await? - stored);
        let begun = (Instant::now(), cpu::of(running.id())?);
        let body = json!({"name": "back", "size_gb": gib, "encrypted": encrypted, "snapshot_id": snapshot});
        let back = self.volumed.create(&client, &body).await?;
        times.restore.push(since(begun, cpu::of(running.id())?));
        self.compare(&client, &back).await
    }

    async fn snapshot(&self, running: &Running, client: &Client, volume: &str) -> Result<(Took, String)> {
        let begun = (Instant::now(), cpu::of(running.id())?);
        let id = self.volumed.snapshot(client, volume).await?;
        Ok((since(begun, cpu::of(running.id())?), id))
    }

    /// Writes the image into the volume through QEMU's block layer, as a guest would.
    async fn fill(&self, client: &Client, volume: &str, image: &Path) -> Result<()> {
        let device = Device::attach(client, volume).await?;
        let mut command = device.qemu_img(["convert", "-n", "-f", "raw"]);
        command
            .args(["--target-image-opts"])
            .arg(image)
            .arg(device.options());
        must(&mut command)?;
        device.detach(client, volume).await
    }

    async fn compare(&self, client: &Client, volume: &str) -> Result<()> {
        let device = Device::attach(client, volume).await?;
        let plain = format!(
            "driver=raw,file.driver=file,file.filename={}",
            self.after.display()
        );
        let mut command = device.qemu_img(["compare", "--image-opts"]);
        command.arg(device.options()).arg(plain);
        must(&mut command).context("the restored volume")?;
        device.detach(client, volume).await
    }

    fn restic(&self, times: &mut Times) -> Result<()> {
        let bucket = self.volumed.bucket();
        let restic = |words: &[&OsStr]| {
            let mut command = Command::new("restic");
            command
                .env(
                    "RESTIC_REPOSITORY",
                    format!("s3:{}/{}/restic", bucket.url, bucket.name),
                )
                .env("RESTIC_PASSWORD", "bench")
                .env("AWS_ACCESS_KEY_ID", &bucket.access_key_id)
                .env("AWS_SECRET_ACCESS_KEY", &bucket.secret_access_key)
                .arg("--cache-dir")
                .arg(self.volumed.path("restic-cache"))
                .args(words);
            command
        };
        let word = OsStr::new;
        let (source, target) = (self.volumed.path("source"), self.volumed.path("restic-out"));
        must(&mut restic(&[word("init")]))?;
        for (image, column) in [(&self.before, &mut times.full), (&self.after, &mut times.changed)] {
            copy_into(image, &source)?;
            column.push(timed(&mut restic(&[word("backup"), source.as_os_str()]))?);
        }
        let latest = [
            word("restore"),
            word("latest"),
            word("--target"),
            target.as_os_str(),
        ];
        times.restore.push(timed(&mut restic(&latest))?);
        let back = target.join(source.strip_prefix("/")?).join("image");
        same(&self.after, &back)
    }

    fn borg(&self, times: &mut Times) -> Result<()> {
        let repository = self.volumed.path("borg");
        let target = self.volumed.path("borg-out");
        std::fs::create_dir(&target)?;
        let borg = |words: &[&str]| {
            let mut command = Command::new("borg");
            command
                .env("BORG_REPO", &repository)
                .env("BORG_PASSPHRASE", "bench")
                .env("BORG_BASE_DIR", self.volumed.path("borg-base"))
                .current_dir(&target)
                .args(words);
            command
        };
        let source = self.volumed.path("source");
        let source = source.to_str().context("a path in UTF-8")?;
        must(&mut borg(&["init", "--encryption", "repokey-blake2"]))?;
        let mut stored = 0;
        for (name, image, column) in [
            ("::before", &self.before, &mut times.full),
            ("::after", &self.after, &mut times.changed),
        ] {
            copy_into(image, Path::new(source))?;
            let before = stored;
            column.push(timed(&mut borg(&["create", name, source]))?);
            stored = bytes_below(&repository)?;
            if before > 0 {
                times.added.push(stored - before);
            }
        }
        times.restore.push(timed(&mut borg(&["extract", "::after"]))?);
        let back = target.join(source.trim_start_matches('/')).join("image");
        same(&self.after, &back)
    }
}

/// A volume that is attached as a machine's.
struct Device {
    path: String,
    passphrase: Option<String>,
    generation: u64,
}

impl Device {
    async fn attach(client: &Client, volume: &str) -> Result<Self> {
        let path = format!("/v1/volumes/{volume}/attach");
        let attached: Value = client.post(&path, &json!({"machine_id": "m1"})).await?;
        Ok(Self {
            path: attached["device"]["path"].as_str().context("a path")?.to_owned(),
            passphrase: attached["device"]["passphrase"].as_str().map(str::to_owned),
            generation: attached["generation"].as_u64().context("a generation")?,
        })
    }

    async fn detach(&self, client: &Client, volume: &str) -> Result<()> {
        let body = json!({"machine_id": "m1", "generation": self.generation});
        let _: Value = client
            .post(&format!("/v1/volumes/{volume}/detach"), &body)
            .await?;
        Ok(())
    }

    fn options(&self) -> String {
        let file = format!("file.driver=file,file.filename={}", self.path);
        match self.passphrase {
            Some(_) => format!("driver=luks,key-secret=key,{file}"),
            None => format!("driver=raw,{file}"),
        }
    }

    fn qemu_img<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut command = Command::new("qemu-img");
        let (verb, rest) = words.split_first().expect("a verb");
        command.arg(verb);
        if let Some(passphrase) = &self.passphrase {
            command
                .arg("--object")
                .arg(format!("secret,id=key,data={passphrase}"));
        }
        command.args(rest);
        command
    }
}

/// A quarter of the image is holes, the rest by halves what compresses about threefold and what does not at all.
fn content(index: usize, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MIB];
    match index % 8 {
        0 | 4 => return None,
        1..=3 => rng.fill_bytes(&mut bytes),
        _ => {
            for chunk in bytes.chunks_mut(48) {
                let line = format!("{:016x} level=info request served in ms: ", rng.random::<u64>());
                let length = chunk.len().min(line.len());
                chunk[..length].copy_from_slice(&line.as_bytes()[..length]);
            }
        }
    }
    Some(bytes)
}

fn since((begun, cpu_before): (Instant, Duration), cpu_now: Duration) -> Took {
    Took {
        wall: begun.elapsed(),
        cpu: cpu_now.saturating_sub(cpu_before),
    }
}

fn timed(command: &mut Command) -> Result<Took> {
    let begun = (Instant::now(), cpu::children()?);
    must(command)?;
    Ok(since(begun, cpu::children()?))
}

fn must(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {name}; with `--peers` xtask installs it"))?;
    ensure!(
        out.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

/// Puts the image where both peers back it up from, under one name, so that the second backup finds the first.
fn copy_into(image: &Path, source: &Path) -> Result<()> {
    std::fs::create_dir_all(source)?;
    std::fs::copy(image, source.join("image"))?;
    File::open(source.join("image"))?.sync_all()?;
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<()> {
    must(Command::new("cmp").arg(one).arg(other)).context("what a peer restored")
}

fn bytes_below(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() {
            bytes_below(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(total)
}
