//! A conversation with a session, and a driver in memory that answers its requests.

use crate::{Errno, Event, Export, Extent, Part, Piece, Read, Request, Server, Span};

use super::super::{Closed, Status};

pub(super) const EXPORT_BYTES: u64 = 64 * 1024;
const PAGE: usize = 4096;

/// Fixed newstyle and no zeros.
pub(super) const CLIENT_FLAGS: [u8; 4] = [0, 0, 0, 3];

pub(super) fn exports() -> Vec<Export> {
    let mut second = Export::new("second", 2 * EXPORT_BYTES);
    second.read_only = true;
    second.description = "for reading".into();
    let mut first = Export::new("first", EXPORT_BYTES);
    first.fast_zero = true;
    first.multi_conn = true;
    vec![first, second]
}

pub(super) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The data of `INFO` and `GO`.
pub(super) fn named(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = counted(name);
    data.extend(u16::try_from(wanted.len()).unwrap().to_be_bytes());
    data.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

/// The data of the options about metadata contexts.
pub(super) fn queries(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = counted(name);
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    data.extend(queries.iter().flat_map(|query| counted(query)));
    data
}

fn counted(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A request's header.
pub(super) fn request(flags: u16, command: u16, cookie: u64, offset: u64, bytes: u32) -> Vec<u8> {
    let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
    request.extend(flags.to_be_bytes());
    request.extend(command.to_be_bytes());
    request.extend(cookie.to_be_bytes());
    request.extend(offset.to_be_bytes());
    request.extend(bytes.to_be_bytes());
    request
}

/// What a client says to open `first` with everything it can have.
pub(super) fn open_with_everything() -> Vec<u8> {
    [
        CLIENT_FLAGS.to_vec(),
        option(8, &[]),
        option(10, &queries("first", &["base:allocation"])),
        option(7, &named("first", &[3])),
    ]
    .concat()
}

/// A disk whose pages of zeros are holes.
pub(super) struct Disk {
    pub(super) bytes: Vec<u8>,
    /// Pages that cannot be read.
    pub(super) bad: Vec<u64>,
    /// What was flushed, trimmed and so on, in words.
    pub(super) heard: Vec<String>,
}

impl Disk {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes: vec![0; usize::try_from(bytes).unwrap()],
            bad: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn range(span: Span) -> std::ops::Range<usize> {
        let begin = usize::try_from(span.offset).unwrap();
        begin..begin + span.bytes as usize
    }

    /// Cuts a span at the borders of pages and says what each part is.
    fn cut(&self, span: Span) -> Vec<Part> {
        let range = Self::range(span);
        let mut at = range.start;
        let mut parts = Vec::new();
        while at < range.end {
            let end = range.end.min((at / PAGE + 1) * PAGE);
            let len = u32::try_from(end - at).unwrap();
            let page = &self.bytes[at / PAGE * PAGE..((at / PAGE + 1) * PAGE).min(self.bytes.len())];
            parts.push(if self.bad.contains(&((at / PAGE) as u64)) {
                Part::Failed(len, Errno::Io)
            } else if page.iter().all(|byte| *byte == 0) {
                Part::Zeros(len)
            } else {
                Part::Data(len)
            });
            at = end;
        }
        parts
    }

    pub(super) fn read(&self, read: Read) -> Vec<u8> {
        let span = read.span();
        let mut pieces = Vec::new();
        read.parts(&self.cut(span), &mut pieces);
        let data = &self.bytes[Self::range(span)];
        let mut reply = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Head(head) => reply.extend_from_slice(&head),
                Piece::Data { at, bytes } => reply.extend(&data[at as usize..][..bytes as usize]),
                Piece::Zeros(bytes) => reply.resize(reply.len() + bytes as usize, 0),
            }
        }
        reply
    }

    fn status(&self, status: Status) -> Vec<u8> {
        let parts = self.cut(status.span());
        let extents = parts.into_iter().map(|part| match part {
            Part::Zeros(bytes) => Extent {
                bytes: bytes.into(),
                hole: true,
                zero: true,
            },
            Part::Data(bytes) | Part::Failed(bytes, _) => Extent {
                bytes: bytes.into(),
                hole: false,
                zero: false,
            },
        });
        status.answer(extents).to_vec()
    }

    /// Carries a request out; returns the answer.
    pub(super) fn carry_out(&mut self, request: Request, payload: &[u8]) -> Vec<u8> {
        let (heard, ticket) = match request {
            Request::Read(read) => return self.read(read),
            Request::Status(status) => return self.status(status),
            Request::Write { span, fua, ticket } => {
                self.bytes[Self::range(span)].copy_from_slice(payload);
                (format!("write {}+{} fua {fua}", span.offset, span.bytes), ticket)
            }
            Request::Zero {
                span,
                fua,
                no_hole,
                fast,
                ticket,
            } => {
                self.bytes[Self::range(span)].fill(0);
                let flags = format!("fua {fua} no hole {no_hole} fast {fast}");
                (format!("zero {}+{} {flags}", span.offset, span.bytes), ticket)
            }
            Request::Trim { span, fua, ticket } => {
                (format!("trim {}+{} fua {fua}", span.offset, span.bytes), ticket)
            }
            Request::Flush(ticket) => ("flush".to_owned(), ticket),
            Request::Cache { span, ticket } => (format!("cache {}+{}", span.offset, span.bytes), ticket),
        };
        self.heard.push(heard);
        ticket.done().to_vec()
    }
}

