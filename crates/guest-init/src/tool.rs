//! Running the initramfs's own programs, before the root file system takes its place.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Stdio;

use crate::program::{self, Descriptors, Program, ProgramError};
use crate::reaper::Reaper;
use crate::stream::Stream;
use crate::user::Identity;

/// Longest part of a tool's output that is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 4096;

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// It is not in the initramfs.
    #[error("run a tool of the initramfs")]
    Start(#[from] ProgramError),
    /// It ended badly.
    #[error("{program} ended with code {code:?}: {output}")]
    Ended {
        program: String,
        code: Option<i32>,
        output: String,
    },
    /// Its output cannot be read.
    #[error("read a tool's output")]
    Output(#[from] io::Error),
}

/// Runs a program and waits for its end.
pub(crate) async fn run(reaper: &Reaper, argv: &[String]) -> Result<(), ToolError> {
    let (ours, theirs) = program::pipe()?;
    let output = Stream::new(ours)?;
    let identity = Identity::root();
    let program = Program {
        argv,
        env: &BTreeMap::new(),
        cwd: Path::new("/"),
        identity: &identity,
        group: None,
    };
    let stdout = Stdio::from(theirs.try_clone()?);
    let pid = program.start(Descriptors {
        stdin: Stdio::null(),
        stdout,
        stderr: theirs.into(),
        tty: false,
    })?;
    let ended = reaper.expect(pid);
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = output.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        let room = OUTPUT_BYTES_MAX.saturating_sub(text.len());
        text.extend_from_slice(&buffer[..count.min(room)]);
    }
    let code = ended.await.ok().and_then(|ended| ended.code);
    if code == Some(0) {
        return Ok(());
    }
    let program = argv.first().cloned().unwrap_or_default();
    Err(ToolError::Ended {
        program,
        code,
        output: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}
