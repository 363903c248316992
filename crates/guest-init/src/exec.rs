//! Commands beside the workload: their streams, their deadline, their end.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use guest_init::proto::message::{ErrorKind, Exec, ExecExit};
use guest_init::proto::{Channel, Reply, StreamId};

use crate::cgroup::{self, Group};
use crate::guest::{Guest, Workload};
use crate::program::{self, Descriptors, Program, ProgramError};
use crate::reaper::Ended;
use crate::stream::{self, Stream};
use crate::user::{self, UserError};

/// Commands at once.
const COMMANDS_MAX: usize = 64;

/// Most that is read of a stream after its command ended: what the command itself wrote fits into the pipe,
/// what comes later is written by something it left behind.
const TAIL_BYTES_MAX: usize = 1 << 20;

/// What a terminal takes for the end of input.
const END_OF_TRANSMISSION: u8 = 4;

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The workload does not run.
    #[error("no workload runs")]
    NoWorkload,
    /// Too many at once.
    #[error("{COMMANDS_MAX} commands run already")]
    Busy,
    /// No such user.
    #[error("look up the user")]
    User(#[from] UserError),
    /// No such program.
    #[error("start the command")]
    Program(#[from] ProgramError),
    /// No pipe, terminal or group.
    #[error("prepare the command")]
    Prepare(#[from] io::Error),
}

impl ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoWorkload => ErrorKind::WrongPhase,
            Self::Busy => ErrorKind::Busy,
            Self::User(_) | Self::Program(ProgramError::NotFound { .. }) => ErrorKind::NotFound,
            Self::Program(ProgramError::Empty) => ErrorKind::Invalid,
            Self::Program(ProgramError::NotExecutable { .. }) => ErrorKind::NotExecutable,
            Self::Program(ProgramError::Start { .. }) | Self::Prepare(_) => ErrorKind::Io,
        }
    }
}

/// The commands that run, by call.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    running: RefCell<BTreeMap<u32, Rc<Handle>>>,
    started: Cell<u64>,
}

/// What the host can do to a running command.
#[derive(Debug, Default)]
struct Handle {
    input: RefCell<VecDeque<Bytes>>,
    input_ended: Cell<bool>,
    input_changed: Notify,
    cancelled: CancellationToken,
}

impl Execs {
    /// Passes input on; its volume is bounded by the stream's credit.
    pub(crate) fn input(&self, call: u32, bytes: Bytes) {
        if let Some(handle) = self.running.borrow().get(&call) {
            handle.input.borrow_mut().push_back(bytes);
            handle.input_changed.notify_one();
        }
    }

    /// Notes that no more input comes.
    pub(crate) fn input_end(&self, call: u32) {
        if let Some(handle) = self.running.borrow().get(&call) {
            handle.input_ended.set(true);
            handle.input_changed.notify_one();
        }
    }

    /// Kills a command that the host gave up.
    pub(crate) fn cancel(&self, call: u32) {
        if let Some(handle) = self.running.borrow().get(&call) {
            handle.cancelled.cancel();
        }
    }

    /// Kills all commands: their session is over.
    pub(crate) fn cancel_all(&self) {
        for handle in std::mem::take(&mut *self.running.borrow_mut()).into_values() {
            handle.cancelled.cancel();
        }
    }
}

/// Runs one command, from its request to its last reply.
pub(crate) async fn serve(guest: Rc<Guest>, epoch: u64, call: u32, exec: Exec) {
    let running = match start(&guest, &exec) {
        Ok(running) => running,
        Err(error) => {
            let reply = Reply::Error {
                kind: error.kind(),
                message: crate::console::chain(&error),
            };
            guest.link.reply(epoch, call, &reply);
            return;
        }
    };
    guest.link.speak(epoch, |session| {
        session.open_sending(StreamId::new(call, Channel::Stdout));
        session.open_sending(StreamId::new(call, Channel::Stderr));
        if exec.stdin {
            session.open_receiving(StreamId::new(call, Channel::Stdin));
        }
        session.reply(call, &Reply::ExecStarted { pid: running.pid });
    });
    let handle = Rc::new(Handle::default());
    guest.execs.running.borrow_mut().insert(call, Rc::clone(&handle));
    let group = running.group.clone();
    let exit = attend(&guest, epoch, call, running, &handle, exec.timeout_ms).await;
    group.remove();
    guest.link.speak(epoch, |session| {
        session.reply(call, &Reply::ExecExit(exit));
        session.forget(call);
    });
    if epoch == guest.link.epoch() {
        guest.execs.running.borrow_mut().remove(&call);
    }
}

