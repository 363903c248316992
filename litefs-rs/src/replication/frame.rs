//! PURE. The frames of the stream from the primary to a replica. All numbers big endian.
//!
//! | type (4 bytes) | frame | payload |
//! |---:|---|---|
//! | 1 | an LTX file | 8 bytes that mean nothing, a database's name, then chunks |
//! | 2 | ready: every database was sent once | – |
//! | 3 | end | – |
//! | 4 | the primary does not have a database | its name |
//! | 5 | handoff | the id of the lease, as a name |
//! | 6 | high-water mark: how far backups have come | 8 bytes of transaction, a database's name |
//! | 7 | heartbeat | milliseconds since 1970 in 8 bytes |
//!
//! A name is its length in 4 bytes, and its bytes. A chunk is its length in 2 bytes, and its bytes; one of length 0 ends the
//! file, and the next frame follows.

mod error;
mod reader;

pub use error::FrameError;
pub(super) use reader::text as read_text;
pub use reader::{FrameReader, Received};

use std::io::{self, Write};

use bytes::BufMut as _;
use ltx::Txid;

use crate::name::DatabaseName;

/// The id of a lease may not be longer, in bytes.
pub const LEASE_BYTES_MAX: usize = 1024;

/// A database of a peer may not have a longer name, in bytes: no file has.
pub const PEER_NAME_BYTES_MAX: usize = 255;

const LTX: u32 = 1;
const READY: u32 = 2;
const END: u32 = 3;
const NO_DATABASE: u32 = 4;
const HANDOFF: u32 = 5;
const HIGH_WATER_MARK: u32 = 6;
const HEARTBEAT: u32 = 7;

/// The longest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = u16::MAX as usize;

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An LTX file begins; its bytes follow through [`Chunks`].
    Ltx {
        /// Of which database.
        database: DatabaseName,
    },
    /// Every database was sent once.
    Ready,
    /// Nothing more comes.
    End,
    /// The primary does not have a database.
    NoDatabase {
        /// Which one.
        database: DatabaseName,
    },
    /// The lease goes to the replica.
    Handoff {
        /// Its id.
        lease: String,
    },
    /// Backups have come so far.
    HighWaterMark {
        /// The last transaction of theirs.
        txid: Txid,
        /// Of which database.
        database: DatabaseName,
    },
    /// The primary is there.
    Heartbeat {
        /// Its time, in milliseconds since 1970.
        timestamp_ms: i64,
    },
}

impl Frame {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ltx { database } => {
                out.put_u32(LTX);
                out.put_u64(0);
                put_name(out, database.as_str());
            }
            Self::Ready => out.put_u32(READY),
            Self::End => out.put_u32(END),
            Self::NoDatabase { database } => {
                out.put_u32(NO_DATABASE);
                put_name(out, database.as_str());
            }
            Self::Handoff { lease } => {
                out.put_u32(HANDOFF);
                put_name(out, lease);
            }
            Self::HighWaterMark { txid, database } => {
                out.put_u32(HIGH_WATER_MARK);
                out.put_u64(txid.get());
                put_name(out, database.as_str());
            }
            Self::Heartbeat { timestamp_ms } => {
                out.put_u32(HEARTBEAT);
                out.put_i64(*timestamp_ms);
            }
        }
    }
}

/// Appends a name with its length.
///
/// * `name`: shorter than 4 GiB, as every name and every id is.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    out.put_u32(u32::try_from(name.len()).expect("a name is shorter than 4 GiB"));
    out.extend_from_slice(name.as_bytes());
}

/// Writes the bytes of an LTX file as chunks.
#[derive(Debug)]
pub struct Chunks<W> {
    out: W,
}

impl<W: Write> Chunks<W> {
    /// Begins, after the frame that announced the file.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2])?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES_MAX)];
        // One without bytes would end the file.
        if let Ok(len) = u16::try_from(chunk.len())
            && len > 0
        {
            self.out.write_all(&len.to_be_bytes())?;
            self.out.write_all(chunk)?;
        }
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
