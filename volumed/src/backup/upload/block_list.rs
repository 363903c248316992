//! The block list of a manifest as an upload fills it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backup::block::Address;
use crate::backup::manifest::BlockRef;

/// One block, dealt with.
pub(super) enum Block {
    Undefined,
    Zero,
    Reused {
        address: Address,
        writer: Arc<str>,
    },
    New {
        address: Address,
        stored_bytes: u64,
        uploaded_bytes: u64,
    },
}

/// The block list as it fills up.
pub(super) struct BlockList {
    pub(super) blocks: Vec<BlockRef>,
    pub(super) writers: Vec<String>,
    numbers: BTreeMap<String, u32>,
    this: String,
    pub(super) new: BTreeSet<Address>,
    pub(super) stored_bytes: u64,
    pub(super) uploaded_bytes: u64,
}

impl BlockList {
    pub(super) fn new(count: usize, this: &str) -> Self {
        Self {
            blocks: vec![BlockRef::Undefined; count],
            writers: Vec::new(),
            numbers: BTreeMap::new(),
            this: this.to_owned(),
            new: BTreeSet::new(),
            stored_bytes: 0,
            uploaded_bytes: 0,
        }
    }

    pub(super) fn enter(&mut self, number: usize, block: Block) {
        self.blocks[number] = match block {
            Block::Undefined => BlockRef::Undefined,
            Block::Zero => BlockRef::Zero,
            Block::Reused { address, writer } => BlockRef::Data {
                address,
                writer: self.writer(&writer),
            },
            Block::New {
                address,
                stored_bytes,
                uploaded_bytes,
            } => {
                // Counted by content, not by what this run sent: a resumed upload comes to the same sum.
                if self.new.insert(address) {
                    self.stored_bytes += stored_bytes;
                }
                self.uploaded_bytes += uploaded_bytes;
                let this = self.this.clone();
                BlockRef::Data {
                    address,
                    writer: self.writer(&this),
                }
            }
        };
    }

    fn writer(&mut self, writer: &str) -> u32 {
        if let Some(number) = self.numbers.get(writer) {
            return *number;
        }
        let number = u32::try_from(self.writers.len()).unwrap_or_else(|_| unreachable!("2^32 writers"));
        self.writers.push(writer.to_owned());
        self.numbers.insert(writer.to_owned(), number);
        number
    }
}
