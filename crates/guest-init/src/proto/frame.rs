//! Frames (PURE): how a byte stream without message borders, and with gaps, carries messages.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | payload length, little endian, 0..=[`PAYLOAD_BYTES_MAX`] |
//! | 4 | 1 | [`FrameKind`] |
//! | 5 | 4 | [`StreamId`], little endian, below 2^24 |
//! | 9 | length | payload |
//!
//! [`SYNC`] is no frame: it stands between frames, starts a session, and is recognised at *any* offset, even
//! inside what looks like a payload, because the side that reads may hold the first half of a frame whose
//! second half was lost with the former connection. That is sound because a sender never produces it by
//! accident: its bytes are none of those that a header's fixed parts or UTF-8 text can have, and binary
//! payloads are cut where they would contain it ([`encode_data`]).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest payload of one frame, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Length of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 9;

/// The mark that starts a session. No byte of it occurs in UTF-8, and its first byte occurs in it once.
pub const SYNC: [u8; 16] = [
    0xF5, 0xFF, 0xF6, 0xFE, 0xF7, 0xFD, 0xF8, 0xFC, 0xF9, 0xFB, 0xFA, 0xFF, 0xF6, 0xFE, 0xF7, 0xFD,
];

/// A payload may not contain this many leading bytes of [`SYNC`]: the next two bytes on the wire can be the
/// low bytes of a length, which can have any value.
const SYNC_PREFIX_BYTES: usize = SYNC.len() - 2;

/// Smallest byte of [`SYNC`]; a payload that ends in such a byte is followed by an empty frame, so that the
/// reader need not wait for more to know that no [`SYNC`] began.
const SYNC_BYTE_MIN: u8 = 0xF5;

const STREAM_LIMIT: u32 = 1 << 24;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Nothing; ignored.
    Empty = 0,
    /// JSON [`HostHello`](super::HostHello), host to guest, right after [`SYNC`].
    HostHello = 1,
    /// JSON [`Hello`](super::Hello), guest to host, right after [`SYNC`].
    Hello = 2,
    /// All but the last part of a JSON message that is longer than one frame.
    Part = 3,
    /// JSON [`Request`](super::Request), or the last part of one; host to guest.
    Request = 4,
    /// JSON [`Reply`](super::Reply), or the last part of one; guest to host.
    Reply = 5,
    /// JSON [`NumberedEvent`](super::message::NumberedEvent), or the last part of one; guest to host.
    Event = 6,
    /// Little-endian u64: every event up to this number has been stored by the host.
    Ack = 7,
    /// Bytes of a stream; each takes one byte of credit.
    Data = 8,
    /// The sender of this stream has no more bytes.
    End = 9,
    /// Little-endian u32: so many more bytes may be sent on this stream.
    Credit = 10,
    /// The host gives up a call; the guest kills what the call started.
    Cancel = 11,
    /// UTF-8 text: PID 1 is about to die of a bug. Follows [`SYNC`], outside any session.
    Panic = 12,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Empty,
            1 => Self::HostHello,
            2 => Self::Hello,
            3 => Self::Part,
            4 => Self::Request,
            5 => Self::Reply,
            6 => Self::Event,
            7 => Self::Ack,
            8 => Self::Data,
            9 => Self::End,
            10 => Self::Credit,
            11 => Self::Cancel,
            12 => Self::Panic,
            _ => return None,
        })
    }
}

/// One of the four streams of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The request and its replies.
    Control,
    /// Host to guest.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
}

/// Names a stream of a session: a call (below 2^22) and one of its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The stream of frames that belong to no call.
    pub const NONE: Self = Self(0);
    /// What the workload writes to its standard output; on the log port only.
    pub const LOG_STDOUT: Self = Self(2);
    /// What the workload writes to its standard error; on the log port only.
    pub const LOG_STDERR: Self = Self(3);
    /// Largest call number.
    pub const CALL_MAX: u32 = (STREAM_LIMIT >> 2) - 1;

    /// Returns the stream `channel` of `call`.
    ///
    /// # Panics
    /// When `call` is above [`CALL_MAX`](Self::CALL_MAX).
    pub fn new(call: u32, channel: Channel) -> Self {
        assert!(call <= Self::CALL_MAX, "call {call} does not fit a stream id");
        Self(
            call << 2
                | match channel {
                    Channel::Control => 0,
                    Channel::Stdin => 1,
                    Channel::Stdout => 2,
                    Channel::Stderr => 3,
                },
        )
    }

    /// Returns the call this stream belongs to; 0 for none.
    pub fn call(self) -> u32 {
        self.0 >> 2
    }

    /// Returns which of the call's streams this is.
    pub fn channel(self) -> Channel {
        match self.0 & 3 {
            0 => Channel::Control,
            1 => Channel::Stdin,
            2 => Channel::Stdout,
            _ => Channel::Stderr,
        }
    }
}

/// One frame, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// Which stream it belongs to.
    pub stream: StreamId,
    /// Its body, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// Why a byte stream cannot be read as frames. The reader is out of step until the next [`SYNC`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is beyond the limit.
    #[error("frame of {bytes} bytes, the limit is {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// The length field's value.
        bytes: u32,
    },
    /// The kind is none that this version knows.
    #[error("frame of unknown kind {kind}")]
    UnknownKind {
        /// The kind field's value.
        kind: u8,
    },
    /// The stream number is beyond the limit.
    #[error("frame of stream {stream}, the limit is {STREAM_LIMIT}")]
    StreamOutOfRange {
        /// The stream field's value.
        stream: u32,
    },
}

