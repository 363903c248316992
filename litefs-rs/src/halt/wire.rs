//! PURE. What nodes say to each other of a write lock.
//!
//! | request | parameters | answer |
//! |---|---|---|
//! | `POST /halt` | `name`, `id` | [`Answer`]; for an `id` that has the lock, the same again |
//! | `DELETE /halt` | `name`, `id` | nothing, also where it is not held |
//! | `POST /tx` | `name`, `lockID`; an LTX file | nothing: it counts |

use std::time::Duration;

use http::HeaderMap;
use ltx::Pos;
use serde::{Deserialize, Serialize};

use crate::http_client::encoded;

/// In an answer: for how many milliseconds the lock is had, from when it was asked for, unless it is [renewed](RENEWS). Nodes of LiteFS
/// say nothing: there it is had for [`LITEFS_LASTS`].
pub const LASTS_MS: &str = "Litefs-Halt-Lasts-Ms";
/// In a request: only who has the lock already is to have it, and has it from now on. Only where [`LASTS_MS`] was said.
pub const RENEWS: &str = "Litefs-Halt-Renews";
/// How long a lock of LiteFS lasts.
pub const LITEFS_LASTS: Duration = Duration::from_secs(30);

/// A lock, as the primary tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its number, which the asker has chosen.
    pub id: i64,
    /// Where the database was when it was granted.
    pub pos: Pos,
    /// When it ends, by the primary's clock on the wall.
    pub expires: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    id: i64,
    pos: WrittenPos,
    expires: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenPos {
    #[serde(rename = "TXID")]
    txid: String,
    #[serde(rename = "PostApplyChecksum")]
    checksum: String,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no JSON, or another's.
    #[error("a halt lock in json")]
    Json(#[from] serde_json::Error),
    /// Its position is none.
    #[error("'{0}' is no position")]
    Pos(String),
}

impl Answer {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> String {
        let written = Written {
            id: self.id,
            pos: WrittenPos {
                txid: self.pos.txid.to_string(),
                checksum: self.pos.checksum.to_string(),
            },
            expires: self.expires.clone(),
        };
        // Strings and a number: there is nothing that could not be written.
        serde_json::to_string(&written).unwrap_or_default() + "\n"
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, AnswerError> {
        let Written { id, pos, expires } = serde_json::from_slice(bytes)?;
        let text = format!("{}/{}", pos.txid, pos.checksum);
        let pos = text.parse().map_err(|_| AnswerError::Pos(text))?;
        Ok(Self { id, pos, expires })
    }
}

/// Returns the path by which a lock is taken and given back.
#[must_use]
pub fn halt_path(database: &str, id: i64) -> String {
    format!("/halt?id={id}&name={}", encoded(database))
}

/// Returns the path by which a transaction is brought.
#[must_use]
pub fn tx_path(database: &str, id: i64) -> String {
    format!("/tx?lockID={id}&name={}", encoded(database))
}

/// Returns how long a lock lasts by what was said of it; nothing where nothing was said.
#[must_use]
pub fn lasts(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(LASTS_MS)?.to_str().ok()?;
    said.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
