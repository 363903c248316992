//! PURE. Requests: which are passed on, and how the others are refused.

use bytes::Bytes;

use super::{Read, Status, Ticket, negotiation::Agreed};
use crate::{
    Errno, Export,
    fields::Fields,
    wire::{PAYLOAD_BYTES_MAX, REQUEST_BYTES, REQUEST_MAGIC, command, flag},
};

/// A piece of an export: within it, not empty, and aligned to its minimum block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// How many; of a read and a write at most [`PAYLOAD_BYTES_MAX`].
    pub bytes: u32,
}

/// What a client asks for. Each is answered once, by what it holds, in any order.
#[derive(Debug)]
#[must_use]
pub enum Request {
    /// The bytes of a span.
    Read(Read),
    /// New bytes for a span. They follow as the connection's next bytes: see [`Server::payload`](super::Server::payload).
    Write {
        /// Where to.
        span: Span,
        /// Whether they are durable when this is answered.
        fua: bool,
        /// To answer by.
        ticket: Ticket,
    },
    /// Zeros for a span.
    Zero {
        /// Where to.
        span: Span,
        /// Whether they are durable when this is answered.
        fua: bool,
        /// Whether the span must keep its room, so that a later write cannot lack it.
        no_hole: bool,
        /// Whether this is to fail with [`Errno::NotSup`], at once and without effect, unless it is faster than a write.
        fast: bool,
        /// To answer by.
        ticket: Ticket,
    },
    /// What stands in a span is no longer needed.
    Trim {
        /// Where.
        span: Span,
        /// Whether it is durable when this is answered.
        fua: bool,
        /// To answer by.
        ticket: Ticket,
    },
    /// Everything that was answered before, on any connection if the export said so, is to be durable.
    Flush(Ticket),
    /// The span will be read soon.
    Cache {
        /// Which.
        span: Span,
        /// To answer by.
        ticket: Ticket,
    },
    /// Which parts of a span are holes, and which are zeros.
    Status(Status),
}

/// What comes of a header.
pub(super) enum Judged {
    Request(Request),
    /// To be sent once the payload has passed.
    Refused(Bytes),
    Disconnect,
}

/// A request's first bytes.
pub(super) struct Header {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    bytes: u32,
}

impl Header {
    /// Reads a header, or returns the wrong magic number.
    pub(super) fn read(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, u32> {
        let mut fields = Fields::new(bytes);
        let magic = fields.u32().unwrap_or_default();
        if magic != REQUEST_MAGIC {
            return Err(magic);
        }
        Ok(Self {
            flags: fields.u16().unwrap_or_default(),
            command: fields.u16().unwrap_or_default(),
            cookie: fields.u64().unwrap_or_default(),
            offset: fields.u64().unwrap_or_default(),
            bytes: fields.u32().unwrap_or_default(),
        })
    }

    /// Returns how many bytes of payload follow.
    pub(super) fn payload(&self) -> u32 {
        if self.command == command::WRITE {
            self.bytes
        } else {
            0
        }
    }

    /// Decides whether the request is passed on.
    pub(super) fn judge(&self, export: &Export, agreed: &Agreed) -> Judged {
        if self.command == command::DISCONNECT {
            return Judged::Disconnect;
        }
        let ticket = Ticket::new(self.cookie, agreed.structured);
        match self.refusal(export, agreed) {
            Err((errno, why)) => Judged::Refused(ticket.refuse(errno, why)),
            Ok(()) => Judged::Request(self.request(ticket)),
        }
    }

    fn refusal(&self, export: &Export, agreed: &Agreed) -> Result<(), (Errno, &'static str)> {
        let known = match self.command {
            command::WRITE_ZEROES if export.fast_zero => flag::NO_HOLE | flag::FAST_ZERO,
            command::WRITE_ZEROES => flag::NO_HOLE,
            command::READ if agreed.structured => flag::DF,
            command::BLOCK_STATUS => flag::REQ_ONE,
            command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => 0,
            _ => return Err((Errno::Inval, "the command is not known")),
        };
        // FUA is to be accepted with every command.
        if self.flags & !(known | flag::FUA) != 0 {
            return Err((Errno::Inval, "a flag does not belong to the command"));
        }
        if self.command == command::FLUSH {
            let whole = self.offset == 0 && self.bytes == 0;
            return whole.then_some(()).ok_or((Errno::Inval, "a flush has no place"));
        }
        if self.command == command::BLOCK_STATUS && agreed.allocation_of.is_none() {
            return Err((Errno::Inval, "no metadata context was chosen"));
        }
        let writes = matches!(
            self.command,
            command::WRITE | command::WRITE_ZEROES | command::TRIM
        );
        if writes && export.read_only {
            return Err((Errno::Perm, "the export is read-only"));
        }
        self.out_of_place(export, agreed)
    }

    fn out_of_place(&self, export: &Export, agreed: &Agreed) -> Result<(), (Errno, &'static str)> {
        if self.bytes == 0 {
            return Err((Errno::Inval, "the request is empty"));
        }
        if self.bytes > PAYLOAD_BYTES_MAX {
            const WHY: &str = "more than 32 MiB at once";
            match self.command {
                // Only a client that negotiated something knows this error of a read.
                command::READ if agreed.structured => return Err((Errno::Overflow, WHY)),
                command::READ | command::WRITE => return Err((Errno::Inval, WHY)),
                _ => {}
            }
        }
        let end = self.offset.checked_add(u64::from(self.bytes));
        if end.is_none_or(|end| end > export.bytes) {
            let grows = matches!(self.command, command::WRITE | command::WRITE_ZEROES);
            let errno = if grows { Errno::NoSpc } else { Errno::Inval };
            return Err((errno, "the request reaches beyond the end of the export"));
        }
        let minimum = export.blocks.minimum();
        if !self.offset.is_multiple_of(u64::from(minimum)) || !self.bytes.is_multiple_of(minimum) {
            return Err((
                Errno::Inval,
                "the request is not aligned to the minimum block size",
            ));
        }
        Ok(())
    }

    fn request(&self, ticket: Ticket) -> Request {
        let span = Span {
            offset: self.offset,
            bytes: self.bytes,
        };
        let is_set = |flag| self.flags & flag != 0;
        let fua = is_set(flag::FUA);
        match self.command {
            command::READ => Request::Read(Read::new(span, is_set(flag::DF), ticket)),
            command::WRITE => Request::Write { span, fua, ticket },
            command::WRITE_ZEROES => Request::Zero {
                span,
                fua,
                no_hole: is_set(flag::NO_HOLE),
                fast: is_set(flag::FAST_ZERO),
                ticket,
            },
            command::TRIM => Request::Trim { span, fua, ticket },
            command::CACHE => Request::Cache { span, ticket },
            command::BLOCK_STATUS => Request::Status(Status::new(span, is_set(flag::REQ_ONE), ticket)),
            _ => Request::Flush(ticket),
        }
    }
}
