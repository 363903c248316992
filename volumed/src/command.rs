//! Running a program: absolute path, clean environment, a time limit, and an error that says everything.
//!
//! A program's output goes into memory files, not pipes: when volumed dies, a command of LVM that is under way ends in
//! its own time instead of dying of a closed pipe with a device suspended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::MemfdFlags;
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// How long a command may take. LVM's own take well below a second; the limit is for a lock that somebody holds.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long a walk through a pool's metadata may take.
pub const METADATA_TIME_LIMIT: Duration = Duration::from_secs(600);

/// How long a check of a whole file system may take, or its growth while it is not mounted.
pub const FILE_SYSTEM_TIME_LIMIT: Duration = Duration::from_secs(3_600);

/// Where programs are looked for.
const FOLDERS: [&str; 6] = [
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// A program that we run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// All of LVM's commands.
    Lvm,
    /// Device-mapper itself.
    Dmsetup,
    /// LUKS and dm-crypt.
    Cryptsetup,
    /// Differences between thin volumes.
    ThinDelta,
    /// Loop devices.
    Losetup,
    /// Mounting.
    Mount,
    /// Unmounting.
    Umount,
    /// Makes ext4.
    Mke2fs,
    /// Makes XFS.
    MkfsXfs,
    /// Checks ext4.
    E2fsck,
    /// Grows ext4.
    Resize2fs,
    /// Grows XFS.
    XfsGrowfs,
    /// Empties a device's write cache.
    Sync,
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 13] = [
        Self::Lvm,
        Self::Dmsetup,
        Self::Cryptsetup,
        Self::ThinDelta,
        Self::Losetup,
        Self::Mount,
        Self::Umount,
        Self::Mke2fs,
        Self::MkfsXfs,
        Self::E2fsck,
        Self::Resize2fs,
        Self::XfsGrowfs,
        Self::Sync,
    ];

    /// Returns its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lvm => "lvm",
            Self::Dmsetup => "dmsetup",
            Self::Cryptsetup => "cryptsetup",
            Self::ThinDelta => "thin_delta",
            Self::Losetup => "losetup",
            Self::Mount => "mount",
            Self::Umount => "umount",
            Self::Mke2fs => "mke2fs",
            Self::MkfsXfs => "mkfs.xfs",
            Self::E2fsck => "e2fsck",
            Self::Resize2fs => "resize2fs",
            Self::XfsGrowfs => "xfs_growfs",
            Self::Sync => "sync",
        }
    }

    /// Returns the Debian package that has it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Lvm => "lvm2",
            Self::Dmsetup => "dmsetup",
            Self::Cryptsetup => "cryptsetup-bin",
            Self::ThinDelta => "thin-provisioning-tools",
            Self::Losetup | Self::Mount | Self::Umount => "mount",
            Self::Mke2fs | Self::E2fsck | Self::Resize2fs => "e2fsprogs",
            Self::MkfsXfs | Self::XfsGrowfs => "xfsprogs",
            Self::Sync => "coreutils",
        }
    }
}

/// One run of a program.
#[derive(Clone)]
pub struct Invocation {
    /// What is run.
    pub program: Program,
    /// Its arguments. Secrets never stand here: every user of the host can read them.
    pub args: Vec<String>,
    /// What it reads from its standard input; nothing when absent.
    pub input: Option<Zeroizing<String>>,
    /// When it is killed.
    pub time_limit: Duration,
}

impl Invocation {
    /// A run with the usual time limit and no input.
    pub fn new<A: Into<String>>(program: Program, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            program,
            args: args.into_iter().map(Into::into).collect(),
            input: None,
            time_limit: TIME_LIMIT,
        }
    }

    /// The same run with something to read.
    #[must_use]
    pub fn with_input(self, input: Zeroizing<String>) -> Self {
        Self {
            input: Some(input),
            ..self
        }
    }

    /// Returns program and arguments as a person would type them.
    pub fn line(&self) -> String {
        let mut line = self.program.name().to_owned();
        for arg in &self.args {
            line.push(' ');
            line.push_str(arg);
        }
        line
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

/// How a program ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Turns the output of a run that ended with an error into that error.
    pub fn failure(&self, call: &Invocation) -> CommandError {
        CommandError::Failed {
            line: call.line(),
            code: self.code,
            said: one_line(&self.stderr),
        }
    }
}

/// Why a command did not do what it was run for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The program is not on this host.
    #[error("{} is not installed; install the package {}", program.name(), program.package())]
    Absent {
        /// Which.
        program: Program,
    },
    /// The program could not be started.
    #[error("run {line}")]
    Start {
        /// The command.
        line: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was killed at its time limit; what it did until then must be read anew.
    #[error("{line}: killed after {} s", after.as_secs())]
    TimedOut {
        /// The command.
        line: String,
        /// Its limit.
        after: Duration,
    },
    /// It ended with an error.
    #[error("{line}: exit code {code}: {said}")]
    Failed {
        /// The command.
        line: String,
        /// Exit code.
        code: i32,
        /// Its standard error, on one line.
        said: String,
    },
    /// It ended well, and the state read afterwards says otherwise.
    #[error("{line}: ended well, but {missing}")]
    NoEffect {
        /// The command.
        line: String,
        /// What should be so, and is not.
        missing: String,
    },
}

