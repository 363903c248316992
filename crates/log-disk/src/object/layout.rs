//! PURE. What stands in front of an object.

use std::ops::Range;

use super::{EXTENT_BLOCKS_MAX, EXTENTS_MAX};
use crate::compression::{Codec, decompress};
use crate::fields::{Fields, Sink, begin, check_crc};
use crate::seal::{Kind, Place, Salt, Sealer, TAG_BYTES};
use crate::units::LBA_END;
use crate::{BLOCK_BYTES, DiskId, Epoch, Flaw, Lba, ObjectSeq, Seq};

const MAGIC: [u8; 4] = *b"HGDO";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 96;
const ENTRY_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
/// Most bytes of a wrapped key.
const WRAPPED_BYTES_MAX: usize = 255;

/// How much of an object a reader asks for first: it holds all but the longest tables.
pub const PREFIX_BYTES: u64 = 64 << 10;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ObjectKind {
    /// What was written, first-hand; key `d/`.
    Data = 1,
    /// What is left of older objects; key `g/`.
    Gc = 2,
}

/// The front of an object; little endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `HGDO` |
/// | 4 | 2 | version, 1 |
/// | 6 | 1 | kind: 1 data, 2 GC |
/// | 7 | 1 | bytes of the wrapped key |
/// | 8 | 16 | disk |
/// | 24 | 4 | epoch |
/// | 28 | 4 | extents |
/// | 32 | 8 | seq |
/// | 40 | 8 | seq of the data object before, 0 for the first; 0 for GC |
/// | 48 | 8 | last journal seq that it and those before it cover; 0 for GC |
/// | 56 | 8 | size of the disk in blocks, once it counts; 0 for GC |
/// | 64 | 8 | bytes of the whole object |
/// | 72 | 8 | salt |
/// | 80 | 16 | 0 |
/// | 96 | | wrapped data key |
/// | | 24 each, and 16 | the table, sealed: part 0, with everything before it as additional data |
/// | | 4 | CRC-32 of everything before |
/// | | | the stored bytes of each extent, one after the other |
/// | end − 4 | 4 | CRC-32 of everything before |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHeader {
    /// What it is.
    pub kind: ObjectKind,
    /// Whose it is.
    pub disk: DiskId,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Its number.
    pub seq: ObjectSeq,
    /// The data object before it.
    pub previous: ObjectSeq,
    /// The last journal record that it covers.
    pub journal_seq: Seq,
    /// The disk's size in blocks.
    pub size_blocks: u64,
    /// Of the opening that wrote it.
    pub salt: Salt,
    /// The data key, wrapped by the cluster's.
    pub wrapped_key: Vec<u8>,
}

/// One run of blocks of an object.
///
/// In the table: LBA (6), codec (1), 0 (1), blocks (4), stored bytes (4), for GC the seq of the data object that wrote it
/// first, else 0 (8). Codecs: 0 zeros, no bytes stored; 1 as it is; 2 lz4 block; 3 zstd. All but 0 are sealed: part 1 + *n*
/// for extent *n*, with LBA (8), blocks (8) and codec (1) as additional data; what is sealed is the compressed blocks, then
/// the CRC-32 of each block in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// First block.
    pub lba: Lba,
    /// How many.
    pub blocks: u64,
    /// First block of it among the object's blocks with data; that of the next such extent when it is zeros.
    pub at: u32,
    /// Which data object wrote it first.
    pub origin: ObjectSeq,
    /// Where its stored bytes lie in the object; empty for zeros.
    pub stored: Range<u64>,
    pub(super) codec: Codec,
}

impl Extent {
    /// Says whether its blocks read as zeros.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.codec == Codec::Zero
    }

    pub(super) fn aad(lba: Lba, blocks: u64, codec: Codec) -> [u8; 17] {
        let mut aad = [0; 17];
        aad[..8].copy_from_slice(&lba.0.to_le_bytes());
        aad[8..16].copy_from_slice(&blocks.to_le_bytes());
        aad[16] = codec as u8;
        aad
    }
}

/// An object's front, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What it is.
    pub header: ObjectHeader,
    /// What it holds, by ascending LBA, disjoint.
    pub extents: Vec<Extent>,
    /// Bytes of the whole object.
    pub total_bytes: u64,
}

/// One extent that a read needs, and which of its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentRead {
    /// Which extent, for [`Layout::open_extent`].
    pub index: usize,
    /// Where its stored bytes lie in the object.
    pub stored: Range<u64>,
    /// Blocks of it that come before those wanted.
    pub skip: u64,
    /// How many are wanted.
    pub blocks: u64,
}

impl ObjectHeader {
    pub(super) fn place(&self, part: u32) -> Place {
        Place {
            salt: self.salt,
            epoch: self.epoch,
            number: self.seq.0,
            part,
        }
    }

    pub(super) fn front_bytes(&self, extents: usize) -> usize {
        FIXED_BYTES + self.wrapped_key.len() + extents * ENTRY_BYTES + TAG_BYTES + CRC_BYTES
    }

