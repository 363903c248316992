//! PURE. One connection, seen from the client's side.

mod handshake;
mod replies;
#[cfg(test)]
mod tests;

use std::mem;

use bytes::Bytes;

use crate::{
    Errno, Head, Span,
    fields::{Fields, gather},
    wire::{CHUNK_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, command, flag},
};
use handshake::Handshake;
use replies::{Chunk, Pending, Told};

/// What a client asks for. Lengths are at most [`PAYLOAD_BYTES_MAX`](crate::PAYLOAD_BYTES_MAX) for reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The bytes of a span.
    Read(Span),
    /// New bytes for a span, which follow the request.
    Write(Span),
    /// Zeros for a span.
    Zero {
        /// Where.
        span: Span,
        /// Whether the span must keep its room.
        no_hole: bool,
    },
    /// What was answered before is to be durable.
    Flush,
}

/// What a driver is told.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Heard {
    /// These bytes are to be sent.
    Send(Bytes),
    /// The export is open; requests may be sent.
    Opened {
        /// Its size in bytes.
        bytes: u64,
        /// Whether nothing can be changed.
        read_only: bool,
        /// What offsets and lengths are a multiple of, in bytes.
        minimum_block: u32,
    },
    /// The connection's next bytes are part of what a read asked for: see [`Client::payload`].
    Data {
        /// The read.
        cookie: u64,
        /// Where they stand in its span.
        at: u32,
        /// How many.
        bytes: u32,
    },
    /// This part of what a read asked for is zeros.
    Zeros {
        /// The read.
        cookie: u64,
        /// Where they stand in its span.
        at: u32,
        /// How many.
        bytes: u32,
    },
    /// A request has been answered; of a read, every byte was told before.
    Answered {
        /// Which.
        cookie: u64,
        /// How it ended.
        result: Result<(), Errno>,
    },
}

/// Why a conversation cannot go on. The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What greets is no server of the fixed newstyle.
    #[error("the other side is no NBD server of the fixed newstyle")]
    Greeting,
    /// An answer to an option that does not belong to it.
    #[error("the server's answer to an option makes no sense")]
    Negotiation,
    /// The export is not served, or not to us.
    #[error("the server refuses the export (answer {0:#x})")]
    Refused(u32),
    /// A reply that does not begin as replies do.
    #[error("a reply begins with {0:#010x}")]
    ReplyMagic(u32),
    /// A reply to nothing that was asked.
    #[error("a reply to request {0}, which is not under way")]
    UnknownCookie(u64),
    /// A reply of another form than the request's, or with a length that cannot be.
    #[error("a malformed reply to request {0}")]
    Malformed(u64),
    /// Data outside of what was asked for, or told before, or not all of it.
    #[error("the reply to read {0} does not make up what was asked for")]
    Coverage(u64),
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    Reply,
    Simple,
    Chunk,
    ChunkBody(Chunk),
    Payload { left: u32, then: Option<Heard> },
    Ended,
}

/// One connection.
///
/// The driver hands over what it receives until [`receive`](Client::receive) has nothing more to tell, and sends what it is
/// given to send. Once the export is open it sends requests that [`ask`](Client::ask) makes. Block status is not asked for.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    structured: bool,
    held: Vec<u8>,
    pending: Pending,
}

