//! PURE. One connection, seen from the server's side.

mod negotiation;
mod reply;
mod request;

pub use reply::{Extent, Part, Piece, Read, STATUS_EXTENTS_MAX, Status, Ticket};
pub use request::{Request, Span};

use std::mem;

use bytes::Bytes;

use crate::{
    Export,
    fields::{Fields, gather},
    wire::{
        GREETING_MAGIC, OPTION_BYTES_MAX, OPTION_MAGIC, PAYLOAD_BYTES_MAX, REQUEST_BYTES, answer, handshake,
    },
};
use negotiation::{Agreed, Next};
use request::{Header, Judged};

/// What a driver is told.
#[derive(Debug)]
#[must_use]
pub enum Event {
    /// These bytes are to be sent, after those of earlier events and not in the midst of an answer.
    Send(Bytes),
    /// The client has opened an export, as it is described here; requests follow.
    Opened(Export),
    /// A request to be answered. After a [`Request::Write`] its payload follows: see [`Server::payload`].
    Request(Request),
    /// Nothing more will come. What is under way is answered and sent, then the connection is closed; after a violation
    /// it may be closed at once.
    Closed(Closed),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client left after it had opened an export.
    Disconnected,
    /// The client left without opening one.
    Aborted,
    /// The client does not speak the protocol, or asked for what can only be refused by hanging up.
    Violation(Violation),
}

/// What a client did that leaves no way to answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Flags of the handshake that were not offered.
    #[error("handshake flags {0:#x} were not offered")]
    ClientFlags(u32),
    /// An option that does not begin as options do.
    #[error("an option begins with {0:#018x}")]
    OptionMagic(u64),
    /// An option whose answer the client would not understand, as it did not agree to the fixed newstyle.
    #[error("option {0} from a client of the old newstyle")]
    NotFixed(u32),
    /// `EXPORT_NAME` for something that is not served.
    #[error("an export was asked for by a name that is not served")]
    UnknownExport,
    /// A request that does not begin as requests do.
    #[error("a request begins with {0:#010x}")]
    RequestMagic(u32),
}

#[derive(Debug)]
enum Phase {
    ClientFlags,
    Option,
    OptionData { option: u32, bytes: u32 },
    SkippedOption { option: u32, left: u32, reply: u32 },
    Opening(Export),
    Request,
    Payload { left: u32 },
    SkippedPayload { left: u32, reply: Option<Bytes> },
    Closing(Closed),
    Ended,
}

/// One connection.
///
/// The driver sends [`greeting`](Server::greeting), then hands over what it receives until [`receive`](Server::receive) has
/// nothing more to tell. The session holds at most [`OPTION_BYTES_MAX`] bytes of one option while it is negotiated, and 27
/// bytes of one request afterwards.
#[derive(Debug)]
pub struct Server {
    phase: Phase,
    agreed: Agreed,
    /// The message that is not whole yet.
    held: Vec<u8>,
    export: Option<Export>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Begins a session.
    pub fn new() -> Self {
        Self {
            phase: Phase::ClientFlags,
            agreed: Agreed::default(),
            held: Vec::new(),
            export: None,
        }
    }