/// Appends one frame with a payload that cannot contain [`SYNC`]: text, or numbers whose last byte is small.
///
/// # Panics
/// When `payload` is longer than [`PAYLOAD_BYTES_MAX`].
pub fn encode(kind: FrameKind, stream: StreamId, payload: &[u8], out: &mut BytesMut) {
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "payload of {} bytes",
        payload.len()
    );
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.reserve(HEADER_BYTES + payload.len());
    out.put_u32_le(bytes);
    out.put_u8(kind as u8);
    out.put_u32_le(stream.0);
    out.put_slice(payload);
}

/// Appends `payload` as [`FrameKind::Data`] frames, cut so that [`SYNC`] never appears on the wire.
pub fn encode_data(stream: StreamId, mut payload: &[u8], out: &mut BytesMut) {
    while !payload.is_empty() {
        let window = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
        let end = match find(window, &SYNC[..SYNC_PREFIX_BYTES]) {
            Some(at) => at + SYNC_PREFIX_BYTES / 2,
            None => window.len(),
        };
        encode(FrameKind::Data, stream, &payload[..end], out);
        if payload[end - 1] >= SYNC_BYTE_MIN {
            encode(FrameKind::Empty, StreamId::NONE, &[], out);
        }
        payload = &payload[end..];
    }
}

/// What a [`Decoder`] found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// [`SYNC`]: whatever came before is void, the next frame is a hello or a panic.
    Sync,
    /// A whole frame.
    Frame(Frame),
}

/// Cuts received bytes into [`Item`]s.
///
/// Starts out of step: everything before the first [`SYNC`] is dropped. Holds at most one frame and what one
/// [`push`](Self::push) brought.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    in_step: bool,
    /// No [`SYNC`] begins in so many bytes at the buffer's start: they are not searched again.
    searched: usize,
    /// Where the first [`SYNC`] begins.
    sync_at: Option<usize>,
}

impl Decoder {
    /// Returns a decoder that waits for [`SYNC`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Drops what is buffered and waits for the next [`SYNC`].
    pub fn lose_step(&mut self) {
        *self = Self::default();
    }

    /// Returns the next item, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are no frame; the decoder then drops everything until the next [`SYNC`],
    /// which may already be in its buffer.
    pub fn next_item(&mut self) -> Result<Option<Item>, FrameError> {
        if self.sync_at.is_none() {
            self.sync_at = find(&self.buffer[self.searched..], &SYNC).map(|at| self.searched + at);
            let unfinished = SYNC.len() - 1;
            self.searched = self
                .sync_at
                .unwrap_or_else(|| self.buffer.len().saturating_sub(unfinished));
        }
        // Bytes that may turn out to be the start of a SYNC belong to no frame yet.
        let usable = self
            .sync_at
            .unwrap_or_else(|| self.buffer.len() - sync_tail_bytes(&self.buffer));
        if self.in_step {
            match self.parse(usable) {
                Ok(Some(frame)) => return Ok(Some(Item::Frame(frame))),
                Ok(None) => {}
                Err(error) => {
                    self.in_step = false;
                    return Err(error);
                }
            }
        }
        if let Some(at) = self.sync_at {
            self.drop_bytes(at + SYNC.len());
            self.in_step = true;
            return Ok(Some(Item::Sync));
        }
        if !self.in_step {
            self.drop_bytes(usable);
        }
        Ok(None)
    }

    fn drop_bytes(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.note_gone(bytes);
    }

    /// Moves what is known about the buffer along with its start.
    fn note_gone(&mut self, bytes: usize) {
        self.searched = self.searched.saturating_sub(bytes);
        self.sync_at = self.sync_at.and_then(|at| at.checked_sub(bytes));
    }

    fn parse(&mut self, usable: usize) -> Result<Option<Frame>, FrameError> {
        if usable < HEADER_BYTES {
            return Ok(None);
        }
        let mut header = &self.buffer[..HEADER_BYTES];
        let bytes = header.get_u32_le();
        let kind_byte = header.get_u8();
        let stream = header.get_u32_le();
        let length = bytes as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        let kind = FrameKind::from_byte(kind_byte).ok_or(FrameError::UnknownKind { kind: kind_byte })?;
        if stream >= STREAM_LIMIT {
            return Err(FrameError::StreamOutOfRange { stream });
        }
        if usable < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        self.note_gone(HEADER_BYTES + length);
        Ok(Some(Frame {
            kind,
            stream: StreamId(stream),
            payload,
        }))
    }
}

/// Returns how many bytes at the end of `bytes` are a proper prefix of [`SYNC`].
fn sync_tail_bytes(bytes: &[u8]) -> usize {
    // SYNC's first byte occurs in it once, so the last occurrence is the only candidate.
    let tail = &bytes[bytes.len().saturating_sub(SYNC.len() - 1)..];
    match tail.iter().rposition(|byte| *byte == SYNC[0]) {
        Some(at) if SYNC.starts_with(&tail[at..]) => tail.len() - at,
        Some(_) | None => 0,
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == needle[0]) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

const _: () = assert!(
    PAYLOAD_BYTES_MAX < 1 << 24,
    "the length's last byte must stay zero"
);

#[cfg(test)]
mod tests;
