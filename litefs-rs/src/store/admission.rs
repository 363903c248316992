//! Databases change hands: this node becomes primary, or is not any more.

use std::time::Duration;

use lease::Epoch;
use tokio::time::Instant;

use super::{Refusal, Slot, State, Store, chain};
use crate::{
    db::{
        Changed, Database,
        files::FileKind,
        locks::{LockByte, Owner},
    },
    halt::HALTED,
    replication::applier::OURSELVES,
};

/// How long readers of a log are kept out at a time, so that it can be put into the database: SQLite's patience is ten seconds.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// How long a writer of a log may take from its last write to its unlock.
const PROMISE_MAX: Duration = Duration::from_secs(1);

/// How a database is taken over from whoever wrote to it.
#[expect(missing_debug_implementations, reason = "functions")]
pub struct TakeOver<'a> {
    /// Who does so.
    pub owner: Owner,
    /// Whether it is time.
    pub when: &'a dyn Fn() -> bool,
    /// Asked every now and then, whether to go on.
    pub give_up: &'a dyn Fn() -> bool,
    /// Whether one that is at rest can be taken as it is.
    pub at_rest: &'a dyn Fn(&mut Database) -> bool,
}

/// What has to be done before applications may write.
enum Ready {
    Already,
    Held,
}

impl Store {
    /// Tells whether transactions of a database begin and count here.
    pub fn is_primary_of(&self, slot: &Slot) -> bool {
        let epoch = self.node().primacy.epoch();
        epoch.is_some() && slot.admitted() == epoch
    }

    /// Tells whether applications may begin a transaction in a database, wherever it counts.
    pub fn may_write(&self, slot: &Slot) -> bool {
        self.is_primary_of(slot) || slot.forward().is_some_and(|forward| forward.may_write())
    }

    /// Tells whether an application may change a file: as the primary, or to take back what it has begun while this node was.
    ///
    /// # Errors
    /// It may not.
    pub fn check_write(&self, slot: &Slot, state: &State, file: FileKind) -> Result<(), Refusal> {
        let takes_back = match state {
            State::Serving(database) => {
                matches!(file, FileKind::Database | FileKind::RollbackJournal) && database.is_unsettled()
            }
            State::Broken(_) | State::Damaged(_) => false,
        };
        if file == FileKind::Shm || self.may_write(slot) || takes_back {
            Ok(())
        } else {
            Err(Refusal::ReadOnly)
        }
    }

    /// Lets nobody begin a transaction any more, and waits until none is being committed.
    pub fn close(&self) {
        self.node().primacy.end();
        for slot in self.all() {
            let epoch = slot.admitted();
            slot.set_admitted(None);
            // Who holds the write lock from afar does so of a primary that is none any more.
            let ended = slot.grants().end();
            if ended.is_some()
                && let State::Serving(database) = &mut *slot.lane().take()
            {
                database.unlock_whole(HALTED);
            }
            // What SQLite has promised becomes a transaction when its writer unlocks: that is a moment.
            let until = Instant::now() + PROMISE_MAX;
            let unpromised = |state: &mut State| match state {
                State::Serving(database) if database.locks().state(LockByte::WalWrite).is_some() => None,
                State::Serving(_) | State::Broken(_) | State::Damaged(_) => Some(()),
            };
            let lasts = || epoch.is_some_and(|epoch| self.node().primacy.lasts(epoch));
            let waited = slot
                .lane()
                .take_when(unpromised, || Instant::now() >= until || !lasts());
            let mut state = waited.map_or_else(|| slot.lane().take(), |(state, ())| state);
            if let State::Serving(database) = &mut *state {
                database.admit(None);
            }
        }
    }

    /// Lets applications write to a database: what a former writer left is taken back, and the log is put into the database.
    /// Waits while somebody reads the log.
    ///
    /// * `idle`: whether nothing waits to be applied.
    /// * `give_up`: asked every now and then, whether to go on.
    pub fn admit(&self, slot: &Slot, epoch: Epoch, idle: &dyn Fn() -> bool, give_up: impl Fn() -> bool) {
        let how = TakeOver {
            owner: OURSELVES,
            when: idle,
            give_up: &give_up,
            at_rest: &|_| true,
        };
        self.take_over(slot, &how, |database| {
            slot.set_forward(None);
            database.set_forward(None);
            database.admit(Some(epoch));
            slot.set_admitted(Some(epoch));
        });
    }

    /// Takes a database over from whoever wrote to it: what he left is taken back, and the log is put into the database. Then
    /// does something to it before anybody else, and returns what comes of it; nothing if it was given up, or the database is not
    /// served.
    pub fn take_over<R>(
        &self,
        slot: &Slot,
        how: &TakeOver<'_>,
        then: impl FnOnce(&mut Database) -> R,
    ) -> Option<R> {
        let mut drained_since = None;
        let mut drains = || {
            let since = *drained_since.get_or_insert_with(Instant::now);
            since.elapsed() < DRAIN_MAX
        };
        let ready = |state: &mut State| match state {
            _ if !(how.when)() => None,
            State::Serving(database) if !database.has_log() && !database.is_unsettled() => {
                (how.at_rest)(database).then_some(Ready::Already)
            }
            State::Serving(database) => {
                if database.lock_whole(how.owner).is_ok() {
                    return Some(Ready::Held);
                }
                if database.has_log() && drains() {
                    database.drain(how.owner);
                } else {
                    database.stop_draining(how.owner);
                }
                None
            }
            State::Broken(_) | State::Damaged(_) => Some(Ready::Already),
        };
        let Some((mut state, ready)) = slot.lane().take_when(ready, how.give_up) else {
            if let State::Serving(database) = &mut *slot.lane().take() {
                database.stop_draining(how.owner);
            }
            return None;
        };
        if matches!(ready, Ready::Held) {
            self.take_back(slot, &mut state);
        }
        let done = match &mut *state {
            State::Serving(database) => {
                database.unlock_whole(how.owner);
                Some(then(database))
            }
            State::Broken(_) | State::Damaged(_) => None,
        };
        drop(state);
        slot.lane().changed();
        done
    }

    /// Takes back what a writer left that may not commit any more, and puts the log away. The caller holds the whole database.
    pub fn take_back(&self, slot: &Slot, state: &mut State) {
        let State::Serving(database) = state else {
            return;
        };
        let everything = Changed {
            ranges: FileKind::ALL.map(|file| (file, 0..u64::MAX)).to_vec(),
            dropped: false,
        };
        let changed = if database.is_unsettled() {
            self.reopen(slot, state);
            everything
        } else {
            slot.set_renewing(self.kernel().is_some_and(|kernel| !kernel.shares_index()));
            match database.begin_anew() {
                Ok(changed) => changed,
                Err(error) => {
                    tracing::error!(db = %slot.name(), error = %chain(&error), "log was not put into the database");
                    self.reopen(slot, state);
                    everything
                }
            }
        };
        if let Some(kernel) = self.kernel() {
            kernel.changed(slot, &changed);
            kernel.names_changed(slot.name());
        }
        slot.set_renewing(false);
    }
}