    /// Returns what is sent first, unasked.
    pub fn greeting() -> [u8; 18] {
        let mut greeting = [0; 18];
        greeting[..8].copy_from_slice(&GREETING_MAGIC.to_be_bytes());
        greeting[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        greeting[16..].copy_from_slice(&handshake::ALL.to_be_bytes());
        greeting
    }

    /// Takes bytes off the front of `input` up to what is to be told next; `None` when it takes more bytes to go on, or
    /// when a payload is to be taken first. To be called until then, also with no input.
    ///
    /// `exports` is what can be opened at this moment; no longer looked at once one was.
    pub fn receive(&mut self, exports: &[Export], input: &mut &[u8]) -> Option<Event> {
        loop {
            match mem::replace(&mut self.phase, Phase::Ended) {
                Phase::ClientFlags => self.client_flags(input)?,
                Phase::Option => self.option(input)?,
                Phase::OptionData { option, bytes } => {
                    self.phase = Phase::OptionData { option, bytes };
                    if !gather(&mut self.held, input, bytes as usize) {
                        return None;
                    }
                    return Some(self.option_data(option, exports));
                }
                Phase::SkippedOption { option, left, reply } => {
                    let left = skip(input, left);
                    if left > 0 {
                        self.phase = Phase::SkippedOption { option, left, reply };
                        return None;
                    }
                    self.phase = Phase::Option;
                    return Some(Event::Send(negotiation::refusal(option, reply)));
                }
                Phase::Opening(export) => {
                    self.export = Some(export.clone());
                    self.phase = Phase::Request;
                    return Some(Event::Opened(export));
                }
                Phase::Request => {
                    if let Some(event) = self.request(input)? {
                        return Some(event);
                    }
                }
                Phase::Payload { left } if left > 0 => {
                    self.phase = Phase::Payload { left };
                    return None;
                }
                Phase::Payload { .. } => self.phase = Phase::Request,
                Phase::SkippedPayload { left, reply } => {
                    let left = skip(input, left);
                    if left > 0 {
                        self.phase = Phase::SkippedPayload { left, reply };
                        return None;
                    }
                    self.phase = Phase::Request;
                    if let Some(reply) = reply {
                        return Some(Event::Send(reply));
                    }
                }
                Phase::Closing(closed) => return Some(Event::Closed(closed)),
                Phase::Ended => {
                    *input = &[];
                    return None;
                }
            }
        }
    }

    /// Returns how many bytes of the last write's payload are still to come: the next that the connection brings. The
    /// driver puts them where it wants them and says so to [`payload_taken`](Self::payload_taken).
    pub fn payload(&self) -> u32 {
        match self.phase {
            Phase::Payload { left } => left,
            _ => 0,
        }
    }

    /// Hears that the driver took so many bytes of the payload.
    ///
    /// # Panics
    ///
    /// When that is more than was to come.
    pub fn payload_taken(&mut self, bytes: u32) {
        let left = self.payload().checked_sub(bytes);
        let left = left.expect("a driver takes no more than the payload");
        if let Phase::Payload { left: there } = &mut self.phase {
            *there = left;
        }
    }

    /// Lets the rest of the payload pass unseen: the driver answers the write without it, with an error.
    pub fn skip_payload(&mut self) {
        if let Phase::Payload { left } = self.phase {
            self.phase = Phase::SkippedPayload { left, reply: None };
        }
    }

    /// Returns how many bytes the connection must bring before there can be anything new to tell, or for the payload to be
    /// whole; never 0 but after the end. A driver that receives no more than these never has to copy a payload.
    pub fn wanted(&self) -> usize {
        let whole = match &self.phase {
            Phase::ClientFlags => 4,
            Phase::Option => 16,
            Phase::OptionData { bytes, .. } => *bytes as usize,
            Phase::SkippedOption { left, .. } | Phase::SkippedPayload { left, .. } => return *left as usize,
            Phase::Payload { left } if *left > 0 => return *left as usize,
            Phase::Payload { .. } | Phase::Opening(_) | Phase::Request => REQUEST_BYTES,
            Phase::Closing(_) | Phase::Ended => return 0,
        };
        whole.saturating_sub(self.held.len())
    }

    fn close(&mut self, violation: Violation) {
        self.phase = Phase::Closing(Closed::Violation(violation));
    }

    /// Gathers a message of `N` bytes; stays in `phase` until it is whole.
    fn whole<const N: usize>(&mut self, input: &mut &[u8], phase: Phase) -> Option<[u8; N]> {
        let message = if self.held.is_empty()
            && let Some((message, rest)) = input.split_first_chunk()
        {
            *input = rest;
            Some(*message)
        } else if gather(&mut self.held, input, N) {
            let message = self.held.first_chunk().copied();
            self.held.clear();
            message
        } else {
            None
        };
        if message.is_none() {
            self.phase = phase;
        }
        message
    }

    fn client_flags(&mut self, input: &mut &[u8]) -> Option<()> {
        let flags = u32::from_be_bytes(self.whole(input, Phase::ClientFlags)?);
        if flags & !u32::from(handshake::ALL) != 0 {
            self.close(Violation::ClientFlags(flags));
            return Some(());
        }
        self.agreed.fixed = flags & u32::from(handshake::FIXED_NEWSTYLE) != 0;
        self.agreed.no_zeroes = flags & u32::from(handshake::NO_ZEROES) != 0;
        self.phase = Phase::Option;
        Some(())
    }

    fn option(&mut self, input: &mut &[u8]) -> Option<()> {
        let header: [u8; 16] = self.whole(input, Phase::Option)?;
        let mut fields = Fields::new(&header);
        let (magic, option, bytes) = (fields.u64()?, fields.u32()?, fields.u32()?);
        if magic != OPTION_MAGIC {
            self.close(Violation::OptionMagic(magic));
            return Some(());
        }
        if !self.agreed.allows(option) {
            self.close(Violation::NotFixed(option));
            return Some(());
        }
        self.phase = if bytes <= OPTION_BYTES_MAX {
            Phase::OptionData { option, bytes }
        } else {
            Phase::SkippedOption {
                option,
                left: bytes,
                reply: answer::TOO_BIG,
            }
        };
        Some(())
    }

    fn option_data(&mut self, option: u32, exports: &[Export]) -> Event {
        let data = mem::take(&mut self.held);
        let (reply, next) = self.agreed.answer(option, &data, exports);
        self.phase = match next {
            Next::Option => Phase::Option,
            Next::Open(export) => Phase::Opening(export),
            Next::Close(closed) => Phase::Closing(closed),
        };
        if reply.is_empty()
            && let Phase::Closing(closed) = self.phase
        {
            self.phase = Phase::Ended;
            return Event::Closed(closed);
        }
        Event::Send(reply.into())
    }

    /// Reads one request: `None` until it is whole, `Some(None)` when there is nothing to tell yet.
    fn request(&mut self, input: &mut &[u8]) -> Option<Option<Event>> {
        let header: [u8; REQUEST_BYTES] = self.whole(input, Phase::Request)?;
        let Some(export) = &self.export else {
            return Some(None);
        };
        let header = match Header::read(&header) {
            Ok(header) => header,
            Err(magic) => {
                self.close(Violation::RequestMagic(magic));
                return Some(None);
            }
        };
        self.phase = Phase::Request;
        Some(match header.judge(export, &self.agreed) {
            Judged::Disconnect => {
                self.phase = Phase::Closing(Closed::Disconnected);
                None
            }
            Judged::Refused(reply) => {
                let left = header.payload();
                self.phase = Phase::SkippedPayload {
                    left,
                    reply: Some(reply),
                };
                None
            }
            Judged::Request(request) => {
                let left = header.payload();
                debug_assert!(left <= PAYLOAD_BYTES_MAX, "a payload that was judged");
                self.phase = Phase::Payload { left };
                Some(Event::Request(request))
            }
        })
    }
}

/// Drops up to `left` bytes off the front of `input`; returns how many are still to be dropped.
fn skip(input: &mut &[u8], left: u32) -> u32 {
    let count = input.len().min(left as usize);
    *input = &input[count..];
    left - u32::try_from(count).unwrap_or(left)
}

#[cfg(test)]
mod tests;
