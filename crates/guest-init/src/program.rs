//! Starting programs: finding them in the image, and giving them their identity, group and descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cgroup::Group;
use crate::sys::{self, ChildSetup};
use crate::user::Identity;

/// Where programs are searched for unless the environment says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// Nothing to run.
    #[error("no program given")]
    Empty,
    /// Not in the image.
    #[error("{program}: not found")]
    NotFound { program: String },
    /// In the image, but a directory or without permission to execute.
    #[error("{program}: not executable")]
    NotExecutable { program: String },
    /// The kernel refused.
    #[error("start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
}

impl ProgramError {
    /// Returns the exit code a shell would give.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Empty => 125,
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::Start { .. } => 126,
        }
    }
}

/// The descriptors of a new process.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Standard input.
    pub(crate) stdin: Stdio,
    /// Standard output.
    pub(crate) stdout: Stdio,
    /// Standard error.
    pub(crate) stderr: Stdio,
    /// Whether standard input is a terminal to control.
    pub(crate) tty: bool,
}

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// Its whole environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Its working directory.
    pub(crate) cwd: &'a Path,
    /// Who it runs as.
    pub(crate) identity: &'a Identity,
    /// The group it joins.
    pub(crate) group: Option<&'a Group>,
}

impl Program<'_> {
    /// Starts the program; returns its process id. Its end comes through the reaper.
    pub(crate) fn start(&self, descriptors: Descriptors) -> Result<i32, ProgramError> {
        let (name, arguments) = self.argv.split_first().ok_or(ProgramError::Empty)?;
        let search = self.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let path = find(name, search, self.cwd)?;
        let start_error = |source| ProgramError::Start {
            program: name.clone(),
            source,
        };
        let cgroup_procs = self.group.map(Group::procs).transpose().map_err(start_error)?;
        let mut command = Command::new(path);
        command
            .arg0(name)
            .args(arguments)
            .env_clear()
            .envs(self.env)
            .current_dir(self.cwd);
        command
            .stdin(descriptors.stdin)
            .stdout(descriptors.stdout)
            .stderr(descriptors.stderr);
        sys::prepare_child(
            &mut command,
            ChildSetup {
                cgroup_procs,
                uid: self.identity.uid,
                gid: self.identity.gid,
                groups: self.identity.groups.clone(),
                controlling_tty: descriptors.tty,
            },
        );
        let child = command.spawn().map_err(start_error)?;
        Ok(i32::try_from(child.id()).unwrap_or(i32::MAX))
    }
}

/// Finds a program as a shell does.
fn find(name: &str, search: &str, cwd: &Path) -> Result<PathBuf, ProgramError> {
    let mut found_but_unfit = false;
    let mut fits = |path: &Path| match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => true,
        Ok(_) => {
            found_but_unfit = true;
            false
        }
        Err(_) => false,
    };
    if name.is_empty() {
        return Err(ProgramError::Empty);
    }
    if name.contains('/') {
        let path = cwd.join(name);
        if fits(&path) {
            return Ok(path);
        }
    } else {
        for dir in search.split(':') {
            let path = cwd.join(dir).join(name);
            if fits(&path) {
                return Ok(path);
            }
        }
    }
    let program = name.to_owned();
    Err(if found_but_unfit {
        ProgramError::NotExecutable { program }
    } else {
        ProgramError::NotFound { program }
    })
}

/// Returns a pipe: what we read or write, and the other end for a process.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

#[cfg(test)]
mod tests;