impl Client {
    /// Begins a session that opens the export `name`; the empty name means the server's own choice.
    pub fn new(name: &str) -> Self {
        Self {
            phase: Phase::Handshake(Handshake::new(name)),
            structured: false,
            held: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// Makes a request under a number that no request under way has; the bytes of a write follow it.
    ///
    /// # Panics
    ///
    /// When the number is in use.
    pub fn ask(&mut self, cookie: u64, ask: Ask) -> Head {
        let none = Span { offset: 0, bytes: 0 };
        let (kind, flags, span) = match ask {
            Ask::Read(span) => (command::READ, 0, span),
            Ask::Write(span) => (command::WRITE, 0, span),
            Ask::Zero { span, no_hole } => {
                let flags = if no_hole { flag::NO_HOLE } else { 0 };
                (command::WRITE_ZEROES, flags, span)
            }
            Ask::Flush => (command::FLUSH, 0, none),
        };
        let read = matches!(ask, Ask::Read(_)).then_some(span);
        assert!(self.pending.begin(cookie, read), "a number for each request");
        Head::new()
            .with(REQUEST_MAGIC.to_be_bytes())
            .with(flags.to_be_bytes())
            .with(kind.to_be_bytes())
            .with(cookie.to_be_bytes())
            .with(span.offset.to_be_bytes())
            .with(span.bytes.to_be_bytes())
    }

    /// Makes the farewell: nothing is sent after it, and it is not answered.
    pub fn leave() -> Head {
        Head::new()
            .with(REQUEST_MAGIC.to_be_bytes())
            .with(0u16.to_be_bytes())
            .with(command::DISCONNECT.to_be_bytes())
            .with([0; 20])
    }

    /// Takes bytes off the front of `input` up to what is to be told next; `None` when it takes more bytes to go on, or
    /// when data is to be taken first. To be called until then, also with no input.
    ///
    /// # Errors
    ///
    /// When the conversation cannot go on; nothing is heard after that.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, ClientError> {
        loop {
            match mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Handshake(mut handshake) => {
                    let heard = handshake.receive(&mut self.held, input)?;
                    if let Some(Heard::Opened { .. }) = heard {
                        self.structured = handshake.structured();
                        self.phase = Phase::Reply;
                    } else {
                        self.phase = Phase::Handshake(handshake);
                    }
                    return Ok(heard);
                }
                Phase::Reply => {
                    self.phase = Phase::Reply;
                    if !gather(&mut self.held, input, 4) {
                        return Ok(None);
                    }
                    let magic = Fields::new(&self.held).u32().unwrap_or_default();
                    self.phase = match magic {
                        SIMPLE_REPLY_MAGIC => Phase::Simple,
                        CHUNK_MAGIC if self.structured => Phase::Chunk,
                        magic => return self.fail(ClientError::ReplyMagic(magic)),
                    };
                }
                Phase::Simple => {
                    self.phase = Phase::Simple;
                    if !gather(&mut self.held, input, 16) {
                        return Ok(None);
                    }
                    let told = self.pending.simple(&self.held, self.structured);
                    self.held.clear();
                    return self.tell(told);
                }
                Phase::Chunk => {
                    self.phase = Phase::Chunk;
                    if !gather(&mut self.held, input, Chunk::HEAD_BYTES) {
                        return Ok(None);
                    }
                    let chunk = self.pending.chunk(&self.held);
                    self.held.clear();
                    match chunk {
                        Ok(chunk) => self.phase = Phase::ChunkBody(chunk),
                        Err(error) => return self.fail(error),
                    }
                }
                Phase::ChunkBody(chunk) => {
                    let bytes = chunk.fixed_bytes();
                    self.phase = Phase::ChunkBody(chunk);
                    if !gather(&mut self.held, input, bytes) {
                        return Ok(None);
                    }
                    let told = self.pending.body(chunk, &self.held);
                    self.held.clear();
                    let heard = self.tell(told)?;
                    if heard.is_some() {
                        return Ok(heard);
                    }
                }
                Phase::Payload { left, then } if left > 0 => {
                    self.phase = Phase::Payload { left, then };
                    return Ok(None);
                }
                Phase::Payload { then, .. } => {
                    self.phase = Phase::Reply;
                    if then.is_some() {
                        return Ok(then);
                    }
                }
                Phase::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Returns how many bytes of the last [`Heard::Data`] are still to come: the next that the connection brings.
    pub fn payload(&self) -> u32 {
        match self.phase {
            Phase::Payload { left, .. } => left,
            _ => 0,
        }
    }

    /// Hears that the driver took so many bytes of the data.
    ///
    /// # Panics
    ///
    /// When that is more than was to come.
    pub fn payload_taken(&mut self, bytes: u32) {
        let left = self.payload().checked_sub(bytes);
        let left = left.expect("a driver takes no more than the data");
        if let Phase::Payload { left: there, .. } = &mut self.phase {
            *there = left;
        }
    }

    fn fail<T>(&mut self, error: ClientError) -> Result<T, ClientError> {
        self.phase = Phase::Ended;
        Err(error)
    }

    fn tell(&mut self, told: Result<Told, ClientError>) -> Result<Option<Heard>, ClientError> {
        self.phase = Phase::Reply;
        match told {
            Ok(Told::Nothing) => Ok(None),
            Ok(Told::One(heard)) => Ok(Some(heard)),
            Ok(Told::Then(first, then)) => {
                let left = match first {
                    Heard::Data { bytes, .. } => bytes,
                    _ => 0,
                };
                self.phase = Phase::Payload { left, then };
                Ok(Some(first))
            }
            Err(error) => self.fail(error),
        }
    }
}
