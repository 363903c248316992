//! A node that is measured.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, interval};

/// How long a start, or an end, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whose program a node runs.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// Ours.
    Ours(PathBuf),
    /// Upstream's.
    Upstream(PathBuf),
}

/// One node.
#[derive(Debug)]
pub(crate) struct Served {
    root: tempfile::TempDir,
    program: Program,
    url: String,
    child: Child,
}

impl Served {
    /// Starts a primary on a directory of its own, and waits until it serves.
    pub(crate) async fn primary(program: &Program) -> Result<Self> {
        Self::start(tempfile::tempdir()?, program, None).await
    }

    /// Starts a replica.
    pub(crate) async fn follow(program: &Program, primary: &Self) -> Result<Self> {
        Self::start(tempfile::tempdir()?, program, Some(&primary.url)).await
    }

    async fn start(root: tempfile::TempDir, program: &Program, primary: Option<&str>) -> Result<Self> {
        // A port that was free a moment ago: the programs say in different ways which one they took.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let url = format!("http://{address}");
        let config = format!(
            "fuse: {{ dir: \"{root}/mnt\" }}\ndata: {{ dir: \"{root}/data\" }}\nhttp: {{ addr: \"{address}\" }}\n\
             lease: {{ type: \"static\", hostname: \"primary\", advertise-url: \"{primary}\", candidate: {candidate} }}\n",
            root = root.path().display(),
            primary = primary.unwrap_or(&url),
            candidate = primary.is_none(),
        );
        std::fs::File::create(root.path().join("litefs.yml"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, config.as_bytes()))?;
        for dir in ["mnt", "data"] {
            std::fs::create_dir(root.path().join(dir))?;
        }
        let child = Self::spawn(root.path(), program)?;
        let mut served = Self {
            root,
            program: program.clone(),
            url,
            child,
        };
        served.is_mounted().await?;
        Ok(served)
    }

    fn spawn(root: &Path, program: &Program) -> Result<Child> {
        let (Program::Ours(path) | Program::Upstream(path)) = program;
        Command::new(path)
            .arg("mount")
            .arg("-config")
            .arg(root.join("litefs.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(root.join("said"))?)
            .spawn()
            .with_context(|| format!("start {}", path.display()))
    }

    async fn is_mounted(&mut self) -> Result<()> {
        let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
        let (mount, mut ticks) = (self.mount(), interval(Duration::from_millis(2)));
        let deadline = Instant::now() + PATIENCE;
        while device(&mount)? == device(self.root.path())? {
            ticks.tick().await;
            let said = || std::fs::read_to_string(self.root.path().join("said")).unwrap_or_default();
            ensure!(self.child.try_wait()?.is_none(), "the node ended: {}", said());
            ensure!(Instant::now() < deadline, "the node does not mount: {}", said());
        }
        Ok(())
    }

    /// Returns where its databases are.
    pub(crate) fn mount(&self) -> PathBuf {
        self.root.path().join("mnt")
    }

    /// Returns the number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the node as its supervisor would, starts it again, and returns how long it took until it served.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        self.end().await?;
        let begun = Instant::now();
        self.child = Self::spawn(self.root.path(), &self.program)?;
        self.is_mounted().await?;
        Ok(begun.elapsed())
    }

    async fn end(&mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let (deadline, mut ticks) = (Instant::now() + PATIENCE, interval(Duration::from_millis(5)));
        while self.child.try_wait()?.is_none() {
            ticks.tick().await;
            ensure!(Instant::now() < deadline, "the node does not end");
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that ended already is as good, and so is a mount that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = unmount(self.mount(), UnmountFlags::DETACH);
    }
}
