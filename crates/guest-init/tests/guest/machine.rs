//! A machine under QEMU with our kernel and initramfs, and the host's end of its ports.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use guest_init::proto::message::{Exec, ExecExit, Phase};
use guest_init::proto::{Channel, Event, Incoming, Reply, Request, Session, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::qemu::{Qemu, Spec};

/// Longest that a guest may take for anything here; generous, for shared and busy hosts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a sparse file of `mib` MiB.
pub(crate) fn sparse(dir: &Path, name: &str, mib: u64) -> PathBuf {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
    path
}

/// One port of a machine, from the host's side.
pub(crate) struct Wire {
    stream: UnixStream,
    pub(crate) session: Session,
    phase: Phase,
}

impl Wire {
    /// Connects and opens a session; waits for the guest's answer.
    pub(crate) async fn connect(socket: &Path, session_id: &str, events_after: u64) -> Self {
        let mut wire = Self {
            stream: UnixStream::connect(socket).await.unwrap(),
            session: Session::host(),
            phase: Phase::Waiting,
        };
        wire.session.open(session_id, events_after);
        loop {
            if let Incoming::Hello(hello) = wire.next().await.expect("the guest answers the hello") {
                assert_eq!(hello.session_id, session_id);
                wire.phase = hello.phase;
                return wire;
            }
        }
    }

    /// Returns what the guest says next; `None` when the machine is gone.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(incoming) = self.session.next().expect("the guest keeps to the protocol") {
                return Some(incoming);
            }
            while !self.session.outgoing().is_empty() {
                let count = self.stream.write(self.session.outgoing()).await.ok()?;
                self.session.sent(count);
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.session.receive(&buffer[..count]),
            }
        }
    }
}

/// A running machine.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
    spec: Spec,
    qemu: Qemu,
    pub(crate) agent: Wire,
    pub(crate) events: Vec<Event>,
    pub(crate) last_seq: u64,
    log: Rc<RefCell<Vec<u8>>>,
    logged: Rc<Notify>,
    logging: JoinHandle<()>,
}

impl Machine {
    /// Boots a machine and hands it its configuration.
    pub(crate) async fn start(spec: Spec) -> Self {
        let config = Box::new(spec.config.clone());
        let mut machine = Self::boot(spec).await;
        let reply = machine.call(Request::Config(config)).await;
        assert_eq!(reply, Reply::Done);
        machine
    }

    async fn boot(spec: Spec) -> Self {
        let dir = tempfile::tempdir().unwrap();
        sparse(dir.path(), "overlay", 512);
        let qemu = Qemu::launch(dir.path(), &spec, None).await;
        let agent = timeout(
            PATIENCE,
            Wire::connect(&dir.path().join("agent"), "agent session 1", 0),
        )
        .await;
        let agent = agent.unwrap_or_else(|_| panic!("no hello; console: {}", console(dir.path())));
        let (log, logged) = (Rc::default(), Rc::new(Notify::new()));
        let logging = Self::connect_log(dir.path(), "log session 1", &log, &logged).await;
        Self {
            dir,
            spec,
            qemu,
            agent,
            events: Vec::new(),
            last_seq: 0,
            log,
            logged,
            logging,
        }
    }

    async fn connect_log(
        dir: &Path,
        id: &str,
        log: &Rc<RefCell<Vec<u8>>>,
        logged: &Rc<Notify>,
    ) -> JoinHandle<()> {
        let wire = timeout(PATIENCE, Wire::connect(&dir.join("log"), id, 0))
            .await
            .expect("the log port answers");
        spawn_local(collect(wire, Rc::clone(log), Rc::clone(logged)))
    }

    /// Saves the machine's memory and ends QEMU.
    pub(crate) async fn suspend(&mut self) {
        assert_eq!(self.call(Request::PrepareSuspend).await, Reply::Done);
        self.qemu.save(&self.dir.path().join("ram")).await;
    }

