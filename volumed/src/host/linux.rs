//! The host's devices and mounts by util-linux, cryptsetup and the file systems' own tools.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::export_file::ExportFile;
use super::ext4;
use super::mount_table::{self, Mount};
use super::{Content, HostError, HostMounts};
use crate::bulk::Layout;
use crate::command::{CommandError, Commands, FILE_SYSTEM_TIME_LIMIT, Invocation, Program};
use crate::pool::Device;
use crate::volume::{FsType, FsUsage, VolumeId};

const MIB: u64 = 1 << 20;
const MIB_LEN: usize = 1 << 20;
/// What e2fsck ends with when it put something right, and all is well now.
const E2FSCK_REPAIRED: i32 = 1;
/// What umount ends with when it did not unmount.
const UMOUNT_REFUSED: i32 = 32;

/// The host that this daemon runs on.
#[derive(Clone, Debug)]
pub struct LinuxHost {
    commands: Arc<dyn Commands>,
    /// The program volumed, which makes a file of an export.
    program: PathBuf,
}

impl LinuxHost {
    /// Works by `commands`.
    ///
    /// * `program`: volumed, which makes a file of an export.
    pub fn new(commands: Arc<dyn Commands>, program: PathBuf) -> Self {
        Self { commands, program }
    }

    /// Returns what a loop device of an activated slice is made of, when it takes one.
    async fn backing(device: &Device) -> Result<Option<PathBuf>, HostError> {
        if let Some(file) = ExportFile::of(device) {
            return Ok(Some(file.path()));
        }
        Ok((!Self::is_block(&device.path).await?).then(|| device.path.clone()))
    }

    /// Returns the block device that a slice is, or the loop device over it, making that.
    async fn block(&self, device: &Device) -> Result<PathBuf, HostError> {
        if let Some(file) = ExportFile::of(device) {
            file.serve(&self.program).await?;
            // By what an export is read and written; guests have the same.
            return self.attach_loop(&file.path(), &["--sector-size=4096"]).await;
        }
        match Self::backing(device).await? {
            Some(file) => self.attach_loop(&file, &[]).await,
            None => Ok(device.path.clone()),
        }
    }

    async fn command<A: Into<String>>(
        &self,
        program: Program,
        args: impl IntoIterator<Item = A> + Send,
    ) -> Result<String, HostError> {
        Ok(self.commands.succeed(&Invocation::new(program, args)).await?)
    }

    async fn is_block(path: &Path) -> Result<bool, HostError> {
        let found = tokio::fs::metadata(path).await;
        let found = found.map_err(|source| io_error("look at", path, source))?;
        Ok(found.file_type().is_block_device())
    }