/// A command that was just started.
struct Running {
    pid: i32,
    group: Group,
    ended: oneshot::Receiver<Ended>,
    stdin: Option<Input>,
    stdout: Stream,
    stderr: Option<Stream>,
}

/// Where a command's input goes.
struct Input {
    stream: Stream,
    terminal: bool,
}

fn start(guest: &Guest, exec: &Exec) -> Result<Running, ExecError> {
    let workload = guest.workload.borrow().clone().ok_or(ExecError::NoWorkload)?;
    if guest.execs.running.borrow().len() >= COMMANDS_MAX {
        return Err(ExecError::Busy);
    }
    let Workload {
        mut env, user, cwd, ..
    } = workload;
    env.extend(exec.env.iter().cloned());
    let spec = exec.user.clone().or(user).unwrap_or_default();
    let identity = user::resolve(&spec, &read("/etc/passwd"), &read("/etc/group"))?;
    if exec.user.is_some() {
        env.insert("HOME".to_owned(), identity.home.clone());
    }
    let number = guest.execs.started.get() + 1;
    guest.execs.started.set(number);
    let group = Group::create(&format!("{}/{number}", cgroup::EXEC))?;
    let cwd = exec.cwd.as_ref().map_or(cwd, PathBuf::from);
    let program = Program {
        argv: &exec.command,
        env: &env,
        cwd: &cwd,
        identity: &identity,
        group: Some(&group),
    };
    let ends = if let Some(size) = exec.tty {
        terminal_ends(size)?
    } else {
        pipe_ends(exec.stdin)?
    };
    let pid = program.start(ends.theirs).inspect_err(|_| group.remove())?;
    let ended = guest.reaper.expect(pid);
    Ok(Running {
        pid,
        group,
        ended,
        stdin: ends.stdin,
        stdout: ends.stdout,
        stderr: ends.stderr,
    })
}

struct Ends {
    theirs: Descriptors,
    stdin: Option<Input>,
    stdout: Stream,
    stderr: Option<Stream>,
}

fn pipe_ends(with_stdin: bool) -> io::Result<Ends> {
    let (stdin, their_stdin) = if with_stdin {
        let (theirs, ours) = program::pipe()?;
        (
            Some(Input {
                stream: Stream::new(ours)?,
                terminal: false,
            }),
            Stdio::from(theirs),
        )
    } else {
        (None, Stdio::null())
    };
    let (stdout, their_stdout) = program::pipe()?;
    let (stderr, their_stderr) = program::pipe()?;
    Ok(Ends {
        theirs: Descriptors {
            stdin: their_stdin,
            stdout: their_stdout.into(),
            stderr: their_stderr.into(),
            tty: false,
        },
        stdin,
        stdout: Stream::new(stdout)?,
        stderr: Some(Stream::new(stderr)?),
    })
}

fn terminal_ends(size: guest_init::proto::message::TtySize) -> io::Result<Ends> {
    let (ours, theirs) = stream::terminal(size)?;
    let copy = |fd: &OwnedFd| fd.try_clone();
    Ok(Ends {
        theirs: Descriptors {
            stdin: copy(&theirs)?.into(),
            stdout: copy(&theirs)?.into(),
            stderr: theirs.into(),
            tty: true,
        },
        stdin: Some(Input {
            stream: Stream::new(copy(&ours)?)?,
            terminal: true,
        }),
        stdout: Stream::new(ours)?,
        stderr: None,
    })
}

