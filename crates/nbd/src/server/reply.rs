//! PURE. Answers to requests.

use bytes::Bytes;

use super::Span;
use crate::{
    Errno, Head,
    wire::{ALLOCATION_ID, CHUNK_MAGIC, SIMPLE_REPLY_MAGIC, STATE_HOLE, STATE_ZERO, chunk},
};

/// Most extents of one answer to a question for block status; a client asks again for the rest.
pub const STATUS_EXTENTS_MAX: usize = 1 << 16;

/// Answers one request that brings no data.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    cookie: u64,
    structured: bool,
}

impl Ticket {
    pub(super) fn new(cookie: u64, structured: bool) -> Self {
        Self { cookie, structured }
    }

    /// Returns the client's own number of the request: for the log only, it need not be unique.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Says that it was carried out.
    pub fn done(self) -> Head {
        self.simple(0)
    }

    /// Says that it was not.
    pub fn fail(self, errno: Errno) -> Head {
        if !self.structured {
            return self.simple(errno.code());
        }
        self.chunk(chunk::DONE, chunk::ERROR, 6)
            .with(errno.code().to_be_bytes())
            .with(0u16.to_be_bytes())
    }

    /// Says that it was not, and why, where the client can take words.
    pub(super) fn refuse(self, errno: Errno, why: &str) -> Bytes {
        let (Ok(len), true) = (u16::try_from(why.len()), self.structured) else {
            return Bytes::copy_from_slice(&self.fail(errno));
        };
        let mut reply = self.chunk(chunk::DONE, chunk::ERROR, 6 + u32::from(len)).to_vec();
        reply.extend(errno.code().to_be_bytes());
        reply.extend(len.to_be_bytes());
        reply.extend(why.as_bytes());
        reply.into()
    }

    fn simple(&self, error: u32) -> Head {
        Head::new()
            .with(SIMPLE_REPLY_MAGIC.to_be_bytes())
            .with(error.to_be_bytes())
            .with(self.cookie.to_be_bytes())
    }

    fn chunk(&self, flags: u16, kind: u16, payload: u32) -> Head {
        Head::new()
            .with(CHUNK_MAGIC.to_be_bytes())
            .with(flags.to_be_bytes())
            .with(kind.to_be_bytes())
            .with(self.cookie.to_be_bytes())
            .with(payload.to_be_bytes())
    }
}

/// What stands in the next bytes of a span that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The driver has so many bytes.
    Data(u32),
    /// So many zeros, which need not be sent if the client can do without.
    Zeros(u32),
    /// So many bytes could not be read.
    Failed(u32, Errno),
}

impl Part {
    fn bytes(self) -> u32 {
        match self {
            Self::Data(bytes) | Self::Zeros(bytes) | Self::Failed(bytes, _) => bytes,
        }
    }
}

/// What is sent next of an answer to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Head(Head),
    /// The driver's own bytes.
    Data {
        /// First of them, counted from the begin of the span.
        at: u32,
        /// How many.
        bytes: u32,
    },
    /// So many zeros.
    Zeros(u32),
}

/// A read to be answered.
#[derive(Debug)]
#[must_use]
pub struct Read {
    span: Span,
    /// Whether the data must come in one piece.
    unbroken: bool,
    ticket: Ticket,
}

impl Read {
    pub(super) fn new(span: Span, unbroken: bool, ticket: Ticket) -> Self {
        Self {
            span,
            unbroken,
            ticket,
        }
    }

    /// Returns what is read.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Returns the client's own number of the request: for the log only, it need not be unique.
    pub fn cookie(&self) -> u64 {
        self.ticket.cookie
    }

    /// Says that nothing could be read.
    pub fn fail(self, errno: Errno) -> Head {
        self.ticket.fail(errno)
    }

    /// Begins the answer: right after it the driver sends all bytes of the span. They are at hand already, for an error can
    /// no longer be told.
    pub fn whole(self) -> Head {
        if self.ticket.structured {
            self.data(chunk::DONE, self.span)
        } else {
            self.ticket.simple(0)
        }
    }

    /// Answers by parts, which make up the span from its begin to its end: appends to `out` what is to be sent, in order.
    ///
    /// # Panics
    ///
    /// When the parts are not as long as the span.
    pub fn parts(self, parts: &[Part], out: &mut Vec<Piece>) {
        let total: u64 = parts.iter().map(|part| u64::from(part.bytes())).sum();
        assert_eq!(total, u64::from(self.span.bytes), "parts make up what is read");
        let parts = merged(parts);
        let failed = parts.iter().find(|(_, part)| matches!(part, Part::Failed(..)));
        match failed {
            Some((at, Part::Failed(_, errno))) if !self.ticket.structured || self.unbroken => {
                out.push(Piece::Head(self.failed(chunk::DONE, *at, *errno)));
            }
            None if !self.ticket.structured || (self.unbroken && parts.len() > 1) => {
                out.push(Piece::Head(self.whole()));
                out.extend(parts.iter().map(|(at, part)| content(*at, *part)));
            }
            _ => self.chunks(&parts, out),
        }
    }

