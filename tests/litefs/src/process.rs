//! A node that runs: its role, its writers, what it takes from its primary.

use std::{collections::BTreeSet, sync::Arc};

use lease::{Epoch, Input, Keeper, NodeId, Standing};
use litefs_rs::{
    name::DatabaseName,
    replication::{
        catch_up::{Action, CatchUp},
        follower::{Follower, Input as Received, Output},
    },
    store::KeptEpoch,
};
use ltx::{Checksum, Flags, Header, PageSize, Txid};
use rand::RngExt as _;
use sim::Rng;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use crate::{
    node::{Gate, Member, Nodes, Shared, soon},
    shelf::Transaction,
    world::Mistake,
};

/// How long a lease may take to its next holder.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// One process of a node, as its tasks see it.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) shared: Shared,
    pub(crate) node: usize,
    pub(crate) number: u64,
    pub(crate) id: NodeId,
    pub(crate) keeper: Keeper,
    pub(crate) gate: Arc<Gate>,
    pub(crate) member: Arc<Member>,
    pub(crate) trace: sim::Trace,
}

impl Run {
    /// Plays the role that the lease gives.
    pub(crate) async fn roles(self, mut rng: Rng) {
        let mut standings = self.keeper.standing();
        loop {
            self.gate.pass().await;
            let standing = standings.borrow_and_update().clone();
            match &standing {
                Standing::Primary { epoch } => self.begin(*epoch).await,
                Standing::Leaving | Standing::HandingOver { lease: None, .. } => {
                    self.end();
                    self.drain(&mut rng).await;
                    self.keeper.say(Input::Drained).await;
                }
                Standing::HandingOver {
                    to,
                    lease: Some(lease),
                } => {
                    let sent = self.hand_over(to, lease).await;
                    let said = if sent {
                        Input::HandedOff
                    } else {
                        Input::HandOffFailed
                    };
                    self.keeper.say(said).await;
                }
                Standing::Nobody => self.end(),
                Standing::Replica { primary, epoch } => {
                    self.end();
                    self.follow(&standings, &standing, &primary.node, *epoch, &mut rng)
                        .await;
                    sleep_until(soon(rng.random_range(20..500))).await;
                    continue;
                }
            }
            if standings.changed().await.is_err() {
                return;
            }
        }
    }

    async fn begin(&self, epoch: Epoch) {
        {
            let mut nodes = self.shared.lock();
            let nodes = &mut *nodes;
            let Some(process) = nodes.all[self.node].process.as_mut() else {
                return;
            };
            if process.begun == Some(epoch) {
                return;
            }
            let handed = std::mem::take(&mut process.handed);
            self.trace.event(format_args!(
                "node {} begins epoch {epoch} handed {handed}",
                self.node
            ));
            let others = Nodes::look(&nodes.all);
            let before = &nodes.all[self.node].shelf;
            nodes.oracles.begins(self.node, epoch, before, handed, &others);
            let shelf = &mut nodes.all[self.node].shelf;
            shelf.kept = KeptEpoch {
                epoch,
                node: Some(self.id.clone()),
            };
            if shelf.cluster.is_none() {
                shelf.cluster = Some(self.member.proposal());
            }
        }
        self.keeper.say(Input::Began).await;
        self.gate.pass().await;
        if let Some(process) = self.shared.lock().process(self.node, self.number) {
            process.begun = Some(epoch);
        }
    }

    fn end(&self) {
        if let Some(process) = self.shared.lock().process(self.node, self.number) {
            process.begun = None;
        }
    }

    /// Waits until nothing is being committed.
    async fn drain(&self, rng: &mut Rng) {
        loop {
            let drained = {
                let mut nodes = self.shared.lock();
                let careless = nodes.mistake == Some(Mistake::SaysDrained);
                let process = nodes.process(self.node, self.number);
                process.is_none_or(|process| process.committing == 0) || careless
            };
            if drained {
                return;
            }
            sleep_until(soon(rng.random_range(1..5))).await;
        }
    }

    async fn hand_over(&self, to: &NodeId, lease: &str) -> bool {
        let until = Instant::now() + HAND_OVER_MAX;
        if let Some(process) = self.shared.lock().process(self.node, self.number) {
            process.offer = Some((to.clone(), lease.to_owned()));
            process.delivered = None;
        }
        while Instant::now() < until {
            let delivered = {
                let mut nodes = self.shared.lock();
                nodes
                    .process(self.node, self.number)
                    .and_then(|process| process.delivered)
            };
            if let Some(delivered) = delivered {
                return delivered;
            }
            sleep(Duration::from_millis(5)).await;
        }
        if let Some(process) = self.shared.lock().process(self.node, self.number) {
            process.offer = None;
        }
        false
    }

