//! A strict client: what it asks, what it expects, and how it reads answers. It shares no code with the session.

use std::collections::BTreeMap;

use super::talk::request;

const DF: u16 = 1 << 2;
const ONE: u16 = 1 << 3;

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) flags: u16,
    pub(super) command: u16,
    pub(super) offset: u64,
    pub(super) bytes: u32,
    /// What a write writes, when it has no data of its own.
    pub(super) byte: u8,
    pub(super) data: Option<Vec<u8>>,
}

impl Wish {
    pub(super) fn new(flags: u16, command: u16, offset: u64, bytes: u32) -> Self {
        Self {
            flags,
            command,
            offset,
            bytes,
            byte: 0,
            data: None,
        }
    }

    pub(super) fn read(offset: u64, bytes: u32) -> Self {
        Self::new(0, 0, offset, bytes)
    }

    pub(super) fn write(offset: u64, data: &[u8]) -> Self {
        Self {
            data: Some(data.to_vec()),
            ..Self::new(0, 1, offset, u32::try_from(data.len()).unwrap())
        }
    }

    fn payload(&self) -> Vec<u8> {
        let filled = || vec![self.byte; self.bytes as usize];
        match (&self.data, self.command) {
            (Some(data), _) => data.clone(),
            (None, 1) if self.bytes <= 1 << 20 => filled(),
            _ => Vec::new(),
        }
    }

    /// What a disk without faults answers.
    pub(super) fn carry_out(&self, image: &mut [u8], structured: bool) -> Reply {
        let known: u16 = match self.command {
            0 if structured => 0b101,
            0 | 1 | 3 | 4 | 5 => 1,
            6 => 0b1_0011,
            7 => 0b1001,
            _ => 0,
        };
        let end = u128::from(self.offset) + u128::from(self.bytes);
        let past = end > image.len() as u128;
        if self.command > 7 || self.flags & !known != 0 || (self.command == 7 && !structured) {
            return Reply::Failed(22);
        }
        if self.command == 3 {
            return Reply::Done;
        }
        match self.command {
            _ if self.bytes == 0 => return Reply::Failed(22),
            1 | 6 if past => return Reply::Failed(28),
            _ if past => return Reply::Failed(22),
            _ => {}
        }
        let begin = usize::try_from(self.offset).unwrap();
        let here = &mut image[begin..begin + self.bytes as usize];
        match self.command {
            0 => Reply::Data(here.to_vec()),
            1 => {
                here.copy_from_slice(&self.payload());
                Reply::Done
            }
            6 => {
                here.fill(0);
                Reply::Done
            }
            7 => Reply::Status(Vec::new()),
            _ => Reply::Done,
        }
    }
}

/// What came of a request.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Done,
    Data(Vec<u8>),
    /// Lengths and flags.
    Status(Vec<(u32, u32)>),
    Failed(u32),
    /// Errors and their offsets.
    FailedAt(Vec<(u32, u64)>),
}

impl Reply {
    /// Equality, but for what extents a status tells: how far a disk looks is its own affair.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Status(_), Self::Status(_))) || self == other
    }
}

/// A read or status whose answer is still incomplete.
struct Pending {
    wish: Wish,
    data: Vec<u8>,
    /// Which bytes came: each may come once.
    covered: Vec<bool>,
    chunks: usize,
    failed: Option<u32>,
    failed_at: Vec<(u32, u64)>,
    status: Option<Vec<(u32, u32)>>,
}

