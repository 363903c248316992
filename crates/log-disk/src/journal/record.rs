//! PURE. One record of the journal: one group of writes, sealed.

use bytes::Bytes;

use super::PAGE_BYTES;
use crate::fields::{Fields, Sink, begin, check_crc};
use crate::seal::{Kind, Place, Salt, Sealer, TAG_BYTES};
use crate::units::LBA_END;
use crate::{BLOCK_BYTES, DiskId, Epoch, Flaw, Lba, Seq};

const MAGIC: [u8; 4] = *b"HGJR";
const VERSION: u16 = 1;
const TABLE_AT: usize = 64;
const CRC_AT: usize = PAGE_BYTES - 4;
/// Bytes of the opened table that fit into the header's page.
const TABLE_BYTES_MAX: usize = CRC_AT - TABLE_AT - TAG_BYTES;
/// Bytes of the opened table before its pieces.
const TABLE_FIXED_BYTES: usize = 10;
const PIECE_BYTES: usize = 12 + TAG_BYTES;

/// Most blocks of a piece that carries data: what must be read to read one block of it.
pub const PIECE_BLOCKS_MAX: u64 = 16;
/// Most blocks of data in a record, 2 MiB.
pub const RECORD_BLOCKS_MAX: u64 = 512;

const _: () = assert!(BLOCK_BYTES == PAGE_BYTES);

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Writes and zeroes.
    Writes = 1,
    /// Nothing: it fills the ring up to its end.
    Pad = 2,
}

/// The clear part of a record's first page; little endian.
///
/// | offset | bytes | field |
/// |---:|---:|---|
/// | 0 | 4 | `HGJR` |
/// | 4 | 2 | version, 1 |
/// | 6 | 1 | kind: 1 writes, 2 pad |
/// | 7 | 1 | 0 |
/// | 8 | 16 | disk |
/// | 24 | 4 | epoch of the writer: +1 at each opening of the disk |
/// | 28 | 4 | pages after this one |
/// | 32 | 8 | seq |
/// | 40 | 8 | position of this page |
/// | 48 | 8 | salt |
/// | 56 | 4 | the CRC-32 at the end of the previous record's first page |
/// | 60 | 4 | bytes of the table, sealed |
/// | 64 | | the table, sealed; zeros up to the CRC |
/// | 4092 | 4 | CRC-32 of the bytes 0..4092 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// Whose it is.
    pub disk: DiskId,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Pages after the first.
    pub pages: u32,
    /// Its number.
    pub seq: Seq,
    /// Where it begins, in pages.
    pub position: u64,
    /// Of the opening that wrote it.
    pub salt: Salt,
    /// CRC of the first page of the record before: records form a chain.
    pub previous_crc: u32,
    /// The last record that was durable here when this one was made: if it is missing one day, the journal is damaged. Stands
    /// in the sealed table.
    pub durable_seq: Seq,
}

