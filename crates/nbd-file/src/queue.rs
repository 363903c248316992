//! PURE. What was asked for and not answered yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use nbd::{Ask, Errno, Span};

#[cfg(test)]
mod tests;

/// Most bytes that are zeroed by one request, so that none takes long.
const ZERO_BYTES_MAX: u64 = 1 << 30;

/// What the file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Read(Span),
    Write {
        offset: u64,
        data: Bytes,
    },
    /// May be longer than one request.
    Zero {
        offset: u64,
        bytes: u64,
        no_hole: bool,
    },
    Flush,
}

impl Op {
    /// Begin and end of what it touches; `None` for nothing.
    fn range(&self) -> Option<(u64, u64)> {
        let (offset, bytes) = match self {
            Self::Read(span) => (span.offset, span.bytes.into()),
            Self::Write { offset, data } => (*offset, data.len() as u64),
            Self::Zero { offset, bytes, .. } => (*offset, *bytes),
            Self::Flush => return None,
        };
        Some((offset, offset.saturating_add(bytes)))
    }

    fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Zero { .. })
    }

    /// Whether both may be under way together without their order mattering.
    fn bears(&self, other: &Self) -> bool {
        match (self.range(), other.range()) {
            (Some(a), Some(b)) if self.changes() || other.changes() => a.1 <= b.0 || b.1 <= a.0,
            _ => true,
        }
    }

    fn payload_bytes(&self) -> usize {
        match self {
            Self::Write { data, .. } => data.len(),
            _ => 0,
        }
    }

    /// The next request of it, and what follows the request.
    fn ask(&self) -> (Ask, Bytes) {
        // What comes from the kernel in one piece is a MiB at most.
        let short = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        match self {
            Self::Read(span) => (Ask::Read(*span), Bytes::new()),
            Self::Write { offset, data } => {
                let bytes = short(data.len() as u64);
                let span = Span {
                    offset: *offset,
                    bytes,
                };
                (Ask::Write(span), data.clone())
            }
            Self::Zero {
                offset,
                bytes,
                no_hole,
            } => {
                let bytes = short((*bytes).min(ZERO_BYTES_MAX));
                let span = Span {
                    offset: *offset,
                    bytes,
                };
                let no_hole = *no_hole;
                (Ask::Zero { span, no_hole }, Bytes::new())
            }
            Self::Flush => (Ask::Flush, Bytes::new()),
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    op: Op,
    token: T,
    sent: bool,
}

/// What becomes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered<T> {
    /// It is the caller's.
    Ended(T, Result<(), Errno>),
    /// The request is not over: there is more of it to send.
    Goes,
    /// The server is about to end: the request stays for the next one.
    Stays,
    /// Nobody asked.
    Unknown,
}

/// Requests in the order in which they came, each with a token of who asked.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    next: u64,
    entries: BTreeMap<u64, Entry<T>>,
    payload_bytes: usize,
    requests_max: usize,
    payload_bytes_max: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(requests_max: usize, payload_bytes_max: usize) -> Self {
        Self {
            next: 0,
            entries: BTreeMap::new(),
            payload_bytes: 0,
            requests_max,
            payload_bytes_max,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.requests_max || self.payload_bytes >= self.payload_bytes_max
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn push(&mut self, op: Op, token: T) {
        self.payload_bytes += op.payload_bytes();
        let entry = Entry {
            op,
            token,
            sent: false,
        };
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    /// Returns the next request to send, its number and what follows it: the oldest that touches nothing which an older
    /// one is still about.
    pub(crate) fn send(&mut self) -> Option<(u64, Ask, Bytes)> {
        let waiting = self.entries.iter().filter(|(_, entry)| !entry.sent);
        let free = waiting
            .map(|(number, _)| *number)
            .find(|number| self.is_free(*number))?;
        let entry = self.entries.get_mut(&free)?;
        entry.sent = true;
        let (ask, payload) = entry.op.ask();
        Some((free, ask, payload))
    }

    fn is_free(&self, number: u64) -> bool {
        let Some(entry) = self.entries.get(&number) else {
            return false;
        };
        let mut older = self.entries.range(..number);
        older.all(|(_, older)| older.op.bears(&entry.op))
    }

    /// How long a read under way is, in bytes.
    pub(crate) fn read_bytes(&self, number: u64) -> Option<u32> {
        match self.entries.get(&number)?.op {
            Op::Read(span) => Some(span.bytes),
            _ => None,
        }
    }

    /// Hears how a request ended.
    pub(crate) fn answered(&mut self, number: u64, result: Result<(), Errno>) -> Answered<T> {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.sent) else {
            return Answered::Unknown;
        };
        if result == Err(Errno::Shutdown) {
            entry.sent = false;
            return Answered::Stays;
        }
        if let (Op::Zero { offset, bytes, .. }, Ok(())) = (&mut entry.op, result)
            && *bytes > ZERO_BYTES_MAX
        {
            *offset += ZERO_BYTES_MAX;
            *bytes -= ZERO_BYTES_MAX;
            entry.sent = false;
            return Answered::Goes;
        }
        let Some(entry) = self.entries.remove(&number) else {
            return Answered::Unknown;
        };
        self.payload_bytes -= entry.op.payload_bytes();
        Answered::Ended(entry.token, result)
    }

    /// Forgets what was sent: all of it is to be sent again. Returns how many requests that are.
    pub(crate) fn take_back(&mut self) -> usize {
        let sent = self.entries.values_mut().filter(|entry| entry.sent);
        sent.map(|entry| entry.sent = false).count()
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.entries.values().filter(|entry| entry.sent).count()
    }
}
