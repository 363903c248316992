//! PURE. What the primary sends a replica next.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ltx::{Checksum, Pos, Txid};

use super::position_map::PositionMap;
use crate::name::DatabaseName;

/// How often a replica hears of a primary that has nothing to send.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// What the primary has.
pub trait Store {
    /// Returns where a database is; nothing when there is none of that name.
    fn pos(&self, database: &DatabaseName) -> Option<Pos>;

    /// Returns the checksum before the LTX file of that one transaction; nothing when the file is not there any more.
    fn pre_apply(&self, database: &DatabaseName, txid: Txid) -> Option<Checksum>;

    /// Returns how far the backups of a database have come.
    fn high_water_mark(&self, database: &DatabaseName) -> Txid;
}

/// What to send, or to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The LTX file of one transaction; then [`CatchUp::sent`].
    SendFile {
        /// Of which database.
        database: DatabaseName,
        /// The transaction.
        txid: Txid,
    },
    /// The whole database as it is then; then [`CatchUp::sent`].
    SendSnapshot {
        /// Which one.
        database: DatabaseName,
    },
    /// How far backups have come.
    HighWaterMark {
        /// Of which database.
        database: DatabaseName,
        /// The last transaction of theirs.
        txid: Txid,
    },
    /// There is no such database.
    NoDatabase {
        /// Which one.
        database: DatabaseName,
    },
    /// Everything was sent once.
    Ready,
    /// We are there.
    Heartbeat,
    /// The lease is the replica's; [`Action::End`] follows.
    Handoff {
        /// Its id.
        lease: String,
    },
    /// Nothing more is sent.
    End,
    /// Until a database changes, or until then.
    Wait {
        /// When to ask again at the latest.
        until: Instant,
    },
}

/// One replica, as the primary sees it.
///
/// The driver does one [`Action`] after the other, and tells what happens meanwhile. It begins to listen for changes before it
/// reads the databases' names for [`CatchUp::new`].
#[derive(Debug, Clone)]
pub struct CatchUp {
    replica: PositionMap,
    /// Databases that may have something to send.
    behind: BTreeSet<DatabaseName>,
    /// Only these are sent, if there are any.
    only: BTreeSet<DatabaseName>,
    mark_due: Option<DatabaseName>,
    sent_in_this_pass: bool,
    ready: bool,
    heartbeat: Option<Instant>,
    handoff: Option<String>,
    ends: bool,
}

impl CatchUp {
    /// Begins with what the replica has.
    ///
    /// * `databases`: the names of all our own.
    /// * `only`: the names that the replica wants; all when there are none.
    #[must_use]
    pub fn new(
        replica: PositionMap,
        databases: impl IntoIterator<Item = DatabaseName>,
        only: BTreeSet<DatabaseName>,
    ) -> Self {
        let names = replica.keys().cloned().collect::<Vec<_>>();
        let mut catch_up = Self {
            replica,
            behind: BTreeSet::new(),
            only,
            mark_due: None,
            sent_in_this_pass: false,
            ready: false,
            heartbeat: None,
            handoff: None,
            ends: false,
        };
        names
            .into_iter()
            .chain(databases)
            .for_each(|database| catch_up.changed(database));
        catch_up
    }

    /// A database has changed, or come or gone.
    pub fn changed(&mut self, database: DatabaseName) {
        if self.only.is_empty() || self.only.contains(&database) {
            self.behind.insert(database);
        }
    }

    /// A file or a snapshot was sent to its end.
    ///
    /// * `pos`: the database's position after it.
    pub fn sent(&mut self, database: DatabaseName, pos: Pos) {
        self.replica.insert(database, pos);
    }

    /// The lease is to go to this replica, when it has everything.
    pub fn hand_off(&mut self, lease: String) {
        self.handoff = Some(lease);
    }

    /// Returns what to do now.
    pub fn next(&mut self, now: Instant, store: &impl Store) -> Action {
        if self.ends {
            return Action::End;
        }
        if let Some(database) = self.mark_due.take() {
            let txid = store.high_water_mark(&database);
            return Action::HighWaterMark { database, txid };
        }
        while let Some(database) = self.behind.first().cloned() {
            match self.step(&database, store) {
                Some(action) => {
                    self.sent_in_this_pass = true;
                    return action;
                }
                None => self.behind.remove(&database),
            };
        }
        if std::mem::take(&mut self.sent_in_this_pass) && self.ready {
            self.heartbeat = Some(now + HEARTBEAT_INTERVAL);
        }
        if !std::mem::replace(&mut self.ready, true) {
            return Action::Ready;
        }
        if let Some(lease) = self.handoff.take() {
            self.ends = true;
            return Action::Handoff { lease };
        }
        match self.heartbeat {
            Some(until) if now < until => Action::Wait { until },
            _ => {
                self.heartbeat = Some(now + HEARTBEAT_INTERVAL);
                Action::Heartbeat
            }
        }
    }

    /// What brings a database of the replica one step on; nothing when it is where ours is.
    fn step(&mut self, database: &DatabaseName, store: &impl Store) -> Option<Action> {
        let database = database.clone();
        let Some(ours) = store.pos(&database) else {
            self.behind.remove(&database);
            self.replica.remove(&database);
            return Some(Action::NoDatabase { database });
        };
        let theirs = self.replica.get(&database).copied().unwrap_or_default();
        // Someone who is ahead of us, or beside us, was primary once and made transactions that never got to us.
        let diverged =
            theirs.txid > ours.txid || theirs.txid == ours.txid && theirs.checksum != ours.checksum;
        let from = if diverged { Pos::ZERO } else { theirs };
        // Also where we have no transaction at all: an empty node takes nothing away from those who have.
        if from.txid >= ours.txid {
            return None;
        }
        let follows =
            |txid: &Txid| from.txid != Txid::ZERO && store.pre_apply(&database, *txid) == Some(from.checksum);
        Some(match from.txid.next().filter(follows) {
            Some(txid) => {
                self.mark_due = Some(database.clone());
                Action::SendFile { database, txid }
            }
            None => Action::SendSnapshot { database },
        })
    }
}

#[cfg(test)]
mod tests;
