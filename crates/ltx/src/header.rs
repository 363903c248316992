//! PURE. The first 100 bytes of a file.

use crate::{
    Checksum, FileName, NodeId, PageSize, Pos, Txid, Version,
    fields::{Fields, Sink},
};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 100;

const MAGIC: &[u8; 4] = b"LTX1";

/// What the header's flag word says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Version 1: the page block is plain. Version 3: checksums of the database are kept.
    pub const NONE: Self = Self(0);
    /// Version 1: the page block is one LZ4 frame.
    pub const LZ4: Self = Self(1);
    /// Version 3: no checksums of the database are kept.
    pub const NO_CHECKSUM: Self = Self(2);

    /// Returns the word as it stands in the file.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Says whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The part of SQLite's write-ahead log that a file was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalSpan {
    /// Where the transaction's first frame begins; 32 for the first one in a log. Never 0, at most `i64::MAX`.
    pub offset_bytes: u64,
    /// Bytes of its frames. Not 0 in version 1, at most `i64::MAX`.
    pub size_bytes: u64,
    /// First salt of the log's header.
    pub salt1: u32,
    /// Second salt of the log's header.
    pub salt2: u32,
}

/// What a file says of itself before its pages. All numbers big endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `LTX1` |
/// | 4 | 4 | flags |
/// | 8 | 4 | page size in bytes |
/// | 12 | 4 | commit: pages of the database afterwards |
/// | 16 | 8 | first transaction |
/// | 24 | 8 | last transaction |
/// | 32 | 8 | time, in milliseconds since 1970 |
/// | 40 | 8 | pre-apply checksum |
/// | 48 | 8 | offset in the write-ahead log |
/// | 56 | 8 | bytes of the write-ahead log |
/// | 64 | 4 | first salt |
/// | 68 | 4 | second salt |
/// | 72 | 8 | node |
/// | 80 | 20 | zeros; not looked at when read |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How the rest is to be read.
    pub flags: Flags,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Pages of the database afterwards; 0 when the file deletes it.
    pub commit_pages: u32,
    /// First transaction in the file; 1 makes it a snapshot.
    pub min_txid: Txid,
    /// Last transaction in the file.
    pub max_txid: Txid,
    /// When it was made, in milliseconds since 1970, by the clock of its maker.
    pub timestamp_ms: i64,
    /// The database's checksum before; none exactly for a snapshot, and where checksums are not kept.
    pub pre_apply: Checksum,
    /// What of the write-ahead log it holds; nothing for other origins.
    pub wal: Option<WalSpan>,
    /// Who made it.
    pub node: NodeId,
}

impl Header {
    /// Says whether the file holds a whole database rather than a change of one.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.min_txid == Txid::FIRST
    }

    /// Says whether the database's checksums are kept.
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        !self.flags.contains(Flags::NO_CHECKSUM)
    }

    /// Returns where a database must be before the file is applied to it.
    #[must_use]
    pub fn pre_apply_pos(&self) -> Pos {
        Pos {
            txid: self.min_txid.previous().unwrap_or_default(),
            checksum: self.pre_apply,
        }
    }

    /// Returns the name of a file with this header.
    #[must_use]
    pub fn file_name(&self) -> FileName {
        FileName {
            min: self.min_txid,
            max: self.max_txid,
        }
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// The first rule of the version that it breaks.
    pub fn decode(bytes: &[u8; HEADER_BYTES], version: Version) -> Result<Self, HeaderError> {
        let mut fields = Fields::new(bytes);
        if &fields.take::<4>() != MAGIC {
            return Err(HeaderError::Magic);
        }
        let flags = Flags(fields.u32());
        check_flags(flags, version)?;
        let page_bytes = fields.u32();
        let page_size = PageSize::new(page_bytes).ok_or(HeaderError::PageSize { bytes: page_bytes })?;
        let header = Self {
            flags,
            page_size,
            commit_pages: fields.u32(),
            min_txid: Txid::new(fields.u64()),
            max_txid: Txid::new(fields.u64()),
            timestamp_ms: fields.i64(),
            pre_apply: Checksum::from_bits(fields.u64()),
            wal: decode_wal(&mut fields)?,
            node: NodeId::new(fields.u64()),
        };
        header.check(version)?;
        Ok(header)
    }

    /// Returns the header's bytes. Whoever writes them has checked it.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut sink = Sink::new(&mut bytes);
        sink.put(MAGIC);
        sink.put(&self.flags.0.to_be_bytes());
        sink.put(&self.page_size.bytes().to_be_bytes());
        sink.put(&self.commit_pages.to_be_bytes());
        sink.put(&self.min_txid.get().to_be_bytes());
        sink.put(&self.max_txid.get().to_be_bytes());
        sink.put(&self.timestamp_ms.to_be_bytes());
        sink.put(&self.pre_apply.bits().to_be_bytes());
        let wal = self.wal.unwrap_or(WalSpan {
            offset_bytes: 0,
            size_bytes: 0,
            salt1: 0,
            salt2: 0,
        });
        sink.put(&wal.offset_bytes.to_be_bytes());
        sink.put(&wal.size_bytes.to_be_bytes());
        sink.put(&wal.salt1.to_be_bytes());
        sink.put(&wal.salt2.to_be_bytes());
        sink.put(&self.node.get().to_be_bytes());
        bytes
    }

    /// Checks it against the rules of a version.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, version: Version) -> Result<(), HeaderError> {
        check_flags(self.flags, version)?;
        if self.min_txid == Txid::ZERO || self.max_txid < self.min_txid {
            return Err(HeaderError::Txids {
                min: self.min_txid,
                max: self.max_txid,
            });
        }
        if let Some(wal) = self.wal {
            check_wal(wal, version)?;
        }
        let pre_apply = self.pre_apply;
        if self.is_snapshot() || !self.has_checksums() {
            if !pre_apply.is_none() {
                return Err(HeaderError::PreApplyForbidden { pre_apply });
            }
        } else if !pre_apply.has_flag() {
            return Err(HeaderError::PreApplyMissing { pre_apply });
        }
        Ok(())
    }
}