impl RecordHeader {
    /// Position after the record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + 1 + u64::from(self.pages)
    }

    fn encode(&self, table_bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_BYTES);
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(0);
        out.put(&self.disk.0);
        out.put_u32(self.epoch.0);
        out.put_u32(self.pages);
        out.put_u64(self.seq.0);
        out.put_u64(self.position);
        out.put(&self.salt.0);
        out.put_u32(self.previous_crc);
        out.put_len(table_bytes);
        assert!(out.len() == TABLE_AT, "header of {} bytes", out.len());
        out
    }

    fn place(&self, part: u32) -> Place {
        Place {
            salt: self.salt,
            epoch: self.epoch,
            number: self.seq.0,
            part,
        }
    }

    fn decode(page: &[u8]) -> Result<(Self, usize), Flaw> {
        let page = page.get(..PAGE_BYTES).ok_or(Flaw::Cut)?;
        let mut fields = Fields::new(page);
        begin(&mut fields, MAGIC, VERSION)?;
        check_crc(page)?;
        let mut read = || {
            let kind = match fields.u8()? {
                1 => RecordKind::Writes,
                2 => RecordKind::Pad,
                _ => return None,
            };
            fields.u8()?;
            let header = Self {
                kind,
                disk: DiskId(fields.array()?),
                epoch: Epoch(fields.u32()?),
                pages: fields.u32()?,
                seq: Seq(fields.u64()?),
                position: fields.u64()?,
                salt: Salt(fields.array()?),
                previous_crc: fields.u32()?,
                durable_seq: Seq(0),
            };
            Some((header, fields.u32()? as usize))
        };
        let (header, table_bytes) = read().ok_or(Flaw::Fields)?;
        let sane = table_bytes <= TABLE_BYTES_MAX + TAG_BYTES
            && header.position < 1 << 56
            && (header.kind == RecordKind::Pad || u64::from(header.pages) <= RECORD_BLOCKS_MAX);
        if sane {
            Ok((header, table_bytes))
        } else {
            Err(Flaw::Fields)
        }
    }
}

/// One run of blocks of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPiece {
    /// First block.
    pub lba: Lba,
    /// How many; at most [`PIECE_BLOCKS_MAX`] when it carries data.
    pub blocks: u64,
    /// `None` zeroes the run.
    pub data: Option<JournalBlocks>,
}

/// Where the data of a piece lies within its record, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalBlocks {
    /// Its first page, counted from the record's second.
    pub page: u32,
    tag: [u8; TAG_BYTES],
    /// CRC-32 of each block in clear.
    crcs: Vec<u32>,
}

/// How much more fits into a record that is being put together.
#[derive(Debug, Clone, Copy)]
pub struct RecordRoom {
    table_bytes: usize,
    blocks: u64,
    blocks_max: u64,
}

impl RecordRoom {
    /// Creates the room of an empty record that is to hold at most `blocks_max` blocks of data.
    #[must_use]
    pub fn new(blocks_max: u64) -> Self {
        Self {
            table_bytes: 0,
            blocks: 0,
            blocks_max: blocks_max.min(RECORD_BLOCKS_MAX),
        }
    }

    /// Counts a piece in, or refuses it. `data_blocks` is 0 for one that zeroes.
    #[must_use]
    pub fn take(&mut self, data_blocks: u64) -> bool {
        assert!(data_blocks <= PIECE_BLOCKS_MAX, "a piece of {data_blocks} blocks");
        let table_bytes =
            self.table_bytes + PIECE_BYTES + 4 * usize::try_from(data_blocks).unwrap_or(usize::MAX);
        let blocks = self.blocks + data_blocks;
        let fits = table_bytes + TABLE_FIXED_BYTES <= TABLE_BYTES_MAX && blocks <= self.blocks_max;
        if fits {
            self.table_bytes = table_bytes;
            self.blocks = blocks;
        }
        fits
    }
}

/// A record read back, its data not looked at yet.
///
/// The opened table: the last record that was durable when this one was made (8 bytes); pieces (2); for each its LBA (6), 1 for data or 0 for zeroes (2), blocks (4) and the seal's tag
/// (16, else zeros); then the CRC-32 of each block of data. Part 0 of the record is the table, with the clear header as
/// additional data; part 1 + *n* is the data of piece *n*, as long as in clear, with its LBA and blocks as additional data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The clear part.
    pub header: RecordHeader,
    /// CRC of the first page, which the next record must carry.
    pub crc: u32,
    /// What it writes, in order.
    pub pieces: Vec<RecordPiece>,
}

