//! A session on a port, shared by the tasks that speak through it.
//!
//! One task drives the port; others queue what they have to say and wait for credit. All run on one thread,
//! so the session is borrowed for the length of a call and never across an await.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use guest_init::proto::{Event, HostHello, Incoming, Reply, Session, StreamId, message::Phase};

use crate::port::{Port, Read};

/// A session on a port.
#[derive(Debug)]
pub(crate) struct Link {
    session: RefCell<Session>,
    /// Counts sessions: what a task started for one session must not speak in the next.
    epoch: Cell<u64>,
    /// Something was queued for the driver.
    queued: Notify,
    /// Credit came, or the session changed.
    moved: Notify,
    /// Everything queued was handed to the port.
    drained: Notify,
}

impl Link {
    /// Returns a link that waits for its host.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            session: RefCell::new(Session::guest()),
            epoch: Cell::new(0),
            queued: Notify::new(),
            moved: Notify::new(),
            drained: Notify::new(),
        })
    }

    /// Returns the current session's number.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Returns whether a host listens.
    pub(crate) fn is_open(&self) -> bool {
        self.session.borrow().is_open()
    }

    /// Answers a host's hello; the new session is open if this returns true.
    pub(crate) fn accept(&self, hello: &HostHello, boot_id: &str, phase: Phase) -> bool {
        let open = self.session.borrow_mut().accept(hello, boot_id, phase);
        self.queued.notify_one();
        open
    }

    /// Calls `speak` on the session if it is still that of `epoch`, and has the driver send what it queued.
    pub(crate) fn speak(&self, epoch: u64, speak: impl FnOnce(&mut Session)) {
        if epoch == self.epoch.get() {
            speak(&mut self.session.borrow_mut());
            self.queued.notify_one();
        }
    }

    /// Queues an answer.
    pub(crate) fn reply(&self, epoch: u64, call: u32, reply: &Reply) {
        self.speak(epoch, |session| session.reply(call, reply));
    }

    /// Queues an event for the current session, if there is one.
    pub(crate) fn event(&self, seq: u64, event: &Event) {
        self.speak(self.epoch(), |session| session.event(seq, event));
    }

    /// Queues what has credit; returns how much.
    pub(crate) fn send_some(&self, epoch: u64, stream: StreamId, bytes: &[u8]) -> usize {
        let mut count = 0;
        self.speak(epoch, |session| count = session.send(stream, bytes));
        count
    }

    /// Queues all of `bytes`, waiting for credit; returns false when the session is over.
    pub(crate) async fn send_all(&self, epoch: u64, stream: StreamId, mut bytes: &[u8]) -> bool {
        while epoch == self.epoch() {
            let count = self.send_some(epoch, stream, bytes);
            bytes = &bytes[count..];
            if bytes.is_empty() {
                return true;
            }
            self.moved.notified().await;
        }
        false
    }

    /// Waits until credit may have come or the session may have changed.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Moves bytes between `port` and the session for ever; gives what the host says to `hear`, and `None`
    /// when it has gone.
    pub(crate) async fn drive(&self, port: &Port, mut hear: impl FnMut(Option<Incoming>)) -> io::Error {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.turn(port, &mut buffer, &mut hear) {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => tokio::select! {
                    () = self.queued.notified() => {}
                    changed = port.changed() => if let Err(error) = changed { return error },
                },
                Err(error) => return error,
            }
        }
    }

    /// Reads once and writes once; returns whether anything moved.
    fn turn(
        &self,
        port: &Port,
        buffer: &mut [u8],
        hear: &mut impl FnMut(Option<Incoming>),
    ) -> io::Result<bool> {
        let received = port.read(buffer)?;
        match received {
            Read::Bytes(count) => {
                self.session.borrow_mut().receive(&buffer[..count]);
                self.listen(hear);
            }
            Read::Disconnected if self.is_open() => {
                self.session.borrow_mut().close();
                self.begin_epoch();
                hear(None);
            }
            Read::Disconnected | Read::Nothing => {}
        }
        let mut session = self.session.borrow_mut();
        let sent = match session.outgoing() {
            [] => 0,
            bytes => port.write(bytes)?,
        };
        session.sent(sent);
        if session.outgoing().is_empty() {
            self.drained.notify_waiters();
        }
        Ok(matches!(received, Read::Bytes(_)) || sent > 0)
    }

    fn listen(&self, hear: &mut impl FnMut(Option<Incoming>)) {
        loop {
            let next = self.session.borrow_mut().next();
            match next {
                Ok(None) => return,
                Ok(Some(incoming)) => {
                    if matches!(incoming, Incoming::HostHello(_)) {
                        self.begin_epoch();
                    }
                    if matches!(incoming, Incoming::Writable(_)) {
                        self.moved.notify_waiters();
                    }
                    hear(Some(incoming));
                }
                Err(error) => {
                    crate::console::say(&format!("session broken: {error}; waiting for a new one"));
                    self.begin_epoch();
                    hear(None);
                }
            }
        }
    }

    /// What was started for the former session must not speak any more.
    fn begin_epoch(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.moved.notify_waiters();
    }

    /// Waits until everything queued is handed to the port, or the session is over.
    pub(crate) async fn flushed(&self) {
        while self.is_open() && !self.session.borrow().outgoing().is_empty() {
            self.drained.notified().await;
        }
    }
}