fn check_flags(flags: Flags, version: Version) -> Result<(), HeaderError> {
    let known = match version {
        Version::V1 => Flags::LZ4,
        Version::V3 => Flags::NO_CHECKSUM,
    };
    if known.contains(flags) {
        Ok(())
    } else {
        Err(HeaderError::Flags { flags: flags.0 })
    }
}

fn decode_wal(fields: &mut Fields<'_>) -> Result<Option<WalSpan>, HeaderError> {
    let wal = WalSpan {
        offset_bytes: fields.u64(),
        size_bytes: fields.u64(),
        salt1: fields.u32(),
        salt2: fields.u32(),
    };
    if wal.offset_bytes != 0 {
        return Ok(Some(wal));
    }
    if wal.size_bytes != 0 || wal.salt1 != 0 || wal.salt2 != 0 {
        return Err(HeaderError::Wal { wal });
    }
    Ok(None)
}

fn check_wal(wal: WalSpan, version: Version) -> Result<(), HeaderError> {
    let fits = |bytes: u64| i64::try_from(bytes).is_ok();
    let has_size = wal.size_bytes != 0 || version == Version::V3;
    if wal.offset_bytes != 0 && has_size && fits(wal.offset_bytes) && fits(wal.size_bytes) {
        Ok(())
    } else {
        Err(HeaderError::Wal { wal })
    }
}

/// Which rule a header breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first four bytes are not `LTX1`.
    #[error("not an ltx file")]
    Magic,
    /// Flags are set that the version does not have.
    #[error("flags {flags:#010x} that this version does not have")]
    Flags {
        /// The whole word.
        flags: u32,
    },
    /// SQLite has no such page size.
    #[error("page size {bytes}")]
    PageSize {
        /// What stands there.
        bytes: u32,
    },
    /// The range of transactions is empty or begins at 0.
    #[error("transactions {min} to {max}")]
    Txids {
        /// The first.
        min: Txid,
        /// The last.
        max: Txid,
    },
    /// Offset, size and salts of the write-ahead log do not go together, or are negative.
    #[error(
        "write-ahead log offset {} size {} salts {:08x} {:08x}",
        .wal.offset_bytes,
        .wal.size_bytes,
        .wal.salt1,
        .wal.salt2
    )]
    Wal {
        /// What stands there.
        wal: WalSpan,
    },
    /// A snapshot, or a file that keeps no checksums, has a pre-apply checksum.
    #[error("pre-apply checksum {pre_apply} where none belongs")]
    PreApplyForbidden {
        /// What stands there.
        pre_apply: Checksum,
    },
    /// A file that needs one has no pre-apply checksum, or one without its flag.
    #[error("pre-apply checksum {pre_apply} is none")]
    PreApplyMissing {
        /// What stands there.
        pre_apply: Checksum,
    },
}

#[cfg(test)]
mod tests;