/// A session, its driver, and what came of it.
pub(super) struct Talk {
    pub(super) server: Server,
    pub(super) exports: Vec<Export>,
    pub(super) disk: Disk,
    /// What the client receives, without the greeting.
    pub(super) sent: Vec<u8>,
    pub(super) opened: Option<Export>,
    pub(super) closed: Option<Closed>,
    /// Answers not sent yet, when they are kept back.
    pub(super) kept: Option<Vec<Vec<u8>>>,
    pending: Option<(Request, Vec<u8>)>,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self {
            server: Server::new(),
            exports: exports(),
            disk: Disk::new(2 * EXPORT_BYTES),
            sent: Vec::new(),
            opened: None,
            closed: None,
            kept: None,
            pending: None,
        }
    }

    /// One that has opened `first` with everything.
    pub(super) fn opened() -> Self {
        let mut talk = Self::new();
        talk.hear(&open_with_everything());
        assert!(talk.opened.is_some());
        talk.sent.clear();
        talk
    }

    /// One that has opened `name` by the oldest way, with simple replies.
    pub(super) fn opened_simply(name: &str) -> Self {
        let mut talk = Self::new();
        talk.hear(&[CLIENT_FLAGS.to_vec(), option(1, name.as_bytes())].concat());
        assert!(talk.opened.is_some());
        talk.sent.clear();
        talk
    }

    /// Hands the client's bytes over.
    pub(super) fn hear(&mut self, mut input: &[u8]) {
        loop {
            self.take_payload(&mut input);
            let Some(event) = self.server.receive(&self.exports, &mut input) else {
                if self.server.payload() > 0 && !input.is_empty() {
                    continue;
                }
                assert!(input.is_empty(), "everything is taken");
                return;
            };
            match event {
                Event::Send(bytes) => self.answer(bytes.to_vec()),
                Event::Opened(export) => self.opened = Some(export),
                Event::Closed(closed) => self.closed = Some(closed),
                Event::Request(request) => {
                    let room = Vec::with_capacity(self.server.payload() as usize);
                    self.pending = Some((request, room));
                }
            }
        }
    }

    /// Hears it and returns what is sent upon it.
    pub(super) fn ask(&mut self, input: &[u8]) -> Vec<u8> {
        self.hear(input);
        std::mem::take(&mut self.sent)
    }

    fn take_payload(&mut self, input: &mut &[u8]) {
        let Some((_, payload)) = &mut self.pending else {
            return;
        };
        let count = input.len().min(self.server.payload() as usize);
        let (here, rest) = input.split_at(count);
        payload.extend_from_slice(here);
        *input = rest;
        self.server.payload_taken(u32::try_from(count).unwrap());
        if self.server.payload() == 0
            && let Some((request, payload)) = self.pending.take()
        {
            let reply = self.disk.carry_out(request, &payload);
            self.answer(reply);
        }
    }

    fn answer(&mut self, reply: Vec<u8>) {
        match &mut self.kept {
            Some(kept) => kept.push(reply),
            None => self.sent.extend(reply),
        }
    }
}