impl Record {
    /// Makes the pages of a record of `pieces`, each a run of blocks and its bytes, or `None` to zero it. `header.pages` and
    /// `header.kind` are the pieces' for [`RecordKind::Writes`], the caller's otherwise.
    ///
    /// Returns the bytes to write at `header.position`, and the record. A pad has no bytes beyond its first page.
    ///
    /// # Panics
    /// When the pieces did not fit into a [`RecordRoom`].
    #[must_use]
    pub fn encode(
        sealer: &Sealer,
        mut header: RecordHeader,
        pieces: &[(Lba, u64, Option<Bytes>)],
    ) -> (Vec<u8>, Self) {
        let mut table = Vec::with_capacity(TABLE_BYTES_MAX);
        let mut payload = Vec::new();
        let mut kept = Vec::with_capacity(pieces.len());
        let Ok(count) = u16::try_from(pieces.len()) else {
            panic!("a record of {} pieces", pieces.len())
        };
        table.put_u64(header.durable_seq.0);
        table.put_u16(count);
        for (part, (lba, blocks, data)) in (1..).zip(pieces) {
            let data = data.as_ref().map(|data| {
                let page = payload.len() / PAGE_BYTES;
                let aad = piece_aad(*lba, *blocks);
                let mut sealed = sealer.seal(Kind::Journal, header.place(part), &aad, data);
                let mut tag = [0; TAG_BYTES];
                tag.copy_from_slice(&sealed[data.len()..]);
                sealed.truncate(data.len());
                payload.append(&mut sealed);
                let crcs: Vec<u32> = data.chunks(BLOCK_BYTES).map(crc32fast::hash).collect();
                assert!(
                    data.len() % BLOCK_BYTES == 0
                        && crcs.len() as u64 == *blocks
                        && *blocks <= PIECE_BLOCKS_MAX,
                    "{} bytes for {blocks} blocks",
                    data.len()
                );
                let Ok(page) = u32::try_from(page) else {
                    panic!("a payload of {page} pages")
                };
                JournalBlocks { page, tag, crcs }
            });
            kept.push(RecordPiece {
                lba: *lba,
                blocks: *blocks,
                data,
            });
        }
        for piece in &kept {
            table.put_u48(piece.lba.0);
            table.put_u16(u16::from(piece.data.is_some()));
            let Ok(blocks) = u32::try_from(piece.blocks) else {
                panic!("a piece of {} blocks", piece.blocks)
            };
            table.put_u32(blocks);
            table.put(&piece.data.as_ref().map_or([0; TAG_BYTES], |data| data.tag));
        }
        for crc in kept
            .iter()
            .filter_map(|piece| piece.data.as_ref())
            .flat_map(|data| &data.crcs)
        {
            table.put_u32(*crc);
        }
        assert!(table.len() <= TABLE_BYTES_MAX, "a table of {} bytes", table.len());
        if header.kind == RecordKind::Writes {
            let Ok(pages) = u32::try_from(payload.len() / PAGE_BYTES) else {
                panic!("a payload of {} bytes", payload.len())
            };
            header.pages = pages;
        }
        let mut out = header.encode(table.len() + TAG_BYTES);
        let sealed = sealer.seal(Kind::Journal, header.place(0), &out, &table);
        out.put(&sealed);
        out.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.append(&mut payload);
        let record = Self {
            header,
            crc,
            pieces: kept,
        };
        (out, record)
    }

    /// Reads a record's first page.
    ///
    /// # Errors
    /// [`Flaw`]; [`Flaw::Elsewhere`] when it is another disk's.
    pub fn open(sealer: &Sealer, page: &[u8]) -> Result<Self, Flaw> {
        let (mut header, table_bytes) = RecordHeader::decode(page)?;
        if header.disk != sealer.disk() {
            return Err(Flaw::Elsewhere);
        }
        let sealed = page.get(TABLE_AT..TABLE_AT + table_bytes).ok_or(Flaw::Fields)?;
        let table = sealer.open(Kind::Journal, header.place(0), &page[..TABLE_AT], sealed)?;
        let (durable_seq, pieces) = read_table(&table).ok_or(Flaw::Fields)?;
        header.durable_seq = durable_seq;
        let pages: u64 = pieces
            .iter()
            .filter(|piece| piece.data.is_some())
            .map(|piece| piece.blocks)
            .sum();
        let whole = match header.kind {
            RecordKind::Writes => pages == u64::from(header.pages),
            RecordKind::Pad => pieces.is_empty(),
        };
        if !whole {
            return Err(Flaw::Fields);
        }
        let crc = crc32fast::hash(&page[..CRC_AT]);
        Ok(Self { header, crc, pieces })
    }