    pub(super) fn encode(&self, sealer: &Sealer, extents: &[Extent], total_bytes: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.front_bytes(extents.len()));
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.kind as u8);
        let Ok(wrapped_bytes) = u8::try_from(self.wrapped_key.len()) else {
            panic!(
                "a wrapped key of {} bytes, at most {WRAPPED_BYTES_MAX}",
                self.wrapped_key.len()
            )
        };
        out.put_u8(wrapped_bytes);
        out.put(&self.disk.0);
        out.put_u32(self.epoch.0);
        out.put_len(extents.len());
        out.put_u64(self.seq.0);
        out.put_u64(self.previous.0);
        out.put_u64(self.journal_seq.0);
        out.put_u64(self.size_blocks);
        out.put_u64(total_bytes);
        out.put(&self.salt.0);
        out.put(&[0; 16]);
        assert!(out.len() == FIXED_BYTES, "a front of {} bytes", out.len());
        out.put(&self.wrapped_key);
        let mut table = Vec::with_capacity(extents.len() * ENTRY_BYTES);
        for extent in extents {
            table.put_u48(extent.lba.0);
            table.put_u8(extent.codec as u8);
            table.put_u8(0);
            let Ok(blocks) = u32::try_from(extent.blocks) else {
                panic!("an extent of {} blocks", extent.blocks)
            };
            table.put_u32(blocks);
            let Ok(stored) = u32::try_from(extent.stored.end - extent.stored.start) else {
                panic!("an extent stored at {:?}", extent.stored)
            };
            table.put_u32(stored);
            table.put_u64(extent.origin.0);
        }
        let sealed = sealer.seal(Kind::Object, self.place(0), &out, &table);
        out.put(&sealed);
        out.put_u32(crc32fast::hash(&out));
        out
    }
}

/// The clear fields of a front, and how long it is.
fn read_fixed(bytes: &[u8]) -> Result<(ObjectHeader, usize, u64), Flaw> {
    let mut fields = Fields::new(bytes);
    begin(&mut fields, MAGIC, VERSION)?;
    let mut read = || {
        let kind = match fields.u8()? {
            1 => Some(ObjectKind::Data),
            2 => Some(ObjectKind::Gc),
            _ => None,
        };
        let wrapped_bytes = usize::from(fields.u8()?);
        let disk = DiskId(fields.array()?);
        let epoch = Epoch(fields.u32()?);
        let extents = fields.u32()? as usize;
        let (seq, previous) = (ObjectSeq(fields.u64()?), ObjectSeq(fields.u64()?));
        let (journal_seq, size_blocks) = (Seq(fields.u64()?), fields.u64()?);
        let total_bytes = fields.u64()?;
        let salt = Salt(fields.array()?);
        fields.bytes(16)?;
        let wrapped_key = fields.bytes(wrapped_bytes)?.to_vec();
        Some((
            kind,
            extents,
            total_bytes,
            disk,
            epoch,
            seq,
            previous,
            journal_seq,
            size_blocks,
            salt,
            wrapped_key,
        ))
    };
    let (kind, extents, total_bytes, disk, epoch, seq, previous, journal_seq, size_blocks, salt, wrapped_key) =
        read().ok_or(Flaw::Cut)?;
    let kind = kind.ok_or(Flaw::Fields)?;
    if extents > EXTENTS_MAX || size_blocks > LBA_END {
        return Err(Flaw::Fields);
    }
    let header = ObjectHeader {
        kind,
        disk,
        epoch,
        seq,
        previous,
        journal_seq,
        size_blocks,
        salt,
        wrapped_key,
    };
    Ok((header, extents, total_bytes))
}

impl Layout {
    /// Tells how many of an object's first bytes [`Self::open`] needs, given its first [`PREFIX_BYTES`] or more (or all of
    /// it).
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn front_bytes(prefix: &[u8]) -> Result<u64, Flaw> {
        let (header, extents, _) = read_fixed(prefix)?;
        Ok(header.front_bytes(extents) as u64)
    }

