//! What a node keeps when it is killed: histories of transactions instead of files.

use std::collections::BTreeMap;

use lease::{Epoch, Progress};
use litefs_rs::{
    name::DatabaseName,
    replication::{catch_up, position_map::PositionMap},
    store::KeptEpoch,
};
use ltx::{Checksum, Pos, Txid};

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// Tells it from all others.
    pub(crate) content: u64,
    /// Under which its primary made it.
    pub(crate) epoch: Epoch,
    pub(crate) pos: Pos,
}

/// What a node keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) databases: BTreeMap<DatabaseName, Vec<Transaction>>,
    /// Transactions whose files are there, from the first of these on.
    pub(crate) files_from: BTreeMap<DatabaseName, u64>,
    pub(crate) kept: KeptEpoch,
    pub(crate) cluster: Option<String>,
}

impl Shelf {
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            epoch: self.kept.epoch,
            txids: self.databases.values().map(|history| history.len() as u64).sum(),
        }
    }

    pub(crate) fn positions(&self) -> PositionMap {
        let pos = |history: &Vec<Transaction>| history.last().map_or(Pos::ZERO, |last| last.pos);
        let positions = self
            .databases
            .iter()
            .map(|(name, history)| (name.clone(), pos(history)));
        positions.collect()
    }

    /// Appends a transaction of this node's own.
    pub(crate) fn append(&mut self, database: &DatabaseName, content: u64, epoch: Epoch) -> Transaction {
        let history = self.databases.entry(database.clone()).or_default();
        let before = history.last().map_or(0, |last| last.pos.checksum.bits());
        let mut bytes = before.to_le_bytes().to_vec();
        bytes.extend(content.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let sum = hash.as_bytes()[..8]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let transaction = Transaction {
            content,
            epoch,
            pos: Pos {
                txid: Txid::new(history.len() as u64 + 1),
                checksum: Checksum::from_bits(Checksum::FLAG | sum),
            },
        };
        history.push(transaction);
        transaction
    }
}

impl catch_up::Store for Shelf {
    fn pos(&self, database: &DatabaseName) -> Option<Pos> {
        let history = self.databases.get(database)?;
        Some(history.last().map_or(Pos::ZERO, |last| last.pos))
    }

    fn pre_apply(&self, database: &DatabaseName, txid: Txid) -> Option<Checksum> {
        let from = self.files_from.get(database).copied().unwrap_or(1);
        let before = usize::try_from(txid.get()).ok()?.checked_sub(2);
        let history = self.databases.get(database)?;
        if txid.get() < from || txid.get() > history.len() as u64 {
            return None;
        }
        Some(
            before
                .and_then(|before| history.get(before))
                .map_or(Checksum::NONE, |last| last.pos.checksum),
        )
    }

    fn high_water_mark(&self, _: &DatabaseName) -> Txid {
        Txid::ZERO
    }
}
