//! The driver of the guest's agent port: one task that owns the session, and handles for everyone else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use guest_init::proto::message::{Exec, ExecExit, NumberedEvent, Phase};
use guest_init::proto::{Channel, Hello, Incoming, Reply, Request, Session, StreamId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::facts::ExecOutcome;

/// Output kept of one command and stream, in bytes; more is dropped and said so.
pub const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// Calls that may wait for the driver.
const QUEUE: usize = 64;
const RECONNECT: Duration = Duration::from_millis(50);

/// Why a call to the guest has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The session ended before the answer, or there is none.
    #[error("the guest's agent is not reachable")]
    Lost,
    /// The guest refused.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        kind: guest_init::proto::message::ErrorKind,
        /// The guest's sentence.
        message: String,
    },
    /// No answer in time.
    #[error("the guest did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// An answer to another question.
    #[error("the guest gave an answer of another kind")]
    WrongReply,
}

/// What the driver tells the supervisor.
#[derive(Debug)]
pub enum AgentEvent {
    /// A session was opened.
    Hello(Hello),
    /// Something happened in the guest; acknowledged once `stored` is used or dropped.
    Event {
        /// What.
        event: NumberedEvent,
        /// Answered when the event is stored.
        stored: oneshot::Sender<()>,
    },
    /// The guest's first process crashed.
    Panic(String),
}

enum Call {
    Plain {
        request: Request,
        answer: oneshot::Sender<Result<Reply, AgentError>>,
    },
    Exec {
        exec: Exec,
        stdin: Option<Bytes>,
        answer: oneshot::Sender<Result<ExecOutcome, AgentError>>,
    },
}

/// Handle to the driver.
#[derive(Clone, Debug)]
pub struct Agent {
    calls: mpsc::Sender<Call>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Exec { .. } => "Exec",
        })
    }
}

impl Agent {
    /// Starts the driver on a socket of QEMU. It reconnects until `over` is cancelled; calls that wait then are
    /// told that the guest is lost.
    pub fn start(
        socket: &Path,
        events: mpsc::Sender<AgentEvent>,
        over: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<Option<()>>) {
        let (calls, queue) = mpsc::channel(QUEUE);
        let driving = over.run_until_cancelled_owned(drive(socket.to_path_buf(), queue, events));
        (Self { calls }, daemon::spawn("agent", driving))
    }

    /// Sends a request and waits for its final answer.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn call(&self, request: Request, limit: Duration) -> Result<Reply, AgentError> {
        let (answer, answered) = oneshot::channel();
        let work = async {
            self.calls
                .send(Call::Plain { request, answer })
                .await
                .map_err(|_| AgentError::Lost)?;
            answered.await.map_err(|_| AgentError::Lost)?
        };
        match tokio::time::timeout(limit, work)
            .await
            .map_err(|_| AgentError::Timeout { limit })??
        {
            Reply::Error { kind, message } => Err(AgentError::Refused { kind, message }),
            reply => Ok(reply),
        }
    }

    /// Runs a command to its end. The guest keeps the deadline; `limit` is for a guest that does not.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn exec(
        &self,
        exec: Exec,
        stdin: Option<Bytes>,
        limit: Duration,
    ) -> Result<ExecOutcome, AgentError> {
        let (answer, answered) = oneshot::channel();
        let work = async {
            self.calls
                .send(Call::Exec { exec, stdin, answer })
                .await
                .map_err(|_| AgentError::Lost)?;
            answered.await.map_err(|_| AgentError::Lost)?
        };
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| AgentError::Timeout { limit })?
    }
}

/// Commands under way in one session. Dropping it tells the askers that the session is lost.
#[derive(Default)]
struct Pending {
    plain: HashMap<u32, oneshot::Sender<Result<Reply, AgentError>>>,
    execs: HashMap<u32, Running>,
}

