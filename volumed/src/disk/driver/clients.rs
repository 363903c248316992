//! The export's clients: NBD sessions on the driver's own ring.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use log_disk::{BLOCK_BYTES, Lba, Outcome, Request};
use nbd::{BlockSizes, Closed, Errno, Event, Export, Extent, Server, Span, Status, Ticket};
use rustix::net::Shutdown;
use tracing::{info, warn};

use super::{Driver, Tag, Waiter, room};
use crate::disk::clock;
use crate::disk::metrics::Kind;
use crate::disk::sys::Held;

/// Bytes received at once.
const ROOM_BYTES: usize = 256 << 10;
/// The rest of a write that is at least so long is received where it is to stand.
const STRAIGHT_BYTES_MIN: usize = 16 << 10;
/// Requests of one client under way; the rest waits in its socket.
const REQUESTS_MAX: usize = 512;
/// Bytes of one client's requests and answers under way.
const BYTES_MAX: usize = 64 << 20;
/// Buffers sent at once.
const PARTS_MAX: usize = 512;
/// Clients at once.
const CLIENTS_MAX: usize = 64;
/// Blocks of the map that one question about it is answered for; whoever asked goes on from there.
const STATUS_BLOCKS_MAX: u64 = 64 << 10;

/// A client's number, never used again.
pub(super) type ClientId = u64;

/// A request as its answer needs it.
#[derive(Debug)]
pub(super) enum Asked {
    Read(nbd::Read),
    /// Anything that is answered without data.
    Plain {
        ticket: Ticket,
        kind: Kind,
        bytes: usize,
    },
    /// Where there is data: blocks, and whether they hold any.
    Status {
        status: Status,
        map: Vec<(u64, bool)>,
    },
}

impl Asked {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::Read,
            Self::Plain { kind, .. } => *kind,
            Self::Status { .. } => Kind::Status,
        }
    }

    /// The bytes that it holds on to while it runs.
    fn bytes(&self) -> usize {
        match self {
            Self::Read(read) => read.span().bytes as usize,
            Self::Plain { bytes, .. } => *bytes,
            Self::Status { .. } => 0,
        }
    }
}

/// A write whose data is still coming.
#[derive(Debug)]
struct Payload {
    span: Span,
    fua: bool,
    ticket: Ticket,
    data: Vec<u8>,
    have: usize,
}

/// One connection.
#[derive(Debug)]
struct Client {
    socket: Arc<OwnedFd>,
    session: Server,
    room: Vec<u8>,
    /// What was received and not looked at.
    filled: Range<usize>,
    payload: Option<Payload>,
    receiving: Receiving,
    answers: Vec<Bytes>,
    /// Bytes of answers, those being sent included.
    unsent: usize,
    sending: bool,
    requests: usize,
    request_bytes: usize,
    leaving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Nothing,
    Requests,
    Payload,
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        let mut client = Self {
            socket: Arc::new(socket),
            session: Server::new(),
            room: vec![0; ROOM_BYTES],
            filled: 0..0,
            payload: None,
            receiving: Receiving::Nothing,
            answers: Vec::new(),
            unsent: 0,
            sending: false,
            requests: 0,
            request_bytes: 0,
            leaving: false,
        };
        client.tell(Bytes::copy_from_slice(&Server::greeting()));
        client
    }

    fn tell(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.unsent += bytes.len();
            self.answers.push(bytes);
        }
    }

    fn is_full(&self) -> bool {
        self.requests >= REQUESTS_MAX || self.request_bytes + self.unsent >= BYTES_MAX
    }

    /// Returns the next request that is whole.
    fn next(&mut self, exports: &[Export]) -> Option<(Request, Asked)> {
        loop {
            if self.leaving || self.receiving == Receiving::Payload {
                return None;
            }
            if let Some(payload) = &mut self.payload {
                let len = self.filled.len().min(payload.data.len() - payload.have);
                let from = self.filled.start;
                payload.data[payload.have..payload.have + len].copy_from_slice(&self.room[from..from + len]);
                self.filled.start += len;
                payload.have += len;
                self.session.payload_taken(u32::try_from(len).unwrap_or(u32::MAX));
                if payload.have < payload.data.len() {
                    return None;
                }
                return self.payload.take().map(written);
            }
            if self.is_full() {
                return None;
            }
            let mut input = &self.room[self.filled.clone()];
            let event = self.session.receive(exports, &mut input);
            self.filled.start = self.filled.end - input.len();
            match event? {
                Event::Send(bytes) => self.tell(bytes),
                Event::Opened(export) => info!(export = export.name, "client opened the export"),
                Event::Closed(closed) => {
                    self.leaving = true;
                    if let Closed::Violation(why) = closed {
                        warn!(why = %why, "client does not speak the protocol");
                    }
                }
                Event::Request(nbd::Request::Write { span, fua, ticket }) => {
                    self.payload = Some(Payload {
                        span,
                        fua,
                        ticket,
                        data: vec![0; span.bytes as usize],
                        have: 0,
                    });
                }
                Event::Request(nbd::Request::Cache { ticket, .. }) => {
                    // A hint: what is read is cached when it is read.
                    self.tell(Bytes::copy_from_slice(&ticket.done()));
                }
                Event::Request(request) => return Some(asked(request)),
            }
        }
    }
}

