//! What a node does as its role changes, on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use lease::{Epoch, Input, Keeper, Standing};
use tokio::{runtime::Handle, sync::watch, time::Instant, time::timeout};

use super::member::Member;
use crate::{
    replication::{
        client::{Following, Replica},
        status::{Primary, Status},
        streams::{Delivery, Streams},
    },
    store::{Slot, Store, chain},
};

/// How long the thread looks away from the node's stop.
const LOOK: Duration = Duration::from_millis(200);
/// How long a replica has to get a lease that is handed to it, and to apply what came before.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// A node and its role.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) store: Arc<Store>,
    pub(super) status: Arc<Status>,
    pub(super) member: Arc<Member>,
    pub(super) keeper: Keeper,
    pub(super) streams: Arc<Streams>,
    pub(super) replica: Replica,
    pub(super) reconnect_delay: Duration,
    pub(super) only: Vec<String>,
    pub(super) ending: Arc<AtomicBool>,
    pub(super) runtime: Handle,
}

impl Roles {
    /// Plays the node's role until it stops.
    pub(super) fn run(mut self) {
        let mut standings = self.keeper.standing();
        while !self.is_ending() {
            let standing = standings.borrow_and_update().clone();
            match &standing {
                Standing::Primary { epoch } => self.begin(*epoch),
                Standing::Leaving | Standing::HandingOver { lease: None, .. } => {
                    self.store.close();
                    self.say(Input::Drained);
                }
                Standing::HandingOver {
                    to,
                    lease: Some(lease),
                } => {
                    let said = match self.hand_over(to, lease.clone()) {
                        Some(Delivery::Sent) => Input::HandedOff,
                        Some(Delivery::Pending | Delivery::Gone) | None => Input::HandOffFailed,
                    };
                    self.say(said);
                }
                Standing::Nobody => {
                    self.step_down();
                    self.status.set_primary(None);
                }
                Standing::Replica { primary, epoch } => {
                    self.step_down();
                    self.status
                        .set_primary(Some(Primary::There(primary.hostname.clone())));
                    self.follow(&standings, &standing, &primary.url, *epoch);
                    continue;
                }
            }
            self.wait(&mut standings);
        }
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) || self.store.is_stopped()
    }

    fn say(&self, input: Input) {
        self.runtime.block_on(self.keeper.say(input));
    }

    /// Waits until the standing is another, or the node stops.
    fn wait(&self, standings: &mut watch::Receiver<Standing>) {
        while !self.is_ending() {
            let changed = self
                .runtime
                .block_on(async { timeout(LOOK, standings.changed()).await });
            match changed {
                Ok(Ok(())) => return,
                // It never changes any more.
                Ok(Err(_)) => thread::park_timeout(LOOK),
                Err(_) => {}
            }
        }
    }

    /// Becomes primary: first durably, then database by database as each is ready.
    fn begin(&mut self, epoch: Epoch) {
        if let Err(error) = self.member.begins(epoch) {
            tracing::error!(%error, "primary could not keep its epoch, and gives its lease back");
            return self.say(Input::Demote);
        }
        self.say(Input::Began);
        self.store.node().primacy.begin(epoch);
        for slot in self.store.all() {
            if slot.admitted() == Some(epoch) {
                continue;
            }
            let idle = self.replica.idle(slot.name());
            self.store.admit(&slot, epoch, &idle, || true);
            if slot.admitted() != Some(epoch) {
                self.admit_later(slot, epoch, idle);
            }
        }
        self.status.set_primary(Some(Primary::Here));
        self.status.become_ready();
        tracing::info!(lease_epoch = epoch.0, "node is primary");
    }

    /// Somebody is still in the database: it is made ready when he leaves.
    fn admit_later(&self, slot: Arc<Slot>, epoch: Epoch, idle: impl Fn() -> bool + Send + 'static) {
        let (store, ending) = (Arc::clone(&self.store), Arc::clone(&self.ending));
        let name = slot.name().clone();
        let admitting = thread::Builder::new().name("admit".to_owned()).spawn(move || {
            let give_up = || {
                let lasts = store.node().primacy.epoch() == Some(epoch);
                !lasts || ending.load(Ordering::Acquire) || store.is_stopped()
            };
            store.admit(&slot, epoch, &idle, give_up);
        });
        if let Err(error) = admitting {
            tracing::error!(db = %name, %error, "database stays read only");
        }
    }

    /// Is primary no more.
    fn step_down(&self) {
        if self.status.primaries().borrow().as_ref() == Some(&Primary::Here) {
            self.store.close();
            tracing::info!("node is not primary any more");
        }
    }

    /// Sends the lease behind everything else.
    fn hand_over(&self, to: &lease::NodeId, lease: String) -> Option<Delivery> {
        let mut delivery = self.streams.offer(to.0.parse().ok()?, lease)?;
        self.runtime.block_on(async {
            let delivered = delivery.wait_for(|delivery| *delivery != Delivery::Pending);
            timeout(HAND_OVER_MAX, delivered)
                .await
                .ok()?
                .ok()
                .map(|delivery| *delivery)
        })
    }

    /// Follows a primary until it, or the standing, is another.
    fn follow(
        &mut self,
        standings: &watch::Receiver<Standing>,
        standing: &Standing,
        url: &str,
        epoch: Epoch,
    ) {
        let (changes, was) = (standings.clone(), standing.clone());
        let changed = move || *changes.borrow() != was;
        let following = Following {
            url: url.to_owned(),
            only: self.only.clone(),
            epoch,
            member: Arc::clone(&self.member),
        };
        match self.replica.follow(&self.runtime, &following, &changed) {
            Ok(()) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "stream from the primary ended"),
        }
        if let Some(lease) = self.replica.take_offer() {
            if self.replica.finishes(Instant::now() + HAND_OVER_MAX) {
                return self.say(Input::Offered(lease));
            }
            tracing::warn!("lease was not taken over: somebody reads a database that has to change first");
        }
        let until = Instant::now() + self.reconnect_delay;
        while Instant::now() < until && !self.is_ending() && !changed() {
            let until = until.min(Instant::now() + LOOK);
            self.runtime
                .block_on(async { tokio::time::sleep_until(until).await });
        }
    }
}