struct Running {
    answer: oneshot::Sender<Result<ExecOutcome, AgentError>>,
    stdin: Bytes,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

async fn drive(socket: PathBuf, mut queue: mpsc::Receiver<Call>, events: mpsc::Sender<AgentEvent>) {
    let mut last_event = 0;
    loop {
        let stream = match UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(_) if queue.is_closed() => return,
            Err(_) => {
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
        };
        let mut link = Link {
            session: Session::host(),
            pending: Pending::default(),
            events: &events,
            last_event,
        };
        link.session.open(&daemon::random::hex(16), link.last_event);
        let over = link.run(stream, &mut queue).await;
        last_event = link.last_event;
        if over {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

struct Link<'a> {
    session: Session,
    pending: Pending,
    events: &'a mpsc::Sender<AgentEvent>,
    last_event: u64,
}

impl Link<'_> {
    /// Runs until the connection breaks (false) or nobody holds a handle any more (true).
    async fn run(&mut self, stream: UnixStream, queue: &mut mpsc::Receiver<Call>) -> bool {
        let (mut reader, mut writer) = stream.into_split();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(count) => {
                        self.session.receive(&buffer[..count]);
                        if self.take_all().await.is_err() {
                            // Broken: a new session on the same connection.
                            self.pending = Pending::default();
                            self.session.open(&daemon::random::hex(16), self.last_event);
                        }
                    }
                },
                written = writer.write(self.session.outgoing()), if !self.session.outgoing().is_empty() => match written {
                    Ok(0) | Err(_) => return false,
                    Ok(count) => self.session.sent(count),
                },
                call = queue.recv(), if self.session.is_open() => match call {
                    None => return true,
                    Some(call) => self.begin(call),
                },
            }
        }
    }

    fn begin(&mut self, call: Call) {
        match call {
            Call::Plain { request, answer } => match self.session.request(&request) {
                Ok(number) => drop(self.pending.plain.insert(number, answer)),
                Err(_too_long) => drop(answer.send(Err(AgentError::WrongReply))),
            },
            Call::Exec {
                mut exec,
                stdin,
                answer,
            } => {
                exec.stdin = stdin.is_some();
                let Ok(number) = self.session.request(&Request::Exec(exec)) else {
                    drop(answer.send(Err(AgentError::WrongReply)));
                    return;
                };
                let running = Running {
                    answer,
                    stdin: stdin.unwrap_or_default(),
                    stdout: Vec::new(),
                    stderr: Vec::new(),
                    truncated: false,
                };
                self.pending.execs.insert(number, running);
            }
        }
    }

    /// Sends what of the standard input has credit.
    fn feed(&mut self, number: u32) {
        let Some(running) = self.pending.execs.get_mut(&number) else {
            return;
        };
        let stream = StreamId::new(number, Channel::Stdin);
        let sent = self.session.send(stream, &running.stdin);
        running.stdin = running.stdin.slice(sent..);
        if running.stdin.is_empty() {
            self.session.send_end(stream);
        }
    }

    async fn take_all(&mut self) -> Result<(), guest_init::proto::SessionError> {
        while let Some(incoming) = self.session.next()? {
            match incoming {
                Incoming::Hello(hello) => self.tell(AgentEvent::Hello(hello)).await,
                Incoming::Reply { call, reply } => self.reply(call, reply),
                Incoming::Event(event) => self.event(event).await,
                Incoming::Data { stream, bytes } => self.data(stream, &bytes),
                Incoming::Writable(stream) => self.feed(stream.call()),
                Incoming::Panic(text) => self.tell(AgentEvent::Panic(text)).await,
                Incoming::End(_)
                | Incoming::HostHello(_)
                | Incoming::Request { .. }
                | Incoming::Ack(_)
                | Incoming::Cancel(_) => {}
            }
        }
        Ok(())
    }

    async fn tell(&self, event: AgentEvent) {
        // The supervisor is gone at the end only.
        let _gone = self.events.send(event).await;
    }

    async fn event(&mut self, event: NumberedEvent) {
        let seq = event.seq;
        if seq != 0 && seq <= self.last_event {
            self.session.ack(seq);
            return;
        }
        let (stored, when_stored) = oneshot::channel();
        self.tell(AgentEvent::Event { event, stored }).await;
        if seq != 0 && when_stored.await.is_ok() {
            self.last_event = seq;
            self.session.ack(seq);
        }
    }

    fn data(&mut self, stream: StreamId, bytes: &Bytes) {
        if let Some(running) = self.pending.execs.get_mut(&stream.call()) {
            let kept = match stream.channel() {
                Channel::Stdout => &mut running.stdout,
                Channel::Stderr => &mut running.stderr,
                Channel::Stdin | Channel::Control => return,
            };
            let room = OUTPUT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            running.truncated |= bytes.len() > room;
        }
        self.session.consumed(stream, bytes.len());
    }

    fn reply(&mut self, call: u32, reply: Reply) {
        if !reply.is_final() {
            // Only now does the command have an input to write to.
            self.feed(call);
            return;
        }
        self.session.forget(call);
        if let Some(answer) = self.pending.plain.remove(&call) {
            let _gone = answer.send(Ok(reply));
        } else if let Some(running) = self.pending.execs.remove(&call) {
            let outcome = match reply {
                Reply::ExecExit(ExecExit {
                    code,
                    signal,
                    timed_out,
                }) => Ok(ExecOutcome {
                    exit_code: code,
                    exit_signal: signal,
                    timed_out,
                    stdout: String::from_utf8_lossy(&running.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&running.stderr).into_owned(),
                    truncated: running.truncated,
                }),
                Reply::Error { kind, message } => Err(AgentError::Refused { kind, message }),
                Reply::Done | Reply::ExecStarted { .. } | Reply::Grown { .. } | Reply::Usage(_) => {
                    Err(AgentError::WrongReply)
                }
            };
            let _gone = running.answer.send(outcome);
        }
    }
}

/// Whether a guest in this phase still waits for its configuration.
#[must_use]
pub fn wants_config(hello: &Hello) -> bool {
    hello.phase == Phase::Waiting
}
