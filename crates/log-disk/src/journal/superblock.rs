//! PURE. The superblock: where the journal begins and who writes it.

use super::PAGE_BYTES;
use crate::fields::{Fields, Sink, begin, check_crc};
use crate::{DiskId, Epoch, Flaw, JournalId, Seq};

const MAGIC: [u8; 4] = *b"HGJS";
const VERSION: u16 = 1;
const CRC_AT: usize = PAGE_BYTES - 4;

/// One page. Each revision is written into page 0 of the slice, and into page 1 once it is durable there; the sound one with the
/// higher revision counts. So either page alone is enough, whatever happens to the other. Little endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `HGJS` |
/// | 4 | 2 | version, 1 |
/// | 6 | 2 | 0 |
/// | 8 | 16 | disk |
/// | 24 | 16 | journal, drawn when it was formatted |
/// | 40 | 8 | revision: +1 each |
/// | 48 | 8 | pages of the ring |
/// | 56 | 4 | epoch that writes here |
/// | 60 | 4 | epoch that it is about to become, else 0 |
/// | 64 | 8 | position of the oldest record that is needed |
/// | 72 | 8 | its seq |
/// | 80 | 4 | no record of an earlier epoch counts |
/// | 84 | 4 | CRC of the record before it |
/// | 88 | 8 | seq up to which the journal was durable when this was written |
/// | 96 | | 0 |
/// | 4092 | 4 | CRC-32 of the bytes 0..4092 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Whose journal it is.
    pub disk: DiskId,
    /// Which journal it is.
    pub journal: JournalId,
    /// +1 at each write of a superblock.
    pub revision: u64,
    /// Pages of the ring.
    pub ring_pages: u64,
    /// The epoch that writes here.
    pub epoch: Epoch,
    /// The epoch that is being claimed from here; 0 for none.
    pub adopting: Epoch,
    /// Where replay begins.
    pub tail_position: u64,
    /// With which record.
    pub tail_seq: Seq,
    /// No record of an earlier epoch counts.
    pub tail_epoch: Epoch,
    /// What that record must carry as its predecessor's CRC.
    pub tail_crc: u32,
    /// A journal that ends before this is damaged, not torn.
    pub durable_seq: Seq,
}

impl Superblock {
    /// Makes the page.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_BYTES);
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put(&self.disk.0);
        out.put(&self.journal.0);
        out.put_u64(self.revision);
        out.put_u64(self.ring_pages);
        out.put_u32(self.epoch.0);
        out.put_u32(self.adopting.0);
        out.put_u64(self.tail_position);
        out.put_u64(self.tail_seq.0);
        out.put_u32(self.tail_epoch.0);
        out.put_u32(self.tail_crc);
        out.put_u64(self.durable_seq.0);
        out.resize(CRC_AT, 0);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn decode(page: &[u8]) -> Result<Self, Flaw> {
        let page = page.get(..PAGE_BYTES).ok_or(Flaw::Cut)?;
        let mut fields = Fields::new(page);
        begin(&mut fields, MAGIC, VERSION)?;
        check_crc(page)?;
        let mut read = || {
            fields.u16()?;
            Some(Self {
                disk: DiskId(fields.array()?),
                journal: JournalId(fields.array()?),
                revision: fields.u64()?,
                ring_pages: fields.u64()?,
                epoch: Epoch(fields.u32()?),
                adopting: Epoch(fields.u32()?),
                tail_position: fields.u64()?,
                tail_seq: Seq(fields.u64()?),
                tail_epoch: Epoch(fields.u32()?),
                tail_crc: fields.u32()?,
                durable_seq: Seq(fields.u64()?),
            })
        };
        let superblock = read().ok_or(Flaw::Cut)?;
        if superblock.ring_pages == 0 || superblock.tail_position >= 1 << 56 {
            return Err(Flaw::Fields);
        }
        Ok(superblock)
    }
}

/// Returns the superblock that counts, of the slice's first two pages.
///
/// # Errors
/// The second page's [`Flaw`] when neither is sound; an unknown version or another kind before a torn page.
pub fn newest_superblock(pages: [&[u8]; 2]) -> Result<Superblock, Flaw> {
    match pages.map(Superblock::decode) {
        [Ok(first), Ok(second)] if first.revision > second.revision => Ok(first),
        [_, Ok(second)] => Ok(second),
        [Ok(first), Err(_)] => Ok(first),
        [Err(version @ Flaw::Version { .. }), Err(_)] => Err(version),
        [Err(_), Err(flaw)] => Err(flaw),
    }
}