    fn chunks(&self, parts: &[(u32, Part)], out: &mut Vec<Piece>) {
        for (index, (at, part)) in parts.iter().enumerate() {
            let flags = if index + 1 == parts.len() { chunk::DONE } else { 0 };
            let span = Span {
                offset: self.span.offset + u64::from(*at),
                bytes: part.bytes(),
            };
            match part {
                Part::Data(_) => {
                    out.push(Piece::Head(self.data(flags, span)));
                    out.push(content(*at, *part));
                }
                Part::Zeros(_) => out.push(Piece::Head(self.hole(flags, span))),
                Part::Failed(_, errno) => out.push(Piece::Head(self.failed(flags, *at, *errno))),
            }
        }
    }

    fn data(&self, flags: u16, span: Span) -> Head {
        self.ticket
            .chunk(flags, chunk::DATA, 8 + span.bytes)
            .with(span.offset.to_be_bytes())
    }

    fn hole(&self, flags: u16, span: Span) -> Head {
        self.ticket
            .chunk(flags, chunk::HOLE, 12)
            .with(span.offset.to_be_bytes())
            .with(span.bytes.to_be_bytes())
    }

    fn failed(&self, flags: u16, at: u32, errno: Errno) -> Head {
        if !self.ticket.structured {
            return self.ticket.simple(errno.code());
        }
        let offset = self.span.offset + u64::from(at);
        self.ticket
            .chunk(flags, chunk::ERROR_OFFSET, 14)
            .with(errno.code().to_be_bytes())
            .with(0u16.to_be_bytes())
            .with(offset.to_be_bytes())
    }
}

/// Joins neighbours of one kind, leaves empty parts out, and says where each begins.
fn merged(parts: &[Part]) -> Vec<(u32, Part)> {
    let mut merged: Vec<(u32, Part)> = Vec::with_capacity(parts.len());
    let mut at = 0;
    for part in parts.iter().filter(|part| part.bytes() > 0) {
        let joined = match (merged.last().map(|(_, last)| *last), part) {
            (Some(Part::Data(a)), Part::Data(b)) => Some(Part::Data(a + b)),
            (Some(Part::Zeros(a)), Part::Zeros(b)) => Some(Part::Zeros(a + b)),
            (Some(Part::Failed(a, before)), Part::Failed(b, errno)) if before == *errno => {
                Some(Part::Failed(a + b, before))
            }
            _ => None,
        };
        match (joined, merged.last_mut()) {
            (Some(joined), Some(last)) => last.1 = joined,
            _ => merged.push((at, *part)),
        }
        at += part.bytes();
    }
    merged
}

fn content(at: u32, part: Part) -> Piece {
    match part {
        Part::Data(bytes) => Piece::Data { at, bytes },
        Part::Zeros(bytes) | Part::Failed(bytes, _) => Piece::Zeros(bytes),
    }
}

/// A run of bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub bytes: u64,
    /// Whether they take no room, so that writing them may fail for lack of it.
    pub hole: bool,
    /// Whether they read as zeros.
    pub zero: bool,
}

impl Extent {
    fn flags(self) -> u32 {
        u32::from(self.hole) * STATE_HOLE + u32::from(self.zero) * STATE_ZERO
    }
}

/// A question for block status to be answered.
#[derive(Debug)]
#[must_use]
pub struct Status {
    span: Span,
    one: bool,
    ticket: Ticket,
}

impl Status {
    pub(super) fn new(span: Span, one: bool, ticket: Ticket) -> Self {
        Self { span, one, ticket }
    }

    /// Returns what is asked about; it may be up to 4 GiB.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Tells whether the client wants to hear of the first extent only.
    pub fn one(&self) -> bool {
        self.one
    }

    /// Says that it is not known.
    pub fn fail(self, errno: Errno) -> Head {
        self.ticket.fail(errno)
    }

    /// Answers with the extents from the begin of the span on. No more are taken than the answer holds: up to the end of the
    /// span, [`STATUS_EXTENTS_MAX`], and one if that is what the client wants. Without any, the span is told to be data.
    pub fn answer(self, extents: impl IntoIterator<Item = Extent>) -> Bytes {
        let most = if self.one { 1 } else { STATUS_EXTENTS_MAX };
        let mut told: Vec<(u32, u32)> = Vec::new();
        let mut left = self.span.bytes;
        for extent in extents {
            let bytes = u32::try_from(extent.bytes).unwrap_or(u32::MAX).min(left);
            if bytes == 0 {
                continue;
            }
            let count = told.len();
            match told.last_mut() {
                Some((run, flags)) if *flags == extent.flags() => *run += bytes,
                _ if count == most => break,
                _ => told.push((bytes, extent.flags())),
            }
            left -= bytes;
            if left == 0 {
                break;
            }
        }
        if told.is_empty() {
            told.push((self.span.bytes, 0));
        }
        // At most half a MiB.
        let payload = 4 + 8 * u32::try_from(told.len()).unwrap_or_default();
        let mut reply = self
            .ticket
            .chunk(chunk::DONE, chunk::BLOCK_STATUS, payload)
            .to_vec();
        reply.reserve_exact(payload as usize);
        reply.extend(ALLOCATION_ID.to_be_bytes());
        for (bytes, flags) in told {
            reply.extend(bytes.to_be_bytes());
            reply.extend(flags.to_be_bytes());
        }
        reply.into()
    }
}