    /// Returns the loop device of a file; none when it has none.
    async fn loop_of(&self, file: &Path) -> Result<Option<PathBuf>, HostError> {
        match tokio::fs::metadata(file).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The file of an export whose process was killed: losetup cannot look at it either.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return loop_by_name(file),
            Err(error) => return Err(io_error("look at", file, error)),
        }
        let args = [
            "--json",
            "--list",
            "--output",
            "NAME",
            "--associated",
            &text(file),
        ];
        let said = self.command(Program::Losetup, args).await?;
        // Without any device it prints nothing at all.
        if said.trim().is_empty() {
            return Ok(None);
        }
        let listed: Loops = serde_json::from_str(&said).map_err(|_| HostError::Output {
            program: "losetup",
            said,
        })?;
        Ok(listed.loopdevices.into_iter().next().map(|device| device.name))
    }

    /// Puts a loop device over a file, unless there is one.
    ///
    /// * `more`: further arguments.
    async fn attach_loop(&self, file: &Path, more: &[&str]) -> Result<PathBuf, HostError> {
        if let Some(there) = self.loop_of(file).await? {
            return Ok(there);
        }
        let file = text(file);
        // Past the page cache: else every byte is there twice, and counted against nobody.
        let mut args = vec!["--find", "--show", "--nooverlap", "--direct-io=on"];
        args.extend(more);
        args.push(&file);
        let said = self.command(Program::Losetup, args).await?;
        match said.trim() {
            "" => Err(HostError::Output {
                program: "losetup",
                said,
            }),
            node => Ok(PathBuf::from(node)),
        }
    }

    async fn open_crypt(&self, block: &Path, name: &str, layout: &Layout) -> Result<PathBuf, HostError> {
        let Layout::Luks { passphrase } = layout else {
            return Ok(block.to_owned());
        };
        let node = mapping(name);
        if tokio::fs::try_exists(&node)
            .await
            .map_err(|source| io_error("look for", &node, source))?
        {
            return Ok(node);
        }
        let args = [
            "open",
            "--type",
            "luks",
            "--allow-discards",
            "--key-file",
            "-",
            &text(block),
            name,
        ];
        let call = Invocation::new(Program::Cryptsetup, args).with_input(passphrase.clone());
        self.commands.succeed(&call).await?;
        Ok(node)
    }

    /// Makes an ext4 that nobody has mounted as large as its device, if it is smaller; returns whether it was.
    async fn fit(&self, block: &Path) -> Result<bool, HostError> {
        let path = block.to_owned();
        let sizes = blocking(move || {
            let device_bytes = File::open(&path)?.seek(io::SeekFrom::End(0))?;
            Ok((ext4::size_bytes(&path)?, device_bytes))
        });
        let (fs_bytes, device_bytes) = sizes.await.map_err(|source| io_error("read", block, source))?;
        // Less than a MiB more is what rounding leaves.
        if fs_bytes.is_none_or(|fs_bytes| fs_bytes.saturating_add(MIB) > device_bytes) {
            return Ok(false);
        }
        let slowly = |program, args: &[&str]| {
            let mut call = Invocation::new(program, args.iter().copied());
            call.time_limit = FILE_SYSTEM_TIME_LIMIT;
            call
        };
        let block = text(block);
        // Without a check just before it resize2fs refuses.
        match self
            .commands
            .succeed(&slowly(Program::E2fsck, &["-f", "-p", &block]))
            .await
        {
            Ok(_)
            | Err(CommandError::Failed {
                code: E2FSCK_REPAIRED,
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
        self.commands
            .succeed(&slowly(Program::Resize2fs, &[&block]))
            .await?;
        Ok(true)
    }
}

#[derive(Deserialize)]
struct Loops {
    loopdevices: Vec<Loop>,
}

#[derive(Deserialize)]
struct Loop {
    name: PathBuf,
}

/// Returns the loop device whose file has, or had, this path, as the kernel knows it.
fn loop_by_name(file: &Path) -> Result<Option<PathBuf>, HostError> {
    let devices = Path::new("/sys/block");
    let failed = |source| io_error("list", devices, source);
    for device in std::fs::read_dir(devices).map_err(failed)? {
        let device = device.map_err(failed)?;
        // Devices that are no loop devices, or have no file, have no such entry.
        let backing = std::fs::read(device.path().join("loop/backing_file"));
        if backing.is_ok_and(|backing| backing.trim_ascii_end() == file.as_os_str().as_bytes()) {
            return Ok(Some(Path::new("/dev").join(device.file_name())));
        }
    }
    Ok(None)
}

fn mapping(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

fn mapping_name(id: &VolumeId) -> String {
    format!("hangar-{id}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> HostError {
    HostError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// What is mounted on a directory, on top. The kernel's table has no symbolic links in its paths.
pub(super) async fn mounted_at(path: &Path) -> Result<Option<Mount>, HostError> {
    let real = tokio::fs::canonicalize(path).await;
    let path = real.as_deref().unwrap_or(path);
    let table = tokio::fs::read("/proc/self/mountinfo").await;
    let table = table.map_err(|source| io_error("read", Path::new("/proc/self/mountinfo"), source))?;
    Ok(mount_table::at(&table, path.as_os_str().as_bytes()))
}

/// Makes the directory, or sees that it is empty.
fn prepare_directory(path: &Path) -> Result<(), HostError> {
    let failed = |source| io_error("make directory", path, source);
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path);
    made.map_err(failed)?;
    let mut entries = std::fs::read_dir(path).map_err(failed)?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(HostError::NotEmpty {
            path: path.to_owned(),
        }),
    }
}

fn look(block: &Path, size_bytes: u64) -> io::Result<Content> {
    let file = File::open(block)?;
    let mut ends = vec![0; 2 * MIB_LEN];
    let (first, last) = ends.split_at_mut(MIB_LEN);
    file.read_exact_at(first, 0)?;
    file.read_exact_at(last, size_bytes.saturating_sub(MIB))?;
    let blank = ends.iter().all(|byte| *byte == 0);
    Ok(if blank { Content::Blank } else { Content::Something })
}

/// Runs something that waits for the disk where waiting is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("blocking work ended without a value: {cancelled}"),
        },
    }
}

#[async_trait]
impl HostMounts for LinuxHost {
    async fn map(&self, id: &VolumeId, device: &Device) -> Result<PathBuf, HostError> {
        let block = self.block(device).await?;
        self.open_crypt(&block, &mapping_name(id), &device.layout).await
    }

    async fn unmap(&self, id: &VolumeId, device: &Device) -> Result<(), HostError> {
        let name = mapping_name(id);
        if matches!(device.layout, Layout::Luks { .. }) && mapping(&name).exists() {
            self.command(Program::Cryptsetup, ["close", &name]).await?;
        }
        let export = ExportFile::of(device);
        if let Some(export) = &export
            && !export.is_mounted().await?
        {
            return export.end().await;
        }
        let Some(file) = Self::backing(device).await? else {
            return Ok(());
        };
        while let Some(node) = self.loop_of(&file).await? {
            let detached = self.command(Program::Losetup, ["--detach", &text(&node)]).await;
            // The kernel says yes to a device in use, and lets go of it when it is not any more.
            match (self.loop_of(&file).await?, detached) {
                (Some(still), Ok(_)) if still == node => return Err(HostError::Busy { path: node }),
                (Some(still), Err(error)) if still == node => return Err(error),
                _ => {}
            }
        }
        match export {
            Some(export) => export.end().await,
            None => Ok(()),
        }
    }