/// A whole write.
fn written(payload: Payload) -> (Request, Asked) {
    let Payload {
        span,
        fua,
        ticket,
        data,
        ..
    } = payload;
    let bytes = data.len();
    let request = Request::Write {
        lba: lba(span),
        data: Bytes::from(data),
        fua,
    };
    let kind = Kind::Write;
    (request, Asked::Plain { ticket, kind, bytes })
}

/// Any other request.
fn asked(request: nbd::Request) -> (Request, Asked) {
    match request {
        nbd::Request::Read(read) => {
            let (lba, blocks) = (lba(read.span()), blocks(read.span()));
            (Request::Read { lba, blocks }, Asked::Read(read))
        }
        nbd::Request::Zero {
            span, fua, ticket, ..
        }
        | nbd::Request::Trim { span, fua, ticket } => {
            let request = Request::Zero {
                lba: lba(span),
                blocks: blocks(span),
                fua,
            };
            let kind = Kind::Zero;
            let bytes = 0;
            (request, Asked::Plain { ticket, kind, bytes })
        }
        nbd::Request::Flush(ticket) => {
            let (kind, bytes) = (Kind::Flush, 0);
            (Request::Flush, Asked::Plain { ticket, kind, bytes })
        }
        nbd::Request::Status(status) => {
            let request = Request::Read {
                lba: lba(status.span()),
                blocks: blocks(status.span()).min(STATUS_BLOCKS_MAX),
            };
            let map = Vec::new();
            (request, Asked::Status { status, map })
        }
        nbd::Request::Write { .. } | nbd::Request::Cache { .. } => unreachable!("seen to before"),
    }
}

fn lba(span: Span) -> Lba {
    Lba(span.offset / BLOCK_BYTES as u64)
}

fn blocks(span: Span) -> u64 {
    u64::from(span.bytes) / BLOCK_BYTES as u64
}

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(super) struct Clients {
    listener: Option<Arc<OwnedFd>>,
    exports: Vec<Export>,
    clients: HashMap<ClientId, Client>,
    next: ClientId,
}

impl Clients {
    pub(super) fn listen(&mut self, listener: OwnedFd, name: &str, size_blocks: u64) {
        let mut export = Export::new(name, size_blocks * BLOCK_BYTES as u64);
        // One journal: a flush makes durable what was answered on any connection.
        export.multi_conn = true;
        export.fast_zero = true;
        let unit = u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX);
        if let Ok(blocks) = BlockSizes::new(unit, unit) {
            export.blocks = blocks;
        }
        self.exports = vec![export];
        self.listener = Some(Arc::new(listener));
    }

    /// Tells the size to those who come from now on.
    pub(super) fn resize(&mut self, size_blocks: u64) {
        for export in &mut self.exports {
            export.bytes = size_blocks * BLOCK_BYTES as u64;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    /// Lets nobody in any more, and takes no request of those who are; returns who they are.
    pub(super) fn close(&mut self) -> Vec<ClientId> {
        self.listener = None;
        for client in self.clients.values_mut() {
            client.leaving = true;
        }
        self.clients.keys().copied().collect()
    }

    /// Says whether everybody has got their answers.
    pub(super) fn are_told(&self) -> bool {
        self.clients.values().all(|client| client.unsent == 0)
    }

    fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            // Ends what the ring still does with it; a socket whose other end is gone says so, which changes nothing.
            let _gone = rustix::net::shutdown(&client.socket, Shutdown::Both);
        }
    }
}

impl Driver {
    /// Waits for the next client.
    pub(super) fn accept(&mut self) {
        if let Some(listener) = &self.clients.listener {
            self.ring.accept(Tag::Accept, listener);
        }
    }

    pub(super) fn accepted(&mut self, result: &io::Result<usize>, held: Held) {
        if let Err(error) = result {
            warn!(error = %error, "nobody was accepted");
        }
        if let Held::Socket(socket) = held
            && self.clients.listener.is_some()
            && self.clients.count() < CLIENTS_MAX
        {
            let id = self.clients.next;
            self.clients.next += 1;
            self.clients.clients.insert(id, Client::new(socket));
            self.busy.push(id);
        }
        self.accept();
    }

