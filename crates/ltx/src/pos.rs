//! PURE. The position of a database.

use std::{fmt, str::FromStr};

use crate::{Checksum, Txid, txid::ParseHexError};

/// How far a database has come: its last transaction and its checksum after it.
///
/// As text `<txid>/<checksum>`, each 16 hexadecimal digits: 33 characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pos {
    /// The last transaction; [`Txid::ZERO`] before the first.
    pub txid: Txid,
    /// The database's checksum after it; [`Checksum::NONE`] before the first.
    pub checksum: Checksum,
}

impl Pos {
    /// Before the first transaction.
    pub const ZERO: Self = Self {
        txid: Txid::ZERO,
        checksum: Checksum::NONE,
    };
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.txid, self.checksum)
    }
}

impl FromStr for Pos {
    type Err = ParsePosError;

    fn from_str(text: &str) -> Result<Self, ParsePosError> {
        let (txid, checksum) = text.split_once('/').ok_or(ParsePosError::Slash)?;
        Ok(Self {
            txid: txid.parse().map_err(ParsePosError::Txid)?,
            checksum: checksum.parse().map_err(ParsePosError::Checksum)?,
        })
    }
}

/// Why a position could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePosError {
    /// No slash stands between the two halves.
    #[error("a position is `txid/checksum`")]
    Slash,
    /// The first half is no transaction number.
    #[error("the transaction of a position")]
    Txid(#[source] ParseHexError),
    /// The second half is no checksum.
    #[error("the checksum of a position")]
    Checksum(#[source] ParseHexError),
}
