//! PURE. Where the frames of a log are found: the tables of its index, behind the header that [`super::shm`] describes.
//!
//! The index is made of blocks of 32 KiB. Each has the page numbers of up to 4096 frames in their order, and a hash table of
//! 8192 slots of 2 bytes from byte 16,384 on; a slot holds which frame of the block it is about, from 1, or 0. In the first block
//! the header takes the place of the first 34 page numbers, and it has that many frames fewer. A page's slot is its number
//! times 383, modulo 8192, or the next free one.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
};

use ltx::Pgno;

use super::{
    files::{FileKind, Files},
    shm::BLOCK_BYTES,
};

const FRAMES: u32 = 4096;
/// The header twice, and what checkpoints say, take the place of 34.
const FRAMES_OF_FIRST: u32 = FRAMES - 34;
const HEADER_BYTES: usize = 34 * 4;
const TABLE_OFFSET: usize = 16_384;
const SLOTS: u32 = 8192;

/// One block of an index.
#[derive(Debug)]
pub(super) struct Block {
    /// Its number, from 0.
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
}

/// Returns the blocks of an index as they are with more frames in them.
///
/// * `last`: the last frame before, from 1; 0 when the log is empty. What the blocks say of later ones is left from a writer who
///   died, and goes.
/// * `pages`: of the frames, in their order.
///
/// # Errors
/// The index cannot be read.
pub(super) fn with_frames<F: Files + ?Sized>(files: &F, last: u32, pages: &[Pgno]) -> io::Result<Vec<Block>> {
    let mut blocks: BTreeMap<u32, Block> = BTreeMap::new();
    for (frame, pgno) in (last + 1..).zip(pages) {
        let (number, first) = block_of(frame);
        let block = match blocks.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut block = read(files, number)?;
                block.forget_from(frame - first);
                entry.insert(block)
            }
        };
        block.add(frame - first, *pgno);
    }
    Ok(blocks.into_values().collect())
}

/// Returns which block a frame is in, and the block's first frame.
fn block_of(frame: u32) -> (u32, u32) {
    match frame.checked_sub(FRAMES_OF_FIRST + 1) {
        None => (0, 1),
        Some(behind) => {
            let number = behind / FRAMES;
            (number + 1, FRAMES_OF_FIRST + 1 + number * FRAMES)
        }
    }
}

fn read<F: Files + ?Sized>(files: &F, number: u32) -> io::Result<Block> {
    let mut bytes = vec![0; BLOCK_BYTES];
    let read = files.read_at(FileKind::Shm, &mut bytes, u64::from(number) * BLOCK_BYTES as u64)?;
    bytes[read..].fill(0);
    Ok(Block { number, bytes })
}

impl Block {
    fn numbers_offset(&self) -> usize {
        if self.number == 0 { HEADER_BYTES } else { 0 }
    }

    fn slot(&self, slot: u32) -> u16 {
        let at = TABLE_OFFSET + 2 * slot as usize;
        u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn set_slot(&mut self, slot: u32, value: u16) {
        let at = TABLE_OFFSET + 2 * slot as usize;
        self.bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }

    /// Takes out what stands there of the frame at `index` and later ones.
    fn forget_from(&mut self, index: u32) {
        let from = self.numbers_offset() + 4 * index as usize;
        self.bytes[from..TABLE_OFFSET].fill(0);
        for slot in 0..SLOTS {
            if u32::from(self.slot(slot)) > index {
                self.set_slot(slot, 0);
            }
        }
    }

    fn add(&mut self, index: u32, pgno: Pgno) {
        let at = self.numbers_offset() + 4 * index as usize;
        self.bytes[at..at + 4].copy_from_slice(&pgno.get().to_ne_bytes());
        let mut slot = pgno.get().wrapping_mul(383) % SLOTS;
        while self.slot(slot) != 0 {
            slot = (slot + 1) % SLOTS;
        }
        let value = u16::try_from(index + 1).expect("a block has 4096 frames");
        self.set_slot(slot, value);
    }
}

#[cfg(test)]
mod tests;
