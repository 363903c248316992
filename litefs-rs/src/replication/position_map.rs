//! PURE. Where a replica's databases stand: the body of its request for the stream.
//!
//! The number of databases in 4 bytes; for each, sorted by name, the name with its length in 4 bytes, the transaction in 8, the
//! checksum in 8. All numbers big endian.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _};
use ltx::{Checksum, Pos, Txid};

use super::frame::{FrameError, PEER_NAME_BYTES_MAX, put_name, read_text};
use crate::name::DatabaseName;

/// Positions by database.
pub type PositionMap = BTreeMap<DatabaseName, Pos>;

/// Returns the bytes of a map.
#[must_use]
pub fn encode(positions: &PositionMap) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(u32::try_from(positions.len()).expect("fewer than 2^32 databases"));
    for (database, pos) in positions {
        put_name(&mut out, database.as_str());
        out.put_u64(pos.txid.get());
        out.put_u64(pos.checksum.bits());
    }
    out
}

/// Reads a map. Of a name that comes twice the last position counts; databases that none of ours can be called after are left
/// out, as there is nothing to send of them.
///
/// # Errors
/// The bytes are none, or more than one.
pub fn decode(mut bytes: &[u8]) -> Result<PositionMap, FrameError> {
    let mut positions = PositionMap::new();
    let count = bytes.try_get_u32().map_err(|_| FrameError::Truncated)?;
    for _ in 0..count {
        let name = read_text(&mut bytes, "the name of a database", PEER_NAME_BYTES_MAX)?
            .ok_or(FrameError::Truncated)?;
        let txid = bytes.try_get_u64().map_err(|_| FrameError::Truncated)?;
        let checksum = bytes.try_get_u64().map_err(|_| FrameError::Truncated)?;
        let pos = Pos {
            txid: Txid::new(txid),
            checksum: Checksum::from_bits(checksum),
        };
        if let Ok(database) = name.parse() {
            positions.insert(database, pos);
        }
    }
    if bytes.is_empty() {
        Ok(positions)
    } else {
        Err(FrameError::AfterEnd)
    }
}

#[cfg(test)]
mod tests;
