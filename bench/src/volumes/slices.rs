//! A volume of the file pool beside a plain file on the same file system: as a directory of the host has it, and as a
//! machine's QEMU has it (encrypted, over NBD only to reach it; the plain file goes the same way).

use super::fio::{self, Job, Target};
use crate::report::{Report, median};
use anyhow::{Context, Result, ensure};
use it::volumed::Volumed;
use serde_json::{Value, json};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

const JOBS: &[Job] = &[
    Job {
        name: "random read 4k, 1 at a time",
        rw: "randread",
        block: "4k",
        depth: 1,
        flush_every: 0,
    },
    Job {
        name: "random read 4k, 32 at a time",
        rw: "randread",
        block: "4k",
        depth: 32,
        flush_every: 0,
    },
    Job {
        name: "random write 4k, 1 at a time",
        rw: "randwrite",
        block: "4k",
        depth: 1,
        flush_every: 0,
    },
    Job {
        name: "random write 4k, 32 at a time",
        rw: "randwrite",
        block: "4k",
        depth: 32,
        flush_every: 0,
    },
    Job {
        name: "sequential read 1m, 8 at a time",
        rw: "read",
        block: "1m",
        depth: 8,
        flush_every: 0,
    },
    Job {
        name: "sequential write 1m, 8 at a time",
        rw: "write",
        block: "1m",
        depth: 8,
        flush_every: 0,
    },
    Job {
        name: "random write 4k, fsync each",
        rw: "randwrite",
        block: "4k",
        depth: 1,
        flush_every: 1,
    },
    Job {
        name: "random write 4k, 32 at a time, fsync every 32",
        rw: "randwrite",
        block: "4k",
        depth: 32,
        flush_every: 32,
    },
];

pub(crate) async fn run(report: &mut Report, quick: bool) -> Result<()> {
    let (mib, seconds, rounds) = if quick { (256, 2, 1) } else { (1024, 5, 3) };
    let mut volumed = Volumed::new().await?;
    let _running = volumed.start().await?;
    let client = volumed.client();
    let plain = Target::File(volumed.path("plain"));
    fio::fill(&plain, mib)?;

    if rustix::process::geteuid().is_root() {
        let volume = volumed
            .create(
                &client,
                &json!({"name": "host", "size_gb": 2, "encrypted": false}),
            )
            .await?;
        let place = volumed.path("mounted");
        let mount = format!("/v1/volumes/{volume}/mount");
        let _: Value = client.put(&mount, &json!({"host_path": place})).await?;
        let ours = Target::File(place.join("file"));
        fio::fill(&ours, mib)?;
        compare(
            report,
            "volume mounted on the host",
            &ours,
            &plain,
            (mib, seconds, rounds),
        )?;
        let _: Value = client.delete(&mount).await?;
    } else {
        eprintln!("a volume mounted on the host is not measured: only root may mount");
    }

    let volume = volumed
        .create(&client, &json!({"name": "guest", "size_gb": 2}))
        .await?;
    let attach = format!("/v1/volumes/{volume}/attach");
    let attached: Value = client.post(&attach, &json!({"machine_id": "m1"})).await?;
    let path = attached["device"]["path"].as_str().context("a path")?;
    let passphrase = attached["device"]["passphrase"]
        .as_str()
        .context("a passphrase")?;
    let ours = Exported::encrypted(Path::new(path), passphrase, volumed.path("ours.sock"))?;
    let floor = Exported::plain(&volumed.path("plain"), volumed.path("plain.sock"))?;
    let written = Job {
        name: "fill",
        rw: "write",
        block: "1m",
        depth: 4,
        flush_every: 0,
    };
    let long_enough = u32::try_from(mib / 16)?;
    fio::run(&written, &ours.target(), mib, long_enough.min(30))?;
    compare(
        report,
        "encrypted volume in QEMU",
        &ours.target(),
        &floor.target(),
        (mib, seconds, rounds),
    )
}

/// Runs every job against both in turn and reports the medians.
fn compare(
    report: &mut Report,
    what: &str,
    ours: &Target,
    floor: &Target,
    (mib, seconds, rounds): (u64, u32, u32),
) -> Result<()> {
    for job in JOBS {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            without.push(fio::run(job, floor, mib, seconds)?.requests_per_second);
            with.push(fio::run(job, ours, mib, seconds)?.requests_per_second);
        }
        let name = format!("{what}: {}", job.name);
        report.beside_floor(&name, median(with), "1/s", median(without));
    }
    Ok(())
}

/// A file behind QEMU's block layer, with the options that a machine's disk has.
struct Exported {
    daemon: Child,
    socket: PathBuf,
}

impl Exported {
    fn encrypted(file: &Path, passphrase: &str, socket: PathBuf) -> Result<Self> {
        let secret = ["--object".to_owned(), format!("secret,id=key,data={passphrase}")];
        let luks = json!({"driver": "luks", "node-name": "disk", "file": "below", "key-secret": "key", "discard": "unmap"});
        Self::start(
            file,
            "below",
            &secret,
            &["--blockdev".to_owned(), luks.to_string()],
            socket,
        )
    }

    fn plain(file: &Path, socket: PathBuf) -> Result<Self> {
        Self::start(file, "disk", &[], &[], socket)
    }

    fn start(file: &Path, node: &str, before: &[String], after: &[String], socket: PathBuf) -> Result<Self> {
        let below = json!({
            "driver": "file", "node-name": node, "filename": file, "aio": "io_uring", "discard": "unmap",
            "cache": {"direct": true, "no-flush": false},
        });
        let ready = socket.with_extension("pid");
        let daemon = Command::new("qemu-storage-daemon")
            .args(before)
            .args(["--blockdev", &below.to_string()])
            .args(after)
            .arg("--nbd-server")
            .arg(format!("addr.type=unix,addr.path={}", socket.display()))
            .args(["--export", "type=nbd,id=disk,node-name=disk,name=,writable=on"])
            .arg("--pidfile")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(File::create(socket.with_extension("out"))?)
            .spawn()
            .context("qemu-storage-daemon is in Debian's qemu-system-common")?;
        let mut exported = Self { daemon, socket };
        let deadline = Instant::now() + Duration::from_secs(20);
        // The pid file is written once the export is served.
        while !ready.exists() {
            ensure!(exported.daemon.try_wait()?.is_none(), "qemu-storage-daemon ended");
            ensure!(Instant::now() < deadline, "qemu-storage-daemon is not ready");
            std::thread::yield_now();
        }
        Ok(exported)
    }

    fn target(&self) -> Target {
        Target::Nbd(self.socket.clone())
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // One that ended already is as good.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
