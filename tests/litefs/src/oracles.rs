//! What must hold.

use std::collections::BTreeMap;

use lease::Epoch;
use litefs_rs::name::DatabaseName;
use tokio::time::{Duration, Instant};

use crate::shelf::{Shelf, Transaction};

/// How long nothing may have happened before an election must be right.
const CALM: Duration = Duration::from_secs(30);

/// What was acknowledged, by whom, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Oracles {
    by_epoch: BTreeMap<Epoch, usize>,
    /// In their order.
    pub(crate) acknowledged: Vec<(DatabaseName, Transaction)>,
    disturbed: Option<Instant>,
    pub(crate) violation: Option<String>,
    pub(crate) elections: u64,
    pub(crate) handoffs: u64,
}

/// A node that could be primary.
#[derive(Debug)]
pub(crate) struct Other<'a> {
    pub(crate) number: usize,
    pub(crate) shelf: &'a Shelf,
    /// Whether it runs, and nothing keeps it from anything.
    pub(crate) well: bool,
    /// The epoch under which it would acknowledge at this moment.
    pub(crate) acknowledges: Option<Epoch>,
}

impl Oracles {
    fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Something happened that may make an election go wrong for a while.
    pub(crate) fn disturb(&mut self) {
        self.disturbed = Some(Instant::now());
    }

    /// A node acknowledged a transaction.
    pub(crate) fn acknowledged(
        &mut self,
        node: usize,
        database: &DatabaseName,
        transaction: Transaction,
        others: &[Other<'_>],
    ) {
        let epoch = transaction.epoch;
        let first = *self.by_epoch.entry(epoch).or_insert(node);
        if first != node {
            self.violated(format!(
                "nodes {first} and {node} acknowledge under epoch {epoch}"
            ));
        }
        if let Some(later) = self.by_epoch.keys().next_back().filter(|last| **last > epoch) {
            self.violated(format!(
                "node {node} acknowledges under epoch {epoch}, after epoch {later}"
            ));
        }
        for other in others.iter().filter(|other| other.number != node) {
            if let Some(theirs) = other.acknowledges {
                self.violated(format!(
                    "node {node} acknowledges under epoch {epoch} while node {} does under epoch {theirs}",
                    other.number
                ));
            }
        }
        self.acknowledged.push((database.clone(), transaction));
    }

    /// A node becomes primary.
    ///
    /// * `before`: how far it had come under its former epoch.
    /// * `handed`: whether the lease was handed to it.
    pub(crate) fn begins(
        &mut self,
        node: usize,
        epoch: Epoch,
        before: &Shelf,
        handed: bool,
        others: &[Other<'_>],
    ) {
        self.elections += 1;
        let ours = before.progress();
        if ours.is_empty() && !self.acknowledged.is_empty() {
            self.violated(format!(
                "node {node} has nothing, and is primary of epoch {epoch}"
            ));
        }
        if handed {
            self.handoffs += 1;
            let last = self.by_epoch.keys().next_back().copied();
            let of_last = self
                .acknowledged
                .iter()
                .filter(|(_, acknowledged)| Some(acknowledged.epoch) == last);
            let missing = of_last.into_iter().find(|(name, acknowledged)| {
                let history = before.databases.get(name);
                history.is_none_or(|history| !history.contains(acknowledged))
            });
            if let Some((name, missing)) = missing {
                let what = format!(
                    "node {node} was handed epoch {epoch} without {} of {name}",
                    missing.pos
                );
                self.violated(what);
            }
        }
        if self.disturbed.is_some_and(|at| at.elapsed() < CALM) {
            return;
        }
        for other in others.iter().filter(|other| other.number != node && other.well) {
            let theirs = other.shelf.progress();
            if theirs > ours {
                self.violated(format!(
                    "node {node} became primary of epoch {epoch} with {ours:?} while node {} had {theirs:?}",
                    other.number
                ));
            }
        }
    }

    /// Looks at what a node has.
    pub(crate) fn check_history(&mut self, node: usize, shelf: &Shelf) {
        for (name, history) in &shelf.databases {
            for (index, pair) in history.windows(2).enumerate() {
                if pair[1].epoch < pair[0].epoch || pair[1].pos.txid.get() != index as u64 + 2 {
                    self.violated(format!(
                        "node {node}: {name} goes from {:?} to {:?}",
                        pair[0], pair[1]
                    ));
                }
            }
        }
    }
}
