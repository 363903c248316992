//! PURE. Putting an object together.

use bytes::Bytes;

use super::layout::{Extent, Layout, ObjectHeader};
use super::{EXTENT_BLOCKS_MAX, EXTENTS_MAX};
use crate::compression::{Codec, Compression, compress};
use crate::fields::Sink;
use crate::seal::{Kind, Sealer};
use crate::{BLOCK_BYTES, Lba, ObjectSeq, Seq};

/// Where blocks that are already kept somewhere lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// In the journal.
    Journal {
        /// Which record.
        seq: Seq,
        /// Where it begins, in pages.
        position: u64,
        /// Which of its pieces.
        piece: u16,
        /// How many blocks of the piece come before.
        skip: u16,
    },
    /// In an object.
    Object {
        /// Which.
        object: ObjectSeq,
        /// Which of its blocks with data.
        at: u32,
    },
}

/// One run of blocks that goes into an object; at most [`EXTENT_BLOCKS_MAX`] when it has sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSeal {
    /// First block.
    pub lba: Lba,
    /// How many.
    pub blocks: u64,
    /// Which data object wrote it first; 0 when that is the one being made.
    pub origin: ObjectSeq,
    /// Where its blocks lie now, one after the other; empty for zeros.
    pub sources: Vec<SourceRun>,
}

/// A run of blocks that lies somewhere in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRun {
    /// How many blocks.
    pub blocks: u64,
    /// Where.
    pub source: Source,
}

/// An object, ready to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    /// All of it.
    pub body: Bytes,
    /// What it holds.
    pub layout: Layout,
}

/// Makes an object of `runs`, which ascend by LBA and are disjoint, with the bytes of each in `data`, in the same order;
/// those of zeros are empty.
///
/// Costs the compression of all of it: done off the path of acknowledgements.
///
/// # Panics
/// When runs are out of order, too long, or not as long as their data.
#[must_use]
pub fn seal_object(
    sealer: &Sealer,
    compression: Compression,
    header: ObjectHeader,
    runs: &[ToSeal],
    data: &[Bytes],
) -> SealedObject {
    assert!(
        runs.len() == data.len() && runs.len() <= EXTENTS_MAX,
        "{} runs, {} with data",
        runs.len(),
        data.len()
    );
    let mut extents: Vec<Extent> = Vec::with_capacity(runs.len());
    let mut stored = Vec::with_capacity(runs.len());
    let mut from = header.front_bytes(runs.len()) as u64;
    let mut at = 0_u32;
    for ((run, plain), part) in runs.iter().zip(data).zip(1..) {
        let ascends = extents
            .last()
            .is_none_or(|last| last.lba.0 + last.blocks <= run.lba.0);
        assert!(ascends, "run at {} out of order", run.lba);
        let (codec, bytes) = match run.sources[..] {
            [] => (Codec::Zero, Vec::new()),
            [..] => {
                let blocks = plain.len() / BLOCK_BYTES;
                assert!(
                    plain.len() % BLOCK_BYTES == 0
                        && blocks as u64 == run.blocks
                        && run.blocks <= EXTENT_BLOCKS_MAX,
                    "{} bytes for {} blocks",
                    plain.len(),
                    run.blocks
                );
                let (codec, mut packed) = compress(plain, compression);
                for block in plain.chunks(BLOCK_BYTES) {
                    packed.put_u32(crc32fast::hash(block));
                }
                let aad = Extent::aad(run.lba, run.blocks, codec);
                (
                    codec,
                    sealer.seal(Kind::Object, header.place(part), &aad, &packed),
                )
            }
        };
        let end = from + bytes.len() as u64;
        extents.push(Extent {
            lba: run.lba,
            blocks: run.blocks,
            at,
            origin: run.origin,
            stored: from..end,
            codec,
        });
        from = end;
        if codec != Codec::Zero {
            let Ok(blocks) = u32::try_from(run.blocks) else {
                unreachable!("at most {EXTENT_BLOCKS_MAX} blocks")
            };
            at += blocks;
        }
        stored.push(bytes);
    }
    let total_bytes = from + 4;
    let mut body = header.encode(sealer, &extents, total_bytes);
    for bytes in stored {
        body.put(&bytes);
    }
    body.put_u32(crc32fast::hash(&body));
    assert!(
        body.len() as u64 == total_bytes,
        "{} bytes, not {total_bytes}",
        body.len()
    );
    SealedObject {
        body: Bytes::from(body),
        layout: Layout {
            header,
            extents,
            total_bytes,
        },
    }
}