    /// Writes whenever the node lets it.
    pub(crate) async fn writes(self, mut rng: Rng, database: DatabaseName) {
        loop {
            sleep_until(soon(rng.random_range(20..400))).await;
            self.gate.pass().await;
            let (epoch, right) = {
                let mut nodes = self.shared.lock();
                let quiet = nodes.quiet;
                let Some(process) = nodes.process(self.node, self.number) else {
                    return;
                };
                let Some(epoch) = process.epoch().filter(|_| !quiet) else {
                    continue;
                };
                process.committing += 1;
                (epoch, Arc::clone(&process.right))
            };
            let late = self.shared.lock().mistake == Some(Mistake::AcknowledgesLate);
            sleep_until(soon(rng.random_range(0..20))).await;
            self.gate.pass().await;
            if late || right.lasts(epoch) {
                let transaction = self.publish(&database, epoch);
                sleep_until(soon(rng.random_range(0..4))).await;
                self.gate.pass().await;
                if late || right.lasts(epoch) {
                    self.acknowledge(&database, transaction);
                } else {
                    // Nobody knows what the others will make of it: the node stops, and looks at the next start.
                    self.trace
                        .event(format_args!("node {} stops within a commit", self.node));
                    self.shared.lock().all[self.node].process = None;
                    return;
                }
            }
            if let Some(process) = self.shared.lock().process(self.node, self.number) {
                process.committing -= 1;
            }
        }
    }

    fn publish(&self, database: &DatabaseName, epoch: Epoch) -> Transaction {
        let mut nodes = self.shared.lock();
        nodes.next_content += 1;
        let content = nodes.next_content;
        nodes.all[self.node].shelf.append(database, content, epoch)
    }

    fn acknowledge(&self, database: &DatabaseName, transaction: Transaction) {
        let mut nodes = self.shared.lock();
        let nodes = &mut *nodes;
        self.trace.event(format_args!(
            "node {} acknowledges {} of {database}",
            self.node, transaction.pos
        ));
        let others = Nodes::look(&nodes.all);
        nodes
            .oracles
            .acknowledged(self.node, database, transaction, &others);
    }

    /// Follows a primary until something breaks, or the standing changes.
    async fn follow(
        &self,
        standings: &watch::Receiver<Standing>,
        standing: &Standing,
        primary: &NodeId,
        leased: Epoch,
        rng: &mut Rng,
    ) {
        sleep_until(soon(rng.random_range(1..20))).await;
        let Some((peer, number, epoch, mut catch_up, mut follower)) = self.connect(primary, leased) else {
            return;
        };
        let ended = async {
            loop {
                self.gate.pass().await;
                if *standings.borrow() != *standing {
                    return;
                }
                let action = {
                    let mut nodes = self.shared.lock();
                    let cut = nodes.is_cut(self.node, peer);
                    let Some(process) = nodes.process(peer, number).filter(|_| !cut) else {
                        return;
                    };
                    if !process.gate.is_open() {
                        None
                    } else if !process.right.lasts(epoch) {
                        return;
                    } else {
                        if process.offer.as_ref().is_some_and(|(to, _)| *to == self.id)
                            && let Some((_, lease)) = process.offer.take()
                        {
                            catch_up.hand_off(lease);
                        }
                        // Whatever changed meanwhile.
                        let shelf = &nodes.all[peer].shelf;
                        shelf
                            .databases
                            .keys()
                            .for_each(|name| catch_up.changed(name.clone()));
                        Some(catch_up.next(Instant::now().into_std(), shelf))
                    }
                };
                let goes_on = match action {
                    None => {
                        sleep(Duration::from_millis(100)).await;
                        self.take(&mut follower, Received::Tick)
                    }
                    Some(Action::Wait { until }) => {
                        sleep_until(Instant::from_std(until).min(soon(rng.random_range(20..250)))).await;
                        true
                    }
                    Some(action) => {
                        sleep_until(soon(rng.random_range(0..15))).await;
                        self.gate.pass().await;
                        self.receive((peer, number, epoch), action, &mut catch_up, &mut follower)
                            .await
                    }
                };
                if !goes_on {
                    return;
                }
            }
        };
        ended.await;
        if let Some(process) = self.shared.lock().process(peer, number) {
            // It is not there any more.
            process.delivered = process
                .delivered
                .or(Some(false).filter(|_| process.offer.is_some()));
        }
    }

    fn connect(&self, primary: &NodeId, leased: Epoch) -> Option<(usize, u64, Epoch, CatchUp, Follower)> {
        let mut nodes = self.shared.lock();
        let nodes = &mut *nodes;
        let runs = |node: &crate::node::Node| {
            node.process
                .as_ref()
                .is_some_and(|process| process.id == *primary)
        };
        let peer = nodes.all.iter().position(runs)?;
        if nodes.is_cut(self.node, peer) {
            return None;
        }
        let process = nodes.all[peer].process.as_ref()?;
        let (number, epoch) = (
            process.number,
            process.epoch().filter(|_| process.gate.is_open())?,
        );
        let seen = leased.max(nodes.all[self.node].shelf.kept.epoch);
        if epoch < seen {
            return None;
        }
        let theirs = nodes.all[peer].shelf.cluster.clone();
        let names: Vec<_> = nodes.all[peer].shelf.databases.keys().cloned().collect();
        let shelf = &mut nodes.all[self.node].shelf;
        if shelf.cluster.is_some() && shelf.cluster != theirs {
            return None;
        }
        shelf.cluster = theirs;
        if nodes.mistake == Some(Mistake::SyncedAtOnce) {
            shelf.kept.epoch = epoch;
        }
        let positions = shelf.positions();
        let catch_up = CatchUp::new(positions.clone(), names, BTreeSet::new());
        let follower = Follower::new(Instant::now().into_std(), ltx::NodeId::NONE, positions, true);
        Some((peer, number, epoch, catch_up, follower))
    }