    async fn content(&self, block: &Path, size_bytes: u64) -> Result<Content, HostError> {
        let path = block.to_owned();
        let seen = blocking(move || look(&path, size_bytes)).await;
        seen.map_err(|source| io_error("read", block, source))
    }

    async fn format(&self, block: &Path, fstype: FsType) -> Result<(), HostError> {
        let block = text(block);
        match fstype {
            // As guests make it: blocks of 4 KiB at any size.
            FsType::Ext4 => {
                let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
                let args = [
                    "-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-I", "256", "-m", "1", "-E",
                    options, &block,
                ];
                self.command(Program::Mke2fs, args).await?;
            }
            FsType::Xfs => drop(self.command(Program::MkfsXfs, ["-q", "-f", "-K", &block]).await?),
            FsType::Raw => {}
        }
        Ok(())
    }

    async fn mount(&self, block: &Path, path: &Path, fstype: FsType) -> Result<(), HostError> {
        if let Some(mount) = mounted_at(path).await? {
            if mount.source == block.as_os_str().as_bytes() {
                return Ok(());
            }
            return Err(HostError::Occupied {
                path: path.to_owned(),
                mounted: String::from_utf8_lossy(&mount.source).into_owned(),
            });
        }
        let directory = path.to_owned();
        blocking(move || prepare_directory(&directory)).await?;
        if fstype == FsType::Ext4 {
            match self.fit(block).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(block = %block.display(), "file system grown before it is mounted")
                }
                Err(error) => {
                    let error = crate::ops::chain(&error);
                    tracing::warn!(block = %block.display(), error, "file system not grown before it is mounted");
                }
            }
        }
        // Whoever wrote the volume, its files give nobody rights on the host.
        let options = "nosuid,nodev";
        let args = ["-t", fstype.name(), "-o", options, &text(block), &text(path)];
        self.command(Program::Mount, args).await.map(drop)
    }

    async fn unmount(&self, id: &VolumeId, device: &Device, path: &Path) -> Result<(), HostError> {
        let Some(mount) = mounted_at(path).await? else {
            return Ok(());
        };
        // Nothing is mapped for this: what is not there cannot be mounted.
        let block = match &device.layout {
            Layout::Luks { .. } => Some(mapping(&mapping_name(id))),
            Layout::Raw => match Self::backing(device).await? {
                Some(file) => self.loop_of(&file).await?,
                None => Some(device.path.clone()),
            },
        };
        if block.is_none_or(|block| block.as_os_str().as_bytes() != mount.source) {
            return Ok(());
        }
        match self.command(Program::Umount, [text(path)]).await {
            Ok(_) => Ok(()),
            Err(HostError::Command(CommandError::Failed { code, said, .. }))
                if code == UMOUNT_REFUSED && said.contains("busy") =>
            {
                Err(HostError::Busy {
                    path: path.to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn grow(
        &self,
        id: &VolumeId,
        device: &Device,
        path: &Path,
        fstype: FsType,
    ) -> Result<FsUsage, HostError> {
        if let Some(file) = Self::backing(device).await? {
            let node = self.block(device).await?;
            // A file that is an export has the size that it had when somebody last looked.
            let looked = tokio::fs::metadata(&file).await;
            looked.map_err(|source| io_error("look at", &file, source))?;
            self.command(Program::Losetup, ["--set-capacity", &text(&node)])
                .await?;
        }
        let block = self.map(id, device).await?;
        if let Layout::Luks { passphrase } = &device.layout {
            let args = ["resize", "--key-file", "-", &mapping_name(id)];
            let call = Invocation::new(Program::Cryptsetup, args).with_input(passphrase.clone());
            self.commands.succeed(&call).await.map_err(HostError::from)?;
        }
        match fstype {
            FsType::Ext4 => drop(self.command(Program::Resize2fs, [text(&block)]).await?),
            FsType::Xfs => drop(self.command(Program::XfsGrowfs, ["-d", &text(path)]).await?),
            FsType::Raw => {}
        }
        self.usage(path).await
    }

    async fn sync(&self, path: &Path) -> Result<(), HostError> {
        let directory = path.to_owned();
        let synced =
            blocking(move || File::open(directory).and_then(|file| Ok(rustix::fs::syncfs(file)?))).await;
        synced.map_err(|source| io_error("sync", path, source))
    }

    async fn usage(&self, path: &Path) -> Result<FsUsage, HostError> {
        if mounted_at(path).await?.is_none() {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "nothing is mounted there");
            return Err(io_error("count", path, nothing));
        }
        let directory = path.to_owned();
        let counted = blocking(move || rustix::fs::statvfs(directory)).await;
        let counted = counted.map_err(|error| io_error("count", path, error.into()))?;
        Ok(FsUsage {
            block_size: counted.f_frsize,
            blocks: counted.f_blocks,
            blocks_free: counted.f_bfree,
            blocks_avail: counted.f_bavail,
            bytes_total: counted.f_blocks * counted.f_frsize,
            bytes_used: counted.f_blocks.saturating_sub(counted.f_bfree) * counted.f_frsize,
        })
    }
}
