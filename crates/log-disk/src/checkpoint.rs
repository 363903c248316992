//! PURE. Checkpoints: the map of a disk in one object, or what changed of it since the one before.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::extent_map::LEAF_BYTES_MAX;
use crate::fields::{Fields, Sink, begin, check_crc};
use crate::head::CheckpointRef;
use crate::objects::Objects;
use crate::seal::{Kind, Place, Salt, Sealer, TAG_BYTES};
use crate::{DiskId, Epoch, Flaw, ObjectSeq};

const MAGIC: [u8; 4] = *b"HGCK";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 88;
const CRC_BYTES: usize = 4;
const INDEX_ROW_BYTES: usize = 32;
const SALT_BYTES: usize = 8;

/// Where a leaf of the map lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRef {
    /// Which checkpoint's object.
    pub object: ObjectSeq,
    /// Who wrote it.
    pub epoch: Epoch,
    /// First byte in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u32,
}

/// What a checkpoint is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// Whose it is.
    pub disk: DiskId,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Its object's seq.
    pub seq: ObjectSeq,
    /// +1 each.
    pub number: u64,
    /// The last data object that it holds.
    pub data_seq: ObjectSeq,
    /// The last journal record that it holds.
    pub journal_seq: crate::Seq,
    /// Of the opening that wrote it.
    pub salt: Salt,
}

/// The front of a checkpoint, opened; little endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `HGCK` |
/// | 4 | 2 | version, 1 |
/// | 6 | 2 | 0 |
/// | 8 | 16 | disk |
/// | 24 | 4 | epoch |
/// | 28 | 4 | bytes of the index, sealed |
/// | 32 | 8 | seq |
/// | 40 | 8 | number |
/// | 48 | 8 | last data object that it holds |
/// | 56 | 8 | last journal seq that it holds |
/// | 64 | 8 | bytes of the table of objects, sealed |
/// | 72 | 8 | bytes of the whole object |
/// | 80 | 8 | salt |
/// | 88 | | the index, sealed: part 0, with everything before as additional data |
/// | | | the table of objects, sealed: part 1, likewise |
/// | | 4 | CRC-32 of everything before |
/// | | | leaves that changed: salt (8), then the leaf, sealed: part 2 + its number, with the number (4) as additional data |
/// | end − 4 | 4 | CRC-32 of everything before |
///
/// A row of the index: leaf (4), bytes (4), object's seq (8), its epoch (4), 0 (4), offset (8). A leaf that is not in it maps
/// nothing. Rows ascend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it is of.
    pub header: CheckpointHeader,
    /// Where each leaf lies.
    pub leaves: BTreeMap<u32, LeafRef>,
    /// Every object.
    pub objects: Objects,
}

impl CheckpointHeader {
    fn place(&self, part: u32) -> Place {
        leaf_place(self.salt, self.epoch, self.seq, part)
    }
}

fn leaf_place(salt: Salt, epoch: Epoch, seq: ObjectSeq, part: u32) -> Place {
    Place {
        salt,
        epoch,
        number: seq.0,
        part,
    }
}

impl Checkpoint {
    /// Returns how long the front of a checkpoint will be, and so where its first leaf lies.
    #[must_use]
    pub fn front_bytes(leaves: usize, objects: usize) -> u64 {
        let sealed = leaves * INDEX_ROW_BYTES + objects * crate::objects::ROW_BYTES + 2 * TAG_BYTES;
        (FIXED_BYTES + sealed + CRC_BYTES) as u64
    }

    /// Returns how many bytes a leaf takes in a checkpoint.
    #[must_use]
    pub fn leaf_bytes(plain: usize) -> u64 {
        (SALT_BYTES + plain + TAG_BYTES) as u64
    }

    /// Makes the object. `changed` are the leaves whose place in `self.leaves` is this object, in the order of their offsets.
    ///
    /// # Panics
    /// When a leaf does not lie where the index says.
    #[must_use]
    pub fn encode(&self, sealer: &Sealer, changed: &[(u32, Vec<u8>)]) -> (Bytes, CheckpointRef) {
        let header = &self.header;
        let mut index = Vec::with_capacity(self.leaves.len() * INDEX_ROW_BYTES);
        for (leaf, at) in &self.leaves {
            index.put_u32(*leaf);
            index.put_u32(at.bytes);
            index.put_u64(at.object.0);
            index.put_u32(at.epoch.0);
            index.put_u32(0);
            index.put_u64(at.offset);
        }
        let table = self.objects.encode();
        let front_bytes = (FIXED_BYTES + index.len() + table.len() + 2 * TAG_BYTES + CRC_BYTES) as u64;
        let leaves_bytes: u64 = changed.iter().map(|(_, leaf)| Self::leaf_bytes(leaf.len())).sum();
        let total_bytes = front_bytes + leaves_bytes + CRC_BYTES as u64;
        let mut out = Vec::new();
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put(&header.disk.0);
        out.put_u32(header.epoch.0);
        out.put_len(index.len() + TAG_BYTES);
        out.put_u64(header.seq.0);
        out.put_u64(header.number);
        out.put_u64(header.data_seq.0);
        out.put_u64(header.journal_seq.0);
        out.put_u64((table.len() + TAG_BYTES) as u64);
        out.put_u64(total_bytes);
        out.put(&header.salt.0);
        assert!(out.len() == FIXED_BYTES, "a front of {} bytes", out.len());
        for (part, plain) in [(0, index), (1, table)] {
            let sealed = sealer.seal(Kind::Map, header.place(part), &out, &plain);
            out.put(&sealed);
        }
        out.put_u32(crc32fast::hash(&out));
        for (leaf, plain) in changed {
            let at = self.leaves.get(leaf).map(|at| (at.object, at.offset));
            assert!(
                at == Some((header.seq, out.len() as u64)),
                "leaf {leaf} at {at:?}, not {}",
                out.len()
            );
            out.put(&header.salt.0);
            let sealed = sealer.seal(Kind::Map, header.place(2 + leaf), &leaf.to_le_bytes(), plain);
            out.put(&sealed);
        }
        out.put_u32(crc32fast::hash(&out));
        assert!(
            out.len() as u64 == total_bytes,
            "{} bytes, not {total_bytes}",
            out.len()
        );
        let reference = CheckpointRef {
            number: header.number,
            seq: header.seq,
            epoch: header.epoch,
            front_bytes,
            total_bytes,
            data_seq: header.data_seq,
        };
        (Bytes::from(out), reference)
    }