    /// Lets the follower judge, and tells whether the stream goes on.
    fn take(&self, follower: &mut Follower, received: Received) -> bool {
        let mut outputs = Vec::new();
        follower.handle(Instant::now().into_std(), received, &mut outputs);
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Disconnect(_)))
    }

    /// Takes what the primary sent.
    async fn receive(
        &self,
        (peer, number, epoch): (usize, u64, Epoch),
        action: Action,
        catch_up: &mut CatchUp,
        follower: &mut Follower,
    ) -> bool {
        self.take(follower, Received::Heard);
        match action {
            Action::SendFile { database, txid } => {
                let mut nodes = self.shared.lock();
                let Ok(index) = usize::try_from(txid.get() - 1) else {
                    return false;
                };
                let history = nodes.all[peer].shelf.databases.get(&database);
                let sent = history.and_then(|history| {
                    Some((
                        *history.get(index)?,
                        index.checked_sub(1).map(|before| history[before]),
                    ))
                });
                let Some((sent, before)) = sent else {
                    return false;
                };
                let pre_apply = before.map_or(Checksum::NONE, |before| before.pos.checksum);
                let applies = self.applies(follower, &database, txid, txid, pre_apply, &nodes);
                if applies {
                    let history = nodes.all[self.node]
                        .shelf
                        .databases
                        .entry(database.clone())
                        .or_default();
                    history.truncate(index);
                    history.push(sent);
                    catch_up.sent(database.clone(), sent.pos);
                    self.applied(follower, database, sent);
                }
                applies
            }
            Action::SendSnapshot { database } => {
                let mut nodes = self.shared.lock();
                let history = nodes.all[peer]
                    .shelf
                    .databases
                    .get(&database)
                    .cloned()
                    .unwrap_or_default();
                let Some(last) = history.last().copied() else {
                    return false;
                };
                let applies = self.applies(
                    follower,
                    &database,
                    Txid::FIRST,
                    last.pos.txid,
                    Checksum::NONE,
                    &nodes,
                );
                if applies {
                    let shelf = &mut nodes.all[self.node].shelf;
                    shelf
                        .files_from
                        .insert(database.clone(), history.len() as u64 + 1);
                    shelf.databases.insert(database.clone(), history);
                    catch_up.sent(database.clone(), last.pos);
                    self.applied(follower, database, last);
                }
                applies
            }
            Action::Ready => {
                let kept = &mut self.shared.lock().all[self.node].shelf.kept;
                if epoch > kept.epoch {
                    *kept = KeptEpoch { epoch, node: None };
                }
                true
            }
            Action::Handoff { lease } => {
                {
                    let mut nodes = self.shared.lock();
                    if let Some(process) = nodes.process(peer, number) {
                        process.delivered = Some(true);
                    }
                    if let Some(process) = nodes.process(self.node, self.number) {
                        process.handed = true;
                    }
                }
                self.trace
                    .event(format_args!("node {} is handed {lease}", self.node));
                self.keeper.say(Input::Offered(lease)).await;
                // Long enough to take it.
                let mut standings = self.keeper.standing();
                let primary = standings.wait_for(|now| matches!(now, Standing::Primary { .. }));
                if timeout(HAND_OVER_MAX, primary).await.is_err()
                    && let Some(process) = self.shared.lock().process(self.node, self.number)
                {
                    process.handed = false;
                }
                false
            }
            Action::Heartbeat => self.take(follower, Received::Heartbeat(0)),
            Action::End => false,
            Action::HighWaterMark { .. } | Action::NoDatabase { .. } | Action::Wait { .. } => true,
        }
    }

    fn applies(
        &self,
        follower: &mut Follower,
        database: &DatabaseName,
        min_txid: Txid,
        max_txid: Txid,
        pre_apply: Checksum,
        nodes: &Nodes,
    ) -> bool {
        let header = Header {
            flags: Flags::NONE,
            page_size: PageSize::new(4096).expect("a power of two"),
            commit_pages: 1,
            min_txid,
            max_txid,
            timestamp_ms: 0,
            pre_apply,
            wal: None,
            node: ltx::NodeId::NONE,
        };
        let database = database.to_string();
        let goes_on = self.take(follower, Received::Ltx { database, header });
        goes_on || nodes.mistake == Some(Mistake::TakesAnything)
    }

    fn applied(&self, follower: &mut Follower, database: DatabaseName, last: Transaction) {
        let applied = Received::Applied {
            database,
            pos: last.pos,
            timestamp_ms: 0,
        };
        self.take(follower, applied);
    }
}
