//! On the primary: writers are kept out for who holds the lock, and let in again.

use std::{sync::Arc, time::Duration};

use ltx::NodeId;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    HALTED,
    grants::{Asked, Grant},
};
use crate::{
    db::{Changed, files::FileKind},
    store::{Slot, Store, TakeOver, chain},
};

/// Who asks for the lock.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The number that he chose.
    pub id: i64,
    /// Who he is.
    pub peer: Option<NodeId>,
    /// For how long.
    pub lasts: Duration,
}

/// Why it was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Transactions are made elsewhere.
    #[error("lease expired")]
    NotPrimary,
    /// Others used the database all the time.
    #[error("acquire halt lock: timed out, the database is in use")]
    TimedOut,
}

/// Grants the lock, as soon as nobody writes: what a writer left that died is taken back, and the log put into the database.
/// Waits.
///
/// * `give_up`: asked every now and then, whether to wait on.
///
/// # Errors
/// This node is not primary, or it took too long.
pub fn grant(
    store: &Store,
    slot: &Slot,
    asker: Asker,
    give_up: &dyn Fn() -> bool,
) -> Result<Grant, GrantError> {
    let epoch = store.node().primacy.epoch().ok_or(GrantError::NotPrimary)?;
    let now = || Instant::now().into_std();
    let has = || match slot.grants().ask(now(), asker.id) {
        Asked::Has(grant) => Some(grant),
        Asked::Free | Asked::Busy => None,
    };
    if let Some(grant) = has() {
        return Ok(grant);
    }
    let is_primary = || store.node().primacy.epoch() == Some(epoch);
    let how = TakeOver {
        owner: HALTED,
        when: &|| slot.grants().is_free() && store.is_primary_of(slot),
        give_up: &|| give_up() || !is_primary() || has().is_some(),
        at_rest: &|database| database.hold(HALTED).is_ok(),
    };
    let granted = store.take_over(slot, &how, |database| {
        // Before anybody else can: it was had whole, or held like this.
        database.hold(HALTED).ok()?;
        let offered = database.offer_index(HALTED).unwrap_or_else(|error| {
            tracing::warn!(db = %slot.name(), error = %chain(&error), "nobody can open the log's index while the lock is held");
            false
        });
        let grant = Grant {
            id: asker.id,
            peer: asker.peer,
            epoch,
            pos: database.pos(),
            until: now() + asker.lasts,
        };
        slot.grants().grant(grant.clone());
        Some((grant, offered))
    });
    match granted.flatten() {
        Some((grant, offered)) => {
            if offered && let Some(kernel) = store.kernel() {
                let ranges = vec![(FileKind::Shm, 0..u64::MAX)];
                kernel.changed(
                    slot,
                    &Changed {
                        ranges,
                        dropped: false,
                    },
                );
                kernel.names_changed(slot.name());
            }
            tracing::info!(db = %slot.name(), id = grant.id, "halt lock granted");
            Ok(grant)
        }
        None if !is_primary() => Err(GrantError::NotPrimary),
        // Asked for twice at the same time.
        None => has().ok_or(GrantError::TimedOut),
    }
}

/// Lets writers in again after a lock that has ended. Where readers of a log stand in the way of putting it away, writers wait for
/// those; so does this.
pub fn let_go(store: &Store, slot: &Slot) {
    let how = TakeOver {
        owner: HALTED,
        when: &|| true,
        give_up: &|| store.is_stopped() || !slot.grants().is_free() || !store.is_primary_of(slot),
        at_rest: &|_| true,
    };
    store.take_over(slot, &how, |database| {
        if !slot.grants().is_free() {
            // Somebody else had it meanwhile.
            let _held = database.hold(HALTED);
        }
    });
}

/// Ends a lock when it is too old.
pub fn watch(store: Arc<Store>, slot: Arc<Slot>, id: i64, stop: CancellationToken) {
    daemon::spawn("halt", async move {
        loop {
            let until = slot.grants().until(id);
            let Some(until) = until else {
                return;
            };
            tokio::select! {
                () = sleep_until(until.into()) => {}
                () = stop.cancelled() => return,
            }
            let expired = slot.grants().expire(Instant::now().into_std(), id);
            if expired {
                tracing::warn!(db = %slot.name(), id, "halt lock expired");
                let ended = tokio::task::spawn_blocking(move || let_go(&store, &slot));
                let _stopped = ended.await;
                return;
            }
        }
    });
}