impl CommandError {
    /// Returns what a person needs of it who does not run the command: what the program said, and not how it was called.
    pub fn in_short(&self) -> String {
        match self {
            Self::Failed { said, code, .. } => {
                let lines: Vec<&str> = said
                    .lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .collect();
                match lines.is_empty() {
                    true => format!("exit code {code}"),
                    false => lines.join("; "),
                }
            }
            Self::TimedOut { after, .. } => format!("no answer within {} s", after.as_secs()),
            other => other.to_string(),
        }
    }
}

/// Runs programs.
#[async_trait]
pub trait Commands: Send + Sync + fmt::Debug {
    /// Runs one to its end or its time limit. A non-zero exit code is an output, not an error.
    ///
    /// # Errors
    /// `Absent`, `Start` and `TimedOut` of [`CommandError`].
    async fn run(&self, call: &Invocation) -> Result<Output, CommandError>;

    /// Runs one and returns what it printed.
    ///
    /// # Errors
    /// [`CommandError`].
    async fn succeed(&self, call: &Invocation) -> Result<String, CommandError> {
        let output = self.run(call).await?;
        match output.code {
            0 => Ok(output.stdout),
            _ => Err(output.failure(call)),
        }
    }
}

/// What LVM warns of where a power cut kept the header of its metadata and took the text: the reason for its error.
pub(crate) const TORN: &str = "bad metadata text";

/// Joins the lines of an error text, without LVM's other warnings where there is anything else.
fn one_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut said: Vec<&str> = lines()
        .filter(|line| !line.starts_with("WARNING:") || line.contains(TORN))
        .collect();
    if said.is_empty() {
        said = lines().collect();
    }
    said.join("; ")
}

/// The programs of this host, found once.
#[derive(Clone, Debug)]
pub struct SystemCommands {
    found: BTreeMap<Program, PathBuf>,
    udev: bool,
}

impl SystemCommands {
    /// Looks for the programs in the system's folders.
    ///
    /// * `udev`: whether a udev daemon answers on this host; without it device nodes are made by the programs themselves.
    pub fn find(udev: bool) -> Self {
        let folders: Vec<&Path> = FOLDERS.iter().map(Path::new).collect();
        Self::find_in(&folders, udev)
    }

    fn find_in(folders: &[&Path], udev: bool) -> Self {
        let place = |program: Program| {
            let mut paths = folders.iter().map(|folder| folder.join(program.name()));
            paths.find(|path| path.is_file()).map(|path| (program, path))
        };
        Self {
            found: Program::ALL.into_iter().filter_map(place).collect(),
            udev,
        }
    }

    /// Returns where a program is.
    ///
    /// # Errors
    /// [`CommandError::Absent`].
    pub fn path(&self, program: Program) -> Result<&Path, CommandError> {
        let found = self.found.get(&program).map(PathBuf::as_path);
        found.ok_or(CommandError::Absent { program })
    }

    async fn run_to_end(&self, call: &Invocation) -> Result<Result<Output, Duration>, io::Error> {
        let path = self.path(call.program).map_err(io::Error::other)?;
        let (mut stdout, mut stderr) = (memory("stdout")?, memory("stderr")?);
        let stdin = match &call.input {
            None => Stdio::null(),
            Some(input) => {
                let mut file = memory("stdin")?;
                file.write_all(input.as_bytes())?;
                file.rewind()?;
                Stdio::from(file)
            }
        };
        let mut command = tokio::process::Command::new(path);
        command
            .args(&call.args)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .stdin(stdin)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // A signal to our process group is not meant for it.
            .process_group(0);
        if !self.udev {
            command.env("DM_DISABLE_UDEV", "1");
        }
        let mut child = command.spawn()?;
        let status = match tokio::time::timeout(call.time_limit, child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                child.kill().await?;
                return Ok(Err(call.time_limit));
            }
        };
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        Ok(Ok(Output {
            code: status.code().unwrap_or(128 + signal),
            stdout: text(&mut stdout)?,
            stderr: text(&mut stderr)?,
        }))
    }
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[async_trait]
impl Commands for SystemCommands {
    async fn run(&self, call: &Invocation) -> Result<Output, CommandError> {
        self.path(call.program)?;
        let begun = tokio::time::Instant::now();
        match self.run_to_end(call).await {
            Ok(Ok(output)) => {
                tracing::debug!(
                    command = call.line(),
                    code = output.code,
                    ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "command ended"
                );
                Ok(output)
            }
            Ok(Err(after)) => Err(CommandError::TimedOut {
                line: call.line(),
                after,
            }),
            Err(source) => Err(CommandError::Start {
                line: call.line(),
                source,
            }),
        }
    }
}