    pub(super) fn received(&mut self, id: ClientId, result: io::Result<usize>, held: Held) {
        let Some(client) = self.clients.clients.get_mut(&id) else {
            return;
        };
        let into = std::mem::replace(&mut client.receiving, Receiving::Nothing);
        let bytes = match result {
            Ok(bytes) if bytes > 0 => bytes,
            // It has hung up: nobody is there to be told of what is under way.
            Ok(_) | Err(_) => return self.clients.remove(id),
        };
        match (into, &mut client.payload) {
            (Receiving::Payload, Some(payload)) => {
                payload.data = room(held);
                payload.have += bytes;
                client
                    .session
                    .payload_taken(u32::try_from(bytes).unwrap_or(u32::MAX));
            }
            (Receiving::Payload | Receiving::Requests | Receiving::Nothing, _) => {
                client.room = room(held);
                client.filled = 0..bytes;
            }
        }
        self.busy.push(id);
    }

    pub(super) fn sent(&mut self, id: ClientId, result: io::Result<usize>, held: &Held) {
        let Held::Message(message) = held else { return };
        let Some(client) = self.clients.clients.get_mut(&id) else {
            return;
        };
        client.sending = false;
        client.unsent -= message.len();
        match result {
            Ok(bytes) if bytes == message.len() => self.busy.push(id),
            Ok(_) | Err(_) => self.clients.remove(id),
        }
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, id: ClientId, asked: Asked, outcome: Outcome, data: Option<Bytes>) {
        let Some(client) = self.clients.clients.get_mut(&id) else {
            return;
        };
        client.requests -= 1;
        client.request_bytes -= asked.bytes();
        let errno = match outcome {
            Outcome::Done => None,
            Outcome::Failed => Some(Errno::Io),
            Outcome::Refused => Some(Errno::Inval),
        };
        match (asked, errno) {
            (Asked::Read(read), None) => {
                let data = data.unwrap_or_default();
                assert!(
                    data.len() == read.span().bytes as usize,
                    "{} bytes read of {}",
                    data.len(),
                    read.span().bytes
                );
                client.tell(Bytes::copy_from_slice(&read.whole()));
                client.tell(data);
            }
            (Asked::Read(read), Some(errno)) => client.tell(Bytes::copy_from_slice(&read.fail(errno))),
            (Asked::Plain { ticket, .. }, None) => client.tell(Bytes::copy_from_slice(&ticket.done())),
            (Asked::Plain { ticket, .. }, Some(errno)) => {
                client.tell(Bytes::copy_from_slice(&ticket.fail(errno)));
            }
            (Asked::Status { status, map }, None) => {
                let extents = map.into_iter().map(|(blocks, data)| Extent {
                    bytes: blocks * BLOCK_BYTES as u64,
                    hole: !data,
                    zero: !data,
                });
                client.tell(status.answer(extents));
            }
            (Asked::Status { status, .. }, Some(errno)) => {
                client.tell(Bytes::copy_from_slice(&status.fail(errno)));
            }
        }
        self.busy.push(id);
    }

    /// Does what there is to do for a client: takes its requests, sends its answers, receives more, lets it go.
    pub(super) fn tend(&mut self, id: ClientId) {
        loop {
            let Clients { exports, clients, .. } = &mut self.clients;
            let Some(client) = clients.get_mut(&id) else {
                return;
            };
            let Some((request, asked)) = client.next(exports) else {
                break;
            };
            if let Asked::Plain { bytes, .. } = &asked {
                self.metrics.written(*bytes);
            }
            client.requests += 1;
            client.request_bytes += asked.bytes();
            let since = clock::now();
            let waiter = Waiter::Client {
                client: id,
                asked,
                since,
            };
            self.ask(request, waiter);
        }
        let Some(client) = self.clients.clients.get_mut(&id) else {
            return;
        };
        if !client.sending && !client.answers.is_empty() {
            let count = client.answers.len().min(PARTS_MAX);
            let parts = client.answers.drain(..count).collect();
            client.sending = true;
            self.ring.send(Tag::Send(id), &client.socket, parts);
        }
        if client.leaving {
            if client.requests == 0 && client.unsent == 0 {
                self.clients.remove(id);
            }
            return;
        }
        if client.receiving != Receiving::Nothing || !client.filled.is_empty() || client.is_full() {
            return;
        }
        match &mut client.payload {
            Some(payload) if payload.data.len() - payload.have >= STRAIGHT_BYTES_MIN => {
                client.receiving = Receiving::Payload;
                client.filled = 0..0;
                let data = std::mem::take(&mut payload.data);
                self.ring
                    .receive(Tag::Receive(id), &client.socket, data, payload.have);
            }
            Some(_) | None => {
                client.receiving = Receiving::Requests;
                client.filled = 0..0;
                let room = std::mem::take(&mut client.room);
                self.ring.receive(Tag::Receive(id), &client.socket, room, 0);
            }
        }
    }
}