    /// Returns the wrapped data key from an object's first bytes, which is needed before the table's seal can be looked at.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn wrapped_key(prefix: &[u8]) -> Result<Vec<u8>, Flaw> {
        read_fixed(prefix).map(|(header, _, _)| header.wrapped_key)
    }

    /// Reads the front of an object from its first bytes.
    ///
    /// # Errors
    /// [`Flaw`]; [`Flaw::Elsewhere`] when it is another disk's.
    pub fn open(sealer: &Sealer, bytes: &[u8]) -> Result<Self, Flaw> {
        let (header, count, total_bytes) = read_fixed(bytes)?;
        let front_bytes = header.front_bytes(count);
        let front = check_crc(bytes.get(..front_bytes).ok_or(Flaw::Cut)?)?;
        if header.disk != sealer.disk() {
            return Err(Flaw::Elsewhere);
        }
        let table_at = FIXED_BYTES + header.wrapped_key.len();
        let (clear, sealed) = front.split_at_checked(table_at).ok_or(Flaw::Cut)?;
        let table = sealer.open(Kind::Object, header.place(0), clear, sealed)?;
        let extents = read_table(&table, count, front_bytes as u64).ok_or(Flaw::Fields)?;
        let end = extents
            .last()
            .map_or(front_bytes as u64, |extent| extent.stored.end);
        if total_bytes != end + CRC_BYTES as u64 {
            return Err(Flaw::Fields);
        }
        Ok(Self {
            header,
            extents,
            total_bytes,
        })
    }

    /// Returns the blocks with data.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.extents
            .iter()
            .filter(|extent| !extent.is_zero())
            .map(|extent| extent.blocks)
            .sum()
    }

    /// Returns the index of the extent that holds block `at` of the blocks with data, and how many of its blocks come before.
    #[must_use]
    pub fn find(&self, at: u32) -> Option<(usize, u64)> {
        let end = self.extents.partition_point(|extent| extent.at <= at);
        let index = self.extents[..end].iter().rposition(|extent| !extent.is_zero())?;
        let extent = &self.extents[index];
        let skip = u64::from(at - extent.at);
        (skip < extent.blocks).then_some((index, skip))
    }

    /// Returns the extents that hold the disk's blocks `lba..lba + blocks`, which a map says begin at block `at` of the blocks
    /// with data. However wrong the map is, a block of another address is never taken for the one wanted.
    ///
    /// # Errors
    /// [`Flaw::Elsewhere`] when they do not lie there.
    pub fn reads(&self, lba: Lba, at: u32, blocks: u64) -> Result<Vec<ExtentRead>, Flaw> {
        let mut reads = Vec::new();
        let mut done = 0;
        while done < blocks {
            let at = u32::try_from(u64::from(at) + done).map_err(|_| Flaw::Elsewhere)?;
            let (index, skip) = self.find(at).ok_or(Flaw::Elsewhere)?;
            let extent = &self.extents[index];
            if extent.lba.0 + skip != lba.0 + done {
                return Err(Flaw::Elsewhere);
            }
            let count = (extent.blocks - skip).min(blocks - done);
            reads.push(ExtentRead {
                index,
                stored: extent.stored.clone(),
                skip,
                blocks: count,
            });
            done += count;
        }
        Ok(reads)
    }

    /// Opens extent `index` from its stored bytes.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn open_extent(&self, sealer: &Sealer, index: usize, stored: &[u8]) -> Result<Vec<u8>, Flaw> {
        let extent = self.extents.get(index).ok_or(Flaw::Fields)?;
        let blocks = usize::try_from(extent.blocks).map_err(|_| Flaw::Fields)?;
        if extent.is_zero() || stored.len() as u64 != extent.stored.end - extent.stored.start {
            return Err(Flaw::Cut);
        }
        let part = u32::try_from(index + 1).map_err(|_| Flaw::Fields)?;
        let aad = Extent::aad(extent.lba, extent.blocks, extent.codec);
        let opened = sealer.open(Kind::Object, self.header.place(part), &aad, stored)?;
        let crc_at = opened.len().checked_sub(blocks * CRC_BYTES).ok_or(Flaw::Cut)?;
        let (compressed, crcs) = opened.split_at(crc_at);
        let plain = decompress(extent.codec, compressed, blocks * BLOCK_BYTES)?;
        let sound = plain
            .chunks(BLOCK_BYTES)
            .map(|block| crc32fast::hash(block).to_le_bytes())
            .eq(crcs.as_chunks().0.iter().copied());
        if sound { Ok(plain) } else { Err(Flaw::Checksum) }
    }
}

fn read_table(table: &[u8], count: usize, front_bytes: u64) -> Option<Vec<Extent>> {
    let mut fields = Fields::new(table);
    if fields.room_for(ENTRY_BYTES) != count {
        return None;
    }
    let mut extents = Vec::with_capacity(count);
    let (mut at, mut from, mut lba_end) = (0_u32, front_bytes, 0);
    for _ in 0..count {
        let lba = Lba(fields.u48()?);
        let codec = Codec::of(fields.u8()?)?;
        fields.u8()?;
        let blocks = fields.u32()?;
        let stored_bytes = fields.u32()?;
        let origin = ObjectSeq(fields.u64()?);
        let sound = match codec {
            Codec::Zero => stored_bytes == 0,
            Codec::Raw | Codec::Lz4 | Codec::Zstd => u64::from(blocks) <= EXTENT_BLOCKS_MAX,
        };
        let end = lba.0 + u64::from(blocks);
        if blocks == 0 || !sound || lba.0 < lba_end || end > LBA_END {
            return None;
        }
        lba_end = end;
        let stored = from..from + u64::from(stored_bytes);
        from = stored.end;
        extents.push(Extent {
            lba,
            blocks: u64::from(blocks),
            at,
            origin,
            stored,
            codec,
        });
        if codec != Codec::Zero {
            at = at.checked_add(blocks)?;
        }
    }
    fields.is_empty().then_some(extents)
}
