//! PURE. The last 16 bytes of a file.

use crate::{
    Checksum, Header,
    fields::{Fields, Sink},
};

/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 16;

/// What a file says of itself after its pages. Both numbers big endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 8 | post-apply checksum |
/// | 8 | 8 | file checksum: of everything before it, as it was before compression |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The database's checksum after the file was applied; none where checksums are not kept.
    pub post_apply: Checksum,
    /// The checksum of the file.
    pub file: Checksum,
}

impl Trailer {
    /// Reads a trailer. Whether it is right, the file before it shows.
    #[must_use]
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Self {
        let mut fields = Fields::new(bytes);
        Self {
            post_apply: Checksum::from_bits(fields.u64()),
            file: Checksum::from_bits(fields.u64()),
        }
    }

    /// Returns the trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        let mut sink = Sink::new(&mut bytes);
        sink.put(&self.post_apply.bits().to_be_bytes());
        sink.put(&self.file.bits().to_be_bytes());
        bytes
    }
}

/// Checks the post-apply checksum of a file: against `pages`, that of its pages, if the file is a snapshot, whose pages
/// are the whole database.
pub(crate) fn check_post_apply(
    header: &Header,
    post_apply: Checksum,
    pages: Checksum,
) -> Result<(), PostApplyError> {
    if !header.has_checksums() {
        return if post_apply.is_none() {
            Ok(())
        } else {
            Err(PostApplyError::Forbidden { post_apply })
        };
    }
    if !post_apply.has_flag() {
        return Err(PostApplyError::Missing { post_apply });
    }
    let expected = match (header.commit_pages, header.is_snapshot()) {
        (0, _) => Checksum::EMPTY_DATABASE,
        (_, true) => pages,
        (_, false) => return Ok(()),
    };
    if post_apply == expected {
        Ok(())
    } else {
        Err(PostApplyError::Differs { post_apply, expected })
    }
}

/// What is wrong with a post-apply checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostApplyError {
    /// The file keeps no checksums.
    #[error("post-apply checksum {post_apply} where none belongs")]
    Forbidden {
        /// What is there.
        post_apply: Checksum,
    },
    /// There is none, or one without its flag.
    #[error("post-apply checksum {post_apply} is none")]
    Missing {
        /// What is there.
        post_apply: Checksum,
    },
    /// It is not that of the pages, nor, for a deletion, that of no pages.
    #[error("post-apply checksum {post_apply}, but the pages give {expected}")]
    Differs {
        /// What is there.
        post_apply: Checksum,
        /// What follows from the pages.
        expected: Checksum,
    },
}