    /// Reads the front of a checkpoint from its first [`CheckpointRef::front_bytes`] or more.
    ///
    /// # Errors
    /// [`Flaw`]; [`Flaw::Elsewhere`] when it is another disk's.
    pub fn open(sealer: &Sealer, bytes: &[u8]) -> Result<Self, Flaw> {
        let mut fields = Fields::new(bytes);
        begin(&mut fields, MAGIC, VERSION)?;
        let mut read = || {
            fields.u16()?;
            let disk = DiskId(fields.array()?);
            let epoch = Epoch(fields.u32()?);
            let index_bytes = fields.u32()? as usize;
            let seq = ObjectSeq(fields.u64()?);
            let number = fields.u64()?;
            let (data_seq, journal_seq) = (ObjectSeq(fields.u64()?), crate::Seq(fields.u64()?));
            let table_bytes = usize::try_from(fields.u64()?).ok()?;
            fields.u64()?;
            let salt = Salt(fields.array()?);
            let header = CheckpointHeader {
                disk,
                epoch,
                seq,
                number,
                data_seq,
                journal_seq,
                salt,
            };
            Some((header, index_bytes, table_bytes))
        };
        let (header, index_bytes, table_bytes) = read().ok_or(Flaw::Cut)?;
        let index_end = FIXED_BYTES.checked_add(index_bytes).ok_or(Flaw::Fields)?;
        let table_end = index_end.checked_add(table_bytes).ok_or(Flaw::Fields)?;
        let front_end = table_end.checked_add(CRC_BYTES).ok_or(Flaw::Fields)?;
        let front = check_crc(bytes.get(..front_end).ok_or(Flaw::Cut)?)?;
        if header.disk != sealer.disk() {
            return Err(Flaw::Elsewhere);
        }
        let open = |part, aad_end: usize, end: usize| {
            sealer.open(
                Kind::Map,
                header.place(part),
                &front[..aad_end],
                &front[aad_end..end],
            )
        };
        let index = open(0, FIXED_BYTES, index_end)?;
        let table = open(1, index_end, table_end)?;
        Ok(Self {
            header,
            leaves: read_index(&index).ok_or(Flaw::Fields)?,
            objects: Objects::decode(&table).ok_or(Flaw::Fields)?,
        })
    }

    /// Opens leaf `leaf` from the bytes that its place names.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn open_leaf(sealer: &Sealer, leaf: u32, at: &LeafRef, bytes: &[u8]) -> Result<Vec<u8>, Flaw> {
        if bytes.len() != at.bytes as usize {
            return Err(Flaw::Cut);
        }
        let (salt, sealed) = bytes.split_first_chunk().ok_or(Flaw::Cut)?;
        let part = leaf.checked_add(2).ok_or(Flaw::Fields)?;
        let place = leaf_place(Salt(*salt), at.epoch, at.object, part);
        sealer.open(Kind::Map, place, &leaf.to_le_bytes(), sealed)
    }
}

fn read_index(index: &[u8]) -> Option<BTreeMap<u32, LeafRef>> {
    let mut fields = Fields::new(index);
    let mut leaves = BTreeMap::new();
    while !fields.is_empty() {
        let leaf = fields.u32()?;
        let bytes = fields.u32()?;
        let object = ObjectSeq(fields.u64()?);
        let epoch = Epoch(fields.u32()?);
        fields.u32()?;
        let offset = fields.u64()?;
        let ascends = leaves.last_key_value().is_none_or(|(last, _)| *last < leaf);
        let fits = (bytes as usize) <= SALT_BYTES + LEAF_BYTES_MAX + TAG_BYTES && offset < 1 << 48;
        if !ascends || !fits {
            return None;
        }
        let at = LeafRef {
            object,
            epoch,
            offset,
            bytes,
        };
        leaves.insert(leaf, at);
    }
    Some(leaves)
}

#[cfg(test)]
mod tests;