/// Carries a command's streams until it has ended and everything it wrote is on its way.
async fn attend(
    guest: &Guest,
    epoch: u64,
    call: u32,
    running: Running,
    handle: &Handle,
    timeout_ms: Option<u64>,
) -> ExecExit {
    let Running {
        group,
        ended,
        stdin,
        stdout,
        stderr,
        ..
    } = running;
    let (over, is_over) = watch::channel(false);
    let output = carry(
        guest,
        epoch,
        StreamId::new(call, Channel::Stdout),
        Some(stdout),
        is_over.clone(),
    );
    let errors = carry(
        guest,
        epoch,
        StreamId::new(call, Channel::Stderr),
        stderr,
        is_over,
    );
    let end = async {
        let exit = wait(ended, &group, handle, timeout_ms).await;
        // The carriers may have ended already.
        let _ = over.send(true);
        exit
    };
    let streams_and_end = async { tokio::join!(end, output, errors).0 };
    tokio::select! {
        exit = streams_and_end => exit,
        never = feed(guest, epoch, StreamId::new(call, Channel::Stdin), stdin, handle) => match never {},
    }
}

/// Waits for a command's end; kills it, and all it started, when its time is up or nobody wants it any more.
async fn wait(
    mut ended: oneshot::Receiver<Ended>,
    group: &Group,
    handle: &Handle,
    timeout_ms: Option<u64>,
) -> ExecExit {
    let deadline = async {
        match timeout_ms {
            Some(timeout_ms) => tokio::time::sleep(Duration::from_millis(timeout_ms)).await,
            None => std::future::pending().await,
        }
    };
    let (ended, timed_out) = tokio::select! {
        biased;
        ended = &mut ended => (ended, false),
        () = deadline => { group.kill(); (ended.await, true) }
        () = handle.cancelled.cancelled() => { group.kill(); (ended.await, false) }
    };
    let ended = ended.unwrap_or(Ended {
        code: None,
        signal: None,
    });
    ExecExit {
        code: ended.code,
        signal: ended.signal,
        timed_out,
    }
}

/// Carries what a command writes.
async fn carry(
    guest: &Guest,
    epoch: u64,
    stream: StreamId,
    source: Option<Stream>,
    mut is_over: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    if let Some(source) = source {
        loop {
            tokio::select! {
                biased;
                _ = is_over.wait_for(|over| *over) => {
                    carry_tail(guest, epoch, stream, &source, &mut buffer).await;
                    break;
                }
                read = source.read(&mut buffer) => match read {
                    Ok(count @ 1..) => if !guest.link.send_all(epoch, stream, &buffer[..count]).await { break },
                    Ok(0) | Err(_) => break,
                },
            }
        }
    }
    guest.link.speak(epoch, |session| session.send_end(stream));
}

async fn carry_tail(guest: &Guest, epoch: u64, stream: StreamId, source: &Stream, buffer: &mut [u8]) {
    let mut carried = 0;
    while carried < TAIL_BYTES_MAX {
        let Ok(Some(count @ 1..)) = source.read_now(buffer) else {
            return;
        };
        carried += count;
        if !guest.link.send_all(epoch, stream, &buffer[..count]).await {
            return;
        }
    }
}

/// Carries a command's input. Goes on taking it when the command does not want it any more: the host's stream
/// must not stall. Never ends; the command's end ends it.
async fn feed(
    guest: &Guest,
    epoch: u64,
    stream: StreamId,
    input: Option<Input>,
    handle: &Handle,
) -> std::convert::Infallible {
    let mut sink = input;
    loop {
        let next = handle.input.borrow_mut().pop_front();
        if let Some(bytes) = next {
            if let Some(open) = &sink
                && write_all(&open.stream, &bytes).await.is_err()
            {
                sink = None;
            }
            guest
                .link
                .speak(epoch, |session| session.consumed(stream, bytes.len()));
            continue;
        }
        if handle.input_ended.get()
            && let Some(open) = sink.take()
            && open.terminal
        {
            // A terminal has no end of file: it has a character for it.
            let _ = write_all(&open.stream, &[END_OF_TRANSMISSION]).await;
        }
        handle.input_changed.notified().await;
    }
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = stream.write(bytes).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Reads a file of the image that may not be there.
pub(crate) fn read(path: &str) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
