//! PURE. Frames out of bytes as they come.

use bytes::{Buf as _, Bytes, BytesMut};
use ltx::Txid;

use super::{
    END, FrameError, HANDOFF, HEARTBEAT, HIGH_WATER_MARK, LEASE_BYTES_MAX, LTX, NO_DATABASE,
    PEER_NAME_BYTES_MAX, READY,
};

/// What a replica reads. Databases are called as the primary calls them: nobody has looked at the names yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An LTX file begins.
    LtxBegins {
        /// Of which database.
        database: String,
    },
    /// It goes on. It is not checked yet.
    LtxBytes(Bytes),
    /// It ends.
    LtxEnds,
    /// Every database was sent once.
    Ready,
    /// Nothing more comes.
    End,
    /// The primary does not have a database.
    NoDatabase {
        /// Which one.
        database: String,
    },
    /// The lease comes to us.
    Handoff {
        /// Its id.
        lease: String,
    },
    /// Backups have come so far.
    HighWaterMark {
        /// The last transaction of theirs.
        txid: Txid,
        /// Of which database.
        database: String,
    },
    /// The primary is there.
    Heartbeat {
        /// Its time, in milliseconds since 1970.
        timestamp_ms: i64,
    },
}

/// Reads a stream. Memory does not depend on what is in it: of a file only what has come is held.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// A frame begins.
    #[default]
    Frame,
    /// A chunk's length follows.
    Chunk,
    /// So many bytes of a chunk follow.
    ChunkBytes(usize),
    Ended,
    Broken,
}

impl FrameReader {
    /// Takes bytes and says what they are.
    ///
    /// # Errors
    /// They are no stream; what came before the error is in `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Received>) -> Result<(), FrameError> {
        self.buffer.extend_from_slice(bytes);
        let state = std::mem::replace(&mut self.state, State::Broken);
        self.state = self.read(state, out)?;
        Ok(())
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// It may not.
    pub fn end(&self) -> Result<(), FrameError> {
        match self.state {
            State::Ended => Ok(()),
            State::Frame if self.buffer.is_empty() => Ok(()),
            State::Frame | State::Chunk | State::ChunkBytes(_) => Err(FrameError::Truncated),
            State::Broken => Err(FrameError::Broken),
        }
    }

    /// Reads as much as is there, and returns the state then.
    fn read(&mut self, mut state: State, out: &mut Vec<Received>) -> Result<State, FrameError> {
        loop {
            match state {
                State::Frame => {
                    let Some((received, len)) = frame(&self.buffer)? else {
                        return Ok(state);
                    };
                    self.buffer.advance(len);
                    state = match received {
                        Received::LtxBegins { .. } => State::Chunk,
                        Received::End => State::Ended,
                        Received::LtxBytes(_)
                        | Received::LtxEnds
                        | Received::Ready
                        | Received::NoDatabase { .. }
                        | Received::Handoff { .. }
                        | Received::HighWaterMark { .. }
                        | Received::Heartbeat { .. } => State::Frame,
                    };
                    out.push(received);
                }
                State::Chunk => {
                    let Ok(len) = (&self.buffer[..]).try_get_u16() else {
                        return Ok(state);
                    };
                    self.buffer.advance(2);
                    state = if len == 0 {
                        out.push(Received::LtxEnds);
                        State::Frame
                    } else {
                        State::ChunkBytes(usize::from(len))
                    };
                }
                State::ChunkBytes(left) => {
                    let here = left.min(self.buffer.len());
                    if here == 0 {
                        return Ok(state);
                    }
                    out.push(Received::LtxBytes(self.buffer.split_to(here).freeze()));
                    state = if here == left {
                        State::Chunk
                    } else {
                        State::ChunkBytes(left - here)
                    };
                }
                State::Ended if self.buffer.is_empty() => return Ok(state),
                State::Ended => return Err(FrameError::AfterEnd),
                State::Broken => return Err(FrameError::Broken),
            }
        }
    }
}

/// Reads a frame from the beginning of `buffer`, and says how long it is; nothing when it is not all there.
fn frame(buffer: &[u8]) -> Result<Option<(Received, usize)>, FrameError> {
    let mut fields = buffer;
    let Ok(kind) = fields.try_get_u32() else {
        return Ok(None);
    };
    let received = match kind {
        LTX => match fields.try_get_u64() {
            Ok(_size) => database(&mut fields)?.map(|database| Received::LtxBegins { database }),
            Err(_) => None,
        },
        READY => Some(Received::Ready),
        END => Some(Received::End),
        NO_DATABASE => database(&mut fields)?.map(|database| Received::NoDatabase { database }),
        HANDOFF => {
            text(&mut fields, "the id of a lease", LEASE_BYTES_MAX)?.map(|lease| Received::Handoff { lease })
        }
        HIGH_WATER_MARK => match fields.try_get_u64() {
            Ok(txid) => database(&mut fields)?.map(|database| Received::HighWaterMark {
                txid: Txid::new(txid),
                database,
            }),
            Err(_) => None,
        },
        HEARTBEAT => fields
            .try_get_i64()
            .ok()
            .map(|timestamp_ms| Received::Heartbeat { timestamp_ms }),
        kind => return Err(FrameError::Type(kind)),
    };
    Ok(received.map(|received| (received, buffer.len() - fields.len())))
}

fn database(fields: &mut &[u8]) -> Result<Option<String>, FrameError> {
    text(fields, "the name of a database", PEER_NAME_BYTES_MAX)
}

/// Reads a name; nothing when it is not all there.
pub(in crate::replication) fn text(
    fields: &mut &[u8],
    what: &'static str,
    max: usize,
) -> Result<Option<String>, FrameError> {
    let Ok(bytes) = fields.try_get_u32() else {
        return Ok(None);
    };
    let len = bytes as usize;
    if len > max {
        return Err(FrameError::Long { what, bytes, max });
    }
    let Some((name, rest)) = fields.split_at_checked(len) else {
        return Ok(None);
    };
    *fields = rest;
    let name = std::str::from_utf8(name).map_err(|_| FrameError::Text { what })?;
    Ok(Some(name.to_owned()))
}
