//! `litefs run`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use rustix::io::{FdFlags, fcntl_setfd};

use super::{complain, primary};
use crate::{cli::RunArgs, halt::HALT_BYTE, sys};

/// Runs a command on a node and ends as it ends.
pub(super) async fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.if_candidate && !primary::is_candidate(&args.url).await? {
        complain("node is not a candidate, exiting");
        return Ok(ExitCode::SUCCESS);
    }
    if args.promote {
        primary::promote(&args.url).await?;
    }
    let lock = args.halt.as_deref().map(halt).transpose()?;
    let (program, rest) = args.command.split_first().context("command required")?;
    let status = tokio::process::Command::new(program).args(rest).status().await;
    if let Some(lock) = lock {
        // Also when something that the command has started has it open still.
        sys::unlock_byte(&lock, HALT_BYTE).context("give the halt lock back")?;
    }
    let status = status.with_context(|| format!("run {program}"))?;
    let code = status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Takes the primary's write lock of a database. The command inherits it: should this process be killed, the command goes on with it.
fn halt(database: &Path) -> anyhow::Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push("-lock");
    let path = PathBuf::from(path);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    fcntl_setfd(&file, FdFlags::empty()).context("let the halt lock be inherited")?;
    sys::lock_byte(&file, HALT_BYTE)
        .with_context(|| format!("take the halt lock of {}", database.display()))?;
    Ok(file)
}