/// The client.
pub(super) struct Client {
    export_bytes: u64,
    structured: bool,
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Client {
    pub(super) fn new(export_bytes: u64, structured: bool) -> Self {
        Self {
            export_bytes,
            structured,
            next: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Returns the bytes of a request, and expects an answer.
    pub(super) fn ask(&mut self, wish: &Wish) -> Vec<u8> {
        let cookie = self.next;
        self.next += 1;
        self.expect(cookie, wish);
        let mut bytes = request(wish.flags, wish.command, cookie, wish.offset, wish.bytes);
        bytes.extend(wish.payload());
        bytes
    }

    pub(super) fn expect(&mut self, cookie: u64, wish: &Wish) {
        let len = if wish.command == 0 && wish.bytes <= 1 << 20 {
            wish.bytes as usize
        } else {
            0
        };
        let pending = Pending {
            wish: wish.clone(),
            data: vec![0xee; len],
            covered: vec![false; len],
            chunks: 0,
            failed: None,
            failed_at: Vec::new(),
            status: None,
        };
        assert!(self.pending.insert(cookie, pending).is_none());
    }

    /// Reads answers, whole ones and no byte more, in the order in which they end.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<(u64, Reply)> {
        let mut input = Input(bytes);
        let mut replies = Vec::new();
        while !input.0.is_empty() {
            let reply = match input.u32() {
                0x6744_6698 => Some(self.simple(&mut input)),
                0x668e_33ef => self.chunk(&mut input),
                other => panic!("an answer begins with {other:#x}"),
            };
            replies.extend(reply);
        }
        replies
    }

    fn simple(&mut self, input: &mut Input) -> (u64, Reply) {
        let (error, cookie) = (input.u32(), input.u64());
        let pending = self.pending.remove(&cookie).expect("an answer to a request");
        let is_read = pending.wish.command == 0;
        assert!(!(is_read && self.structured), "reads are answered by chunks");
        assert_eq!(pending.chunks, 0, "one kind of answer");
        let reply = match error {
            0 if is_read => Reply::Data(input.take(pending.wish.bytes as usize).to_vec()),
            0 => {
                assert_ne!(pending.wish.command, 7, "a status is a chunk");
                Reply::Done
            }
            error => Reply::Failed(error),
        };
        (cookie, reply)
    }

    fn chunk(&mut self, input: &mut Input) -> Option<(u64, Reply)> {
        assert!(self.structured, "no chunks but to who asked for them");
        let (flags, kind, cookie, len) = (input.u16(), input.u16(), input.u64(), input.u32());
        assert_eq!(flags & !1, 0);
        let mut payload = Input(input.take(len as usize));
        let pending = self.pending.get_mut(&cookie).expect("a chunk of an answer");
        match kind {
            0 => assert_eq!(flags, 1, "nothing is the end"),
            1 => {
                let offset = payload.u64();
                let data = payload.rest();
                assert!(!data.is_empty());
                pending.content(offset, data);
            }
            2 => {
                let (offset, bytes) = (payload.u64(), payload.u32());
                assert!(bytes > 0 && bytes <= pending.wish.bytes);
                pending.content(offset, &vec![0; bytes as usize]);
            }
            5 => pending.extents(&mut payload, self.export_bytes),
            0x8001 => {
                let error = payload.message();
                assert!(pending.failed.replace(error).is_none() && pending.failed_at.is_empty());
            }
            0x8002 => {
                let error = payload.message();
                let offset = payload.u64();
                let end = pending.wish.offset + u64::from(pending.wish.bytes);
                assert!((pending.wish.offset..end).contains(&offset));
                assert!(pending.failed_at.iter().all(|(_, other)| *other != offset));
                pending.failed_at.push((error, offset));
            }
            other => panic!("a chunk of kind {other}"),
        }
        assert!(payload.0.is_empty(), "a chunk is as long as it says");
        if flags & 1 == 0 {
            return None;
        }
        let pending = self.pending.remove(&cookie)?;
        Some((cookie, pending.end()))
    }
}

impl Pending {
    fn content(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(self.wish.command, 0);
        self.chunks += 1;
        assert!(
            self.wish.flags & DF == 0 || self.chunks == 1,
            "one piece was asked for"
        );
        let at = usize::try_from(offset.checked_sub(self.wish.offset).unwrap()).unwrap();
        for (index, byte) in data.iter().enumerate() {
            assert!(
                !std::mem::replace(&mut self.covered[at + index], true),
                "each byte once"
            );
            self.data[at + index] = *byte;
        }
    }

    fn extents(&mut self, payload: &mut Input, export_bytes: u64) {
        assert_eq!(self.wish.command, 7);
        assert_eq!(payload.u32(), 1, "the context that was chosen");
        let mut extents = Vec::new();
        let mut end = self.wish.offset;
        while !payload.0.is_empty() {
            assert!(
                end < self.wish.offset + u64::from(self.wish.bytes),
                "none begins behind what was asked"
            );
            let (bytes, flags) = (payload.u32(), payload.u32());
            assert!(bytes > 0 && flags & !3 == 0);
            end += u64::from(bytes);
            extents.push((bytes, flags));
        }
        assert!(!extents.is_empty() && end <= export_bytes);
        if self.wish.flags & ONE != 0 {
            assert!(extents.len() == 1 && extents[0].0 <= self.wish.bytes);
        }
        assert!(self.status.replace(extents).is_none());
    }

    fn end(self) -> Reply {
        if let Some(error) = self.failed {
            return Reply::Failed(error);
        }
        if !self.failed_at.is_empty() {
            return Reply::FailedAt(self.failed_at);
        }
        match self.wish.command {
            0 => {
                assert!(self.covered.iter().all(|covered| *covered), "every byte came");
                Reply::Data(self.data)
            }
            7 => Reply::Status(self.status.expect("extents")),
            _ => Reply::Done,
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (here, rest) = self.0.split_at(count);
        self.0 = rest;
        here
    }

    fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    /// An error and its words.
    fn message(&mut self) -> u32 {
        let error = self.u32();
        assert_ne!(error, 0);
        let len = self.u16();
        assert!(std::str::from_utf8(self.take(len.into())).is_ok());
        error
    }
}
