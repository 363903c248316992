//! What can be wrong with a stored object, by name.

use objstore::{GetError, Key, Remedy};

use crate::keys::{UnwrapError, WrappedKeyError};

/// An object that is not what was stored, and how that shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object {object}: {flaw}")]
pub struct Damage {
    /// The object.
    pub object: Key,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// How an object differs from what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It is gone.
    #[error("missing")]
    Missing,
    /// It was shortened or has grown.
    #[error("{found_bytes} bytes long, should be {expected_bytes}")]
    Length {
        /// As its header says.
        expected_bytes: u64,
        /// As it is.
        found_bytes: u64,
    },
    /// It does not begin as such an object does.
    #[error("its magic number is wrong")]
    Magic,
    /// A newer program wrote it, or its version was changed.
    #[error("format version {version}, this program reads 1")]
    Version {
        /// The version found.
        version: u16,
    },
    /// The header's CRC is wrong.
    #[error("its header is damaged")]
    Header,
    /// The header is whole, but was not written for this key of this volume.
    #[error("its header does not authenticate: it is another object's, or was forged")]
    HeaderSeal,
    /// A frame does not open.
    #[error("frame {frame} is damaged")]
    Frame {
        /// Which of the block's 64.
        frame: usize,
    },
    /// Every frame opens, but the block is not the one its address says.
    #[error("its content does not have its address")]
    Content,
    /// All but the CRC at the end is right.
    #[error("its trailing checksum is damaged")]
    Trailer,
    /// A manifest's facts do not open.
    #[error("its facts are damaged")]
    Facts,
    /// A manifest's block list does not open.
    #[error("its block list is damaged")]
    Blocks,
    /// A manifest's wrapped key is unreadable.
    #[error(transparent)]
    WrappedKey(#[from] WrappedKeyError),
    /// A manifest's wrapped key does not open.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// The store itself noticed that the bytes are not those of the put.
    #[error("the store's own checksum does not match")]
    StoreChecksum,
}

impl Damage {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match &self.flaw {
            Flaw::Unwrap(source) => source.remedy(),
            Flaw::Version { .. } | Flaw::WrappedKey(WrappedKeyError::Version { .. }) => Remedy::FixRequest,
            Flaw::Missing
            | Flaw::Length { .. }
            | Flaw::Magic
            | Flaw::Header
            | Flaw::HeaderSeal
            | Flaw::Frame { .. }
            | Flaw::Content
            | Flaw::Trailer
            | Flaw::Facts
            | Flaw::Blocks
            | Flaw::WrappedKey(_)
            | Flaw::StoreChecksum => Remedy::FixData,
        }
    }
}

/// Tells a damaged object from a store that did not answer.
pub(super) fn classify(error: GetError) -> Result<Damage, GetError> {
    match error {
        GetError::NotFound { key } => Ok(Damage {
            object: key,
            flaw: Flaw::Missing,
        }),
        GetError::Corrupt { key, .. } => Ok(Damage {
            object: key,
            flaw: Flaw::StoreChecksum,
        }),
        GetError::Refused { key, source } if source.is_damage() => Ok(Damage {
            object: key,
            flaw: Flaw::StoreChecksum,
        }),
        GetError::OutOfRange {
            key,
            end,
            total_bytes,
            ..
        } => Ok(Damage {
            object: key,
            flaw: Flaw::Length {
                expected_bytes: end,
                found_bytes: total_bytes,
            },
        }),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
