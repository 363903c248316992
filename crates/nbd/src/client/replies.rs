//! PURE. What is under way, and whether what a server says fits it.

use std::collections::BTreeMap;

use super::{ClientError, Heard};
use crate::{
    Errno, Span,
    fields::Fields,
    wire::{NAME_BYTES_MAX, chunk},
};

/// What a message comes to.
pub(super) enum Told {
    Nothing,
    One(Heard),
    /// This, and once its data was taken perhaps that.
    Then(Heard, Option<Heard>),
}

/// The head of a chunk that fits a request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    done: bool,
    kind: u16,
    cookie: u64,
    bytes: u32,
}

impl Chunk {
    pub(super) const HEAD_BYTES: usize = 20;

    /// Returns how many bytes of it are looked at: all but data.
    pub(super) fn fixed_bytes(self) -> usize {
        if self.kind == chunk::DATA {
            8
        } else {
            self.bytes as usize
        }
    }
}

/// A request under way.
#[derive(Debug, Default)]
struct Entry {
    read: Option<Span>,
    /// Parts of a read that were told: begin to end, disjoint, not touching.
    told: BTreeMap<u32, u32>,
    error: Option<Errno>,
    chunks: bool,
}

/// All requests under way.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<u64, Entry>);

impl Pending {
    /// Notes a request; `false` when its number is in use.
    pub(super) fn begin(&mut self, cookie: u64, read: Option<Span>) -> bool {
        let entry = Entry {
            read,
            ..Entry::default()
        };
        self.0.insert(cookie, entry).is_none()
    }

    /// Reads a whole simple reply.
    pub(super) fn simple(&mut self, bytes: &[u8], structured: bool) -> Result<Told, ClientError> {
        let mut fields = Fields::new(bytes);
        let (_, error, cookie) = (fields.u32(), fields.u32(), fields.u64());
        let (error, cookie) = (error.unwrap_or_default(), cookie.unwrap_or_default());
        let entry = self.0.remove(&cookie).ok_or(ClientError::UnknownCookie(cookie))?;
        if entry.chunks || (structured && entry.read.is_some()) {
            return Err(ClientError::Malformed(cookie));
        }
        let result = Errno::result(error);
        let answered = Heard::Answered { cookie, result };
        Ok(match entry.read {
            Some(span) if error == 0 => {
                let bytes = span.bytes;
                Told::Then(Heard::Data { cookie, at: 0, bytes }, Some(answered))
            }
            _ => Told::One(answered),
        })
    }

    /// Reads the head of a chunk.
    pub(super) fn chunk(&mut self, bytes: &[u8]) -> Result<Chunk, ClientError> {
        let mut fields = Fields::new(bytes);
        let _magic = fields.u32();
        let (flags, kind) = (fields.u16().unwrap_or_default(), fields.u16().unwrap_or_default());
        let (cookie, bytes) = (fields.u64().unwrap_or_default(), fields.u32().unwrap_or_default());
        let chunk = Chunk {
            done: flags & chunk::DONE != 0,
            kind,
            cookie,
            bytes,
        };
        let entry = self
            .0
            .get_mut(&cookie)
            .ok_or(ClientError::UnknownCookie(cookie))?;
        entry.chunks = true;
        let read = entry.read.map_or(0, |span| span.bytes);
        let fits = match kind {
            chunk::NONE => bytes == 0 && chunk.done,
            chunk::DATA => bytes > 8 && bytes - 8 <= read,
            chunk::HOLE => bytes == 12 && read > 0,
            // Words of at most 4,096 bytes, and what a kind that is not known yet may add.
            kind if kind & chunk::IS_ERROR != 0 => {
                let least = if kind == chunk::ERROR_OFFSET { 14 } else { 6 };
                bytes >= least && bytes as usize <= NAME_BYTES_MAX + 64
            }
            _ => false,
        };
        if fits {
            Ok(chunk)
        } else {
            Err(ClientError::Malformed(cookie))
        }
    }

    /// Reads the rest of a chunk, its data left out.
    pub(super) fn body(&mut self, chunk: Chunk, body: &[u8]) -> Result<Told, ClientError> {
        let cookie = chunk.cookie;
        let entry = self
            .0
            .get_mut(&cookie)
            .ok_or(ClientError::UnknownCookie(cookie))?;
        let mut fields = Fields::new(body);
        let content = match chunk.kind {
            chunk::DATA => fields.u64().map(|offset| (offset, chunk.bytes - 8)),
            chunk::HOLE => fields.u64().zip(fields.u32()),
            chunk::NONE => None,
            _ => {
                let code = fields.u32().unwrap_or_default();
                let words = usize::from(fields.u16().unwrap_or(u16::MAX));
                if code == 0 || words + 6 > body.len() {
                    return Err(ClientError::Malformed(cookie));
                }
                // The first counts: what it names may have led to the others.
                let error = Errno::result(code).err();
                entry.error = entry.error.or(error);
                None
            }
        };
        let heard = match content {
            None => None,
            Some((offset, bytes)) => {
                let at = entry.take(offset, bytes).ok_or(ClientError::Coverage(cookie))?;
                Some(if chunk.kind == chunk::DATA {
                    Heard::Data { cookie, at, bytes }
                } else {
                    Heard::Zeros { cookie, at, bytes }
                })
            }
        };
        let answered = if chunk.done { Some(self.end(cookie)?) } else { None };
        Ok(match (heard, answered) {
            (Some(heard), answered) => Told::Then(heard, answered),
            (None, Some(answered)) => Told::One(answered),
            (None, None) => Told::Nothing,
        })
    }

    fn end(&mut self, cookie: u64) -> Result<Heard, ClientError> {
        let entry = self.0.remove(&cookie).ok_or(ClientError::UnknownCookie(cookie))?;
        if entry.error.is_none()
            && let Some(span) = entry.read
            && entry.told.get(&0) != Some(&span.bytes)
        {
            return Err(ClientError::Coverage(cookie));
        }
        let result = entry.error.map_or(Ok(()), Err);
        Ok(Heard::Answered { cookie, result })
    }
}

impl Entry {
    /// Notes that a part of the read was told; returns where it begins. `None` when it cannot be, or was told before.
    fn take(&mut self, offset: u64, bytes: u32) -> Option<u32> {
        let span = self.read?;
        let at = u32::try_from(offset.checked_sub(span.offset)?).ok()?;
        let end = at
            .checked_add(bytes)
            .filter(|end| *end <= span.bytes && bytes > 0)?;
        let (mut begin, mut upto) = (at, end);
        if let Some((before, until)) = self.told.range(..=at).next_back() {
            if *until > at {
                return None;
            }
            if *until == at {
                begin = *before;
            }
        }
        if let Some((after, until)) = self.told.range(at..).next() {
            if *after < end {
                return None;
            }
            if *after == end {
                upto = *until;
                self.told.remove(&end);
            }
        }
        self.told.insert(begin, upto);
        Some(at)
    }
}
