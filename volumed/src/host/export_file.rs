//! An NBD export as a file, for a loop device: kept by a process `volumed nbd-file`, which outlives volumed as mounts do.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::HostError;
use super::linux::{blocking, io_error, mounted_at};
use crate::pool::Device;

/// Beside the server's socket: where the file is.
const DIRECTORY: &str = "file";
/// What its process says.
const LOG: &str = "file.log";
/// Under which name the kernel's table has it.
const SOURCE: &[u8] = b"nbd-file";
const LOOK: Duration = Duration::from_millis(20);
/// For how long the file is waited for: its process only has to ask the server.
const THERE_WITHIN: Duration = Duration::from_secs(30);

/// For how long a file that a loop device has just let go of may still be in use.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// The file of one export.
#[derive(Debug)]
pub(super) struct ExportFile {
    socket: PathBuf,
    export: String,
    /// The server's own directory, which nobody else sees into.
    home: PathBuf,
}

impl ExportFile {
    /// The file of a device that is an export; `None` when it is none.
    pub(super) fn of(device: &Device) -> Option<Self> {
        Some(Self {
            export: device.export.clone()?,
            home: device.path.parent()?.to_owned(),
            socket: device.path.clone(),
        })
    }

    fn directory(&self) -> PathBuf {
        self.home.join(DIRECTORY)
    }

    /// Where the file is once it is served.
    pub(super) fn path(&self) -> PathBuf {
        self.directory().join(nbd_file::FILE_NAME)
    }

    /// Whether a file system of ours is mounted on the directory, alive or not.
    pub(super) async fn is_mounted(&self) -> Result<bool, HostError> {
        let mount = mounted_at(&self.directory()).await?;
        Ok(mount.is_some_and(|mount| mount.source == SOURCE))
    }

    /// Whether its process answers.
    async fn is_there(&self) -> bool {
        let found = tokio::fs::metadata(self.path()).await;
        found.is_ok_and(|found| found.file_type().is_file())
    }

    /// Sees to it that the file is there.
    ///
    /// * `program`: volumed.
    pub(super) async fn serve(&self, program: &Path) -> Result<(), HostError> {
        if self.is_mounted().await? {
            if self.is_there().await {
                return Ok(());
            }
            // Its process was killed: whoever uses it has errors already, and goes on having them.
            self.unmount(rustix::mount::UnmountFlags::DETACH).await?;
        }
        let directory = self.directory();
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.map_err(|source| io_error("make directory", &directory, source))?;
        let log = self.home.join(LOG);
        let file = File::create(&log).map_err(|source| io_error("make", &log, source))?;
        let mut command = tokio::process::Command::new(program);
        command
            .arg("nbd-file")
            .arg("--socket")
            .arg(&self.socket)
            .args(["--export", &self.export])
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            // Not ended with volumed, nor by the terminal that volumed was started from.
            .process_group(0)
            .kill_on_drop(false);
        let mut child = command
            .spawn()
            .map_err(|source| io_error("run", program, source))?;
        let begun = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(LOOK);
        while !(self.is_mounted().await? && self.is_there().await) {
            ticks.tick().await;
            let ended = child
                .try_wait()
                .map_err(|source| io_error("run", program, source))?;
            if ended.is_some() || begun.elapsed() > THERE_WITHIN {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                let why = format!(
                    "its file is not there: {}",
                    last.unwrap_or("the process says nothing")
                );
                return Err(io_error("map", &self.socket, io::Error::other(why)));
            }
        }
        daemon::spawn("nbd_file_reaper", async move {
            let ended = child.wait().await;
            tracing::info!(?ended, "file of an export ended");
        });
        Ok(())
    }

    /// Takes the file away; its process ends with it.
    ///
    /// # Errors
    /// While somebody uses it.
    pub(super) async fn end(&self) -> Result<(), HostError> {
        let begun = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(LOOK);
        while self.is_mounted().await? {
            ticks.tick().await;
            match self.unmount(rustix::mount::UnmountFlags::empty()).await {
                // A loop device lets its file go only a moment after it was detached.
                Err(HostError::Busy { .. }) if begun.elapsed() < FREE_WITHIN => {}
                ended => ended?,
            }
        }
        let directory = self.directory();
        match std::fs::remove_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove directory", &directory, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn unmount(&self, flags: rustix::mount::UnmountFlags) -> Result<(), HostError> {
        let directory = self.directory();
        let unmounted = {
            let directory = directory.clone();
            blocking(move || rustix::mount::unmount(&directory, flags)).await
        };
        match unmounted {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::BUSY) => Err(HostError::Busy { path: directory }),
            Err(error) => Err(io_error("unmount", &directory, error.into())),
        }
    }
}