    /// Opens the data of piece `index` from its pages.
    ///
    /// # Errors
    /// [`Flaw`], also when the piece has no data.
    pub fn open_piece(&self, sealer: &Sealer, index: usize, pages: &[u8]) -> Result<Vec<u8>, Flaw> {
        let piece = self.pieces.get(index).ok_or(Flaw::Fields)?;
        let blocks = piece.data.as_ref().ok_or(Flaw::Fields)?;
        if pages.len() != blocks.crcs.len() * BLOCK_BYTES {
            return Err(Flaw::Cut);
        }
        let mut sealed = Vec::with_capacity(pages.len() + TAG_BYTES);
        sealed.put(pages);
        sealed.put(&blocks.tag);
        let part = u32::try_from(index + 1).map_err(|_| Flaw::Fields)?;
        let aad = piece_aad(piece.lba, piece.blocks);
        let plain = sealer.open(Kind::Journal, self.header.place(part), &aad, &sealed)?;
        let sound = plain
            .chunks(BLOCK_BYTES)
            .map(crc32fast::hash)
            .eq(blocks.crcs.iter().copied());
        if sound { Ok(plain) } else { Err(Flaw::Checksum) }
    }

    /// Checks all data of the record; `payload` is what follows its first page.
    ///
    /// # Errors
    /// [`Flaw`] of the first piece that is damaged.
    pub fn check_payload(&self, sealer: &Sealer, payload: &[u8]) -> Result<(), Flaw> {
        for (index, piece) in self.pieces.iter().enumerate() {
            if let Some(data) = &piece.data {
                let from = data.page as usize * PAGE_BYTES;
                let pages = payload
                    .get(from..from + data.crcs.len() * BLOCK_BYTES)
                    .ok_or(Flaw::Cut)?;
                self.open_piece(sealer, index, pages)?;
            }
        }
        Ok(())
    }
}

fn piece_aad(lba: Lba, blocks: u64) -> [u8; 16] {
    let mut aad = [0; 16];
    aad[..8].copy_from_slice(&lba.0.to_le_bytes());
    aad[8..].copy_from_slice(&blocks.to_le_bytes());
    aad
}

fn read_table(table: &[u8]) -> Option<(Seq, Vec<RecordPiece>)> {
    let mut fields = Fields::new(table);
    let durable_seq = Seq(fields.u64()?);
    let count = usize::from(fields.u16()?);
    if count > fields.room_for(PIECE_BYTES) {
        return None;
    }
    let mut pieces = Vec::with_capacity(count);
    let mut page = 0;
    for _ in 0..count {
        let lba = Lba(fields.u48()?);
        let has_data = match fields.u16()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let blocks = fields.u32()?;
        let tag = fields.array()?;
        let fits = !has_data || u64::from(blocks) <= PIECE_BLOCKS_MAX;
        if blocks == 0 || !fits || lba.0 + u64::from(blocks) > LBA_END {
            return None;
        }
        let data = has_data.then(|| {
            let at = page;
            page += blocks;
            JournalBlocks {
                page: at,
                tag,
                crcs: Vec::new(),
            }
        });
        pieces.push(RecordPiece {
            lba,
            blocks: u64::from(blocks),
            data,
        });
    }
    for piece in &mut pieces {
        if let Some(data) = &mut piece.data {
            data.crcs = (0..piece.blocks).map(|_| fields.u32()).collect::<Option<_>>()?;
        }
    }
    fields.is_empty().then_some((durable_seq, pieces))
}
