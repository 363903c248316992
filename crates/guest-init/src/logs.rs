//! What the workload writes, on its way to the host.
//!
//! While a host listens, its credit holds the workload back: nothing is lost. While none does, the workload
//! must not hang: the newest [`KEPT_BYTES`] of each stream are kept, what is dropped is counted and told.

use std::cell::Cell;
use std::rc::Rc;

use guest_init::proto::{Event, Incoming, StreamId};

use crate::guest::Guest;
use crate::link::Link;
use crate::port::Port;
use crate::stream::Stream;

/// Most that is kept of a stream, in bytes.
const KEPT_BYTES: usize = 256 * 1024;

/// The log port.
#[derive(Debug)]
pub(crate) struct Logs {
    link: Rc<Link>,
    lost_bytes: Cell<u64>,
    open_streams: Cell<usize>,
    closed: tokio::sync::Notify,
}

impl Logs {
    /// Returns logs that wait for their host.
    pub(crate) fn new() -> Self {
        Self {
            link: Link::new(),
            lost_bytes: Cell::new(0),
            open_streams: Cell::new(0),
            closed: tokio::sync::Notify::new(),
        }
    }

    /// Drives the port for ever.
    pub(crate) async fn serve(&self, guest: &Guest, port: &Port) {
        let error = self
            .link
            .drive(port, |incoming| self.hear(guest, incoming.as_ref()))
            .await;
        crate::console::say(&format!("log port: {error}"));
    }

    fn hear(&self, guest: &Guest, incoming: Option<&Incoming>) {
        let Some(Incoming::HostHello(hello)) = incoming else {
            return;
        };
        if !self.link.accept(hello, guest.boot_id(), guest.phase()) {
            return;
        }
        self.link.speak(self.link.epoch(), |session| {
            session.open_sending(StreamId::LOG_STDOUT);
            session.open_sending(StreamId::LOG_STDERR);
        });
        let bytes = self.lost_bytes.take();
        if bytes > 0 {
            guest.events.tell(Event::LogLost { bytes });
        }
    }

    /// Carries a stream of the workload until its end.
    pub(crate) async fn carry(&self, stream: StreamId, source: Stream) {
        self.open_streams.set(self.open_streams.get() + 1);
        let mut kept = Kept::default();
        let mut ended = false;
        while !(ended && kept.bytes.is_empty()) {
            let sent = self.link.send_some(self.link.epoch(), stream, &kept.bytes);
            kept.bytes.drain(..sent);
            let room = kept.bytes.len() + kept.buffer.len() <= KEPT_BYTES;
            let may_read = !ended && (room || !self.link.is_open());
            tokio::select! {
                read = source.read(&mut kept.buffer), if may_read => match read {
                    Ok(0) | Err(_) => ended = true,
                    Ok(count) => self.lost_bytes.set(self.lost_bytes.get() + kept.take(count)),
                },
                () = self.link.moved(), if !kept.bytes.is_empty() => {}
            }
        }
        self.link
            .speak(self.link.epoch(), |session| session.send_end(stream));
        self.open_streams.set(self.open_streams.get() - 1);
        self.closed.notify_waiters();
    }

    /// Waits until every stream has ended and everything is with the host.
    pub(crate) async fn drained(&self) {
        while self.open_streams.get() > 0 {
            self.closed.notified().await;
        }
        self.link.flushed().await;
    }
}

/// The end of a stream that is not sent yet.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
        }
    }
}

impl Kept {
    /// Adds the first `count` bytes of the buffer; returns how many older ones had to go.
    fn take(&mut self, count: usize) -> u64 {
        self.bytes.extend_from_slice(&self.buffer[..count]);
        let surplus = self.bytes.len().saturating_sub(KEPT_BYTES);
        self.bytes.drain(..surplus);
        surplus as u64
    }
}