    /// Goes on from the saved memory, with new sessions on both ports, and tells the guest so.
    pub(crate) async fn resume(&mut self, wall_clock_unix_ms: u64) {
        let ram = self.dir.path().join("ram");
        self.qemu = Qemu::launch(self.dir.path(), &self.spec, Some(&ram)).await;
        self.reconnect("agent session after resume").await;
        self.logging = Self::connect_log(self.dir.path(), "log session 2", &self.log, &self.logged).await;
        let resumed = Request::Resumed {
            wall_clock_unix_ms,
            entropy: "5a".repeat(32),
        };
        assert_eq!(self.call(resumed).await, Reply::Done);
    }

    /// Drops the log connection; what the workload writes is kept in the guest.
    pub(crate) async fn stop_listening(&mut self) {
        self.logging.abort();
        // Over means dropped, and with it the connection.
        let _ = (&mut self.logging).await;
    }

    /// Connects the log again.
    pub(crate) async fn listen_again(&mut self) {
        self.logging = Self::connect_log(self.dir.path(), "log session 2", &self.log, &self.logged).await;
    }

    /// Drops the agent connection and makes a new one; returns how far the guest says it is.
    pub(crate) async fn reconnect(&mut self, session_id: &str) -> Phase {
        let socket = self.dir.path().join("agent");
        // QEMU takes one connection at a time: the old one goes first.
        let (placeholder, _) = UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut self.agent.stream, placeholder));
        let connected = timeout(PATIENCE, Wire::connect(&socket, session_id, self.last_seq)).await;
        self.agent = connected.unwrap_or_else(|_| panic!("no hello; console: {}", console(self.dir.path())));
        self.agent.phase
    }

    /// Forgets the events so far.
    pub(crate) fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Waits until the workload has written this line.
    pub(crate) async fn said(&mut self, line: &str) {
        if timeout(PATIENCE, self.wait_for(line)).await.is_err() {
            panic!("never said {line:?}, but {:?}", self.log());
        }
    }

    async fn wait_for(&mut self, line: &str) {
        let logged = Rc::clone(&self.logged);
        while !self.log().lines().any(|found| found == line) {
            tokio::select! {
                next = self.next() => assert!(next.is_some(), "the machine ended; events {:?}", self.events),
                () = logged.notified() => {}
            }
        }
    }

    /// Waits for what the guest says next; keeps and acknowledges events.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        let next = timeout(PATIENCE, self.agent.next()).await;
        let next = next
            .unwrap_or_else(|_| panic!("silence; events {:?}; {}", self.events, console(self.dir.path())));
        if let Some(Incoming::Event(numbered)) = &next
            && numbered.seq > 0
        {
            assert_eq!(numbered.seq, self.last_seq + 1, "events come in order, once");
            self.last_seq = numbered.seq;
            self.events.push(numbered.event.clone());
            self.agent.session.ack(numbered.seq);
        }
        next
    }

    /// Waits for an event that `wanted` accepts, among those that came already or that come.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(event) = self.events.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            assert!(
                self.next().await.is_some(),
                "the machine ended; events {:?}",
                self.events
            );
        }
    }

    /// Waits until the workload runs.
    pub(crate) async fn started(&mut self) {
        self.event(|event| {
            assert!(!matches!(event, Event::Failed { .. }), "{event:?}");
            matches!(event, Event::Started { .. })
        })
        .await;
    }

    /// Sends a request and waits for its final reply.
    pub(crate) async fn call(&mut self, request: Request) -> Reply {
        let call = self.agent.session.request(&request).unwrap();
        timeout(PATIENCE, self.reply_to(call))
            .await
            .unwrap_or_else(|_| panic!("no reply to {request:?}"))
    }

    async fn reply_to(&mut self, wanted: u32) -> Reply {
        loop {
            match self.next().await {
                Some(Incoming::Reply { call, reply }) if call == wanted && reply.is_final() => return reply,
                Some(_) => {}
                None => panic!(
                    "the machine ended; events {:?}; {}",
                    self.events,
                    console(self.dir.path())
                ),
            }
        }
    }

    /// Runs a command to its end.
    pub(crate) async fn exec(&mut self, exec: Exec, stdin: &[u8]) -> Done {
        let shown = format!("{exec:?}");
        let done = timeout(PATIENCE, self.exec_patiently(exec, stdin)).await;
        done.unwrap_or_else(|_| panic!("no end of {shown}"))
    }

    async fn exec_patiently(&mut self, exec: Exec, stdin: &[u8]) -> Done {
        let with_stdin = exec.stdin;
        let call = self.agent.session.request(&Request::Exec(exec)).unwrap();
        let mut rest = stdin;
        let mut done = Done::default();
        loop {
            let input = StreamId::new(call, Channel::Stdin);
            match self.next().await.expect("the machine runs") {
                Incoming::Reply {
                    reply: Reply::ExecStarted { .. },
                    ..
                } if with_stdin => {
                    rest = &rest[self.agent.session.send(input, rest)..];
                    if rest.is_empty() {
                        self.agent.session.send_end(input);
                    }
                }
                Incoming::Writable(_) => {
                    rest = &rest[self.agent.session.send(input, rest)..];
                    if rest.is_empty() {
                        self.agent.session.send_end(input);
                    }
                }
                Incoming::Data { stream, bytes } => {
                    self.agent.session.consumed(stream, bytes.len());
                    match stream.channel() {
                        Channel::Stderr => done.stderr.extend_from_slice(&bytes),
                        _ => done.stdout.extend_from_slice(&bytes),
                    }
                }
                Incoming::End(_) => done.ends += 1,
                Incoming::Reply {
                    reply: Reply::ExecExit(exit),
                    ..
                } => {
                    done.exit = Some(exit);
                    return done;
                }
                Incoming::Reply {
                    reply: Reply::Error { kind, message },
                    ..
                } => {
                    done.error = Some((kind, message));
                    return done;
                }
                _ => {}
            }
        }
    }

    /// Runs a shell script, which must succeed, and returns what it printed.
    pub(crate) async fn sh(&mut self, script: &str) -> String {
        let done = self.exec(sh(script), b"").await;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        let code = done.exit.and_then(|exit| exit.code);
        assert_eq!(
            code,
            Some(0),
            "{script}: {text} {} {:?}",
            String::from_utf8_lossy(&done.stderr),
            done.error
        );
        text
    }

    /// Waits until the machine is off; returns its last words and the workload's output.
    pub(crate) async fn off(mut self) -> (Vec<Event>, String) {
        while self.next().await.is_some() {}
        self.qemu.ended().await;
        timeout(PATIENCE, &mut self.logging)
            .await
            .expect("the log ends")
            .unwrap();
        let log = String::from_utf8_lossy(&self.log.borrow()).into_owned();
        (self.events, log)
    }

    /// Returns what the workload wrote so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.borrow()).into_owned()
    }

    /// Asks QEMU and requires success.
    pub(crate) async fn qmp(&mut self, command: &str, arguments: &str) {
        self.qemu.ask(command, arguments).await;
    }
}

/// How a command went.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// How many output streams had ended when the exit came.
    pub(crate) ends: usize,
    pub(crate) exit: Option<ExecExit>,
    pub(crate) error: Option<(guest_init::proto::message::ErrorKind, String)>,
}

/// Returns the command that runs a script.
pub(crate) fn sh(script: &str) -> Exec {
    Exec {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        ..Exec::default()
    }
}

async fn collect(mut wire: Wire, log: Rc<RefCell<Vec<u8>>>, logged: Rc<Notify>) {
    wire.session.open_receiving(StreamId::LOG_STDOUT);
    wire.session.open_receiving(StreamId::LOG_STDERR);
    while let Some(incoming) = wire.next().await {
        if let Incoming::Data { stream, bytes } = incoming {
            log.borrow_mut().extend_from_slice(&bytes);
            wire.session.consumed(stream, bytes.len());
            logged.notify_one();
        }
    }
}

pub(crate) fn console(dir: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(dir.join("console")).unwrap_or_default()).into_owned()
}
