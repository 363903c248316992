//! One node: what it keeps, what it is, and where its requests go.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use lease::{
    AskError, Candidate, Epoch, Grant, Keeper, NodeId, ObjectLease, Progress, Provider, Right, Subject,
    Timing, View,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{
    oracles::{Oracles, Other},
    shelf::Shelf,
    world::Mistake,
};

/// What outlives a process, and what others see of it.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) shelf: Shelf,
    pub(crate) process: Option<Process>,
    pub(crate) cut_off: bool,
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Process {
    /// Greater in each process.
    pub(crate) number: u64,
    pub(crate) id: NodeId,
    pub(crate) keeper: Keeper,
    pub(crate) right: Arc<Right>,
    pub(crate) gate: Arc<Gate>,
    /// For which epoch it has done what comes before the first transaction.
    pub(crate) begun: Option<Epoch>,
    /// Transactions between their first and their last look at the right.
    pub(crate) committing: u32,
    /// A lease that goes to a replica, and to which.
    pub(crate) offer: Option<(NodeId, String)>,
    /// What became of it.
    pub(crate) delivered: Option<bool>,
    /// The last thing it was told by its primary.
    pub(crate) handed: bool,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Process {
    /// Returns under which epoch it would acknowledge something that begins now.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.right.now().filter(|epoch| self.begun == Some(*epoch))
    }
}

/// Where a process waits that stands still.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Gate {
    pub(crate) fn set_open(&self, open: bool) {
        self.0.send_replace(open);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn pass(&self) {
        // The sender lives as long as the gate.
        let mut open = self.0.subscribe();
        let _passed = open.wait_for(|open| *open).await;
    }
}

/// All nodes, what is cut between them, and what must hold.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) all: Vec<Node>,
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) oracles: Oracles,
    pub(crate) next_content: u64,
    pub(crate) quiet: bool,
    pub(crate) mistake: Option<Mistake>,
}

impl Nodes {
    /// Returns a process, if it still runs.
    pub(crate) fn process(&mut self, node: usize, number: u64) -> Option<&mut Process> {
        let process = self.all[node].process.as_mut();
        process.filter(|process| process.number == number)
    }

    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// Returns what the oracles look at.
    pub(crate) fn look(all: &[Node]) -> Vec<Other<'_>> {
        all.iter()
            .enumerate()
            .map(|(number, node)| {
                let process = node.process.as_ref();
                Other {
                    number,
                    shelf: &node.shelf,
                    well: !node.cut_off && process.is_some_and(|process| process.gate.is_open()),
                    acknowledges: process.and_then(Process::epoch),
                }
            })
            .collect()
    }
}

/// All nodes, for every task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Nodes>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node as its lease sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) shared: Shared,
    pub(crate) number: usize,
    pub(crate) proposal: Mutex<String>,
}

impl Member {
    pub(crate) fn proposal(&self) -> String {
        self.proposal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Subject for Member {
    fn progress(&self) -> Progress {
        self.shared.lock().all[self.number].shelf.progress()
    }

    fn cluster(&self) -> Option<String> {
        self.shared.lock().all[self.number].shelf.cluster.clone()
    }

    fn proposes(&self) -> String {
        self.cluster().unwrap_or_else(|| self.proposal())
    }

    fn adopts(&self, cluster: &str) {
        cluster.clone_into(&mut self.proposal.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A lease whose requests stand still when their process does.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) lease: ObjectLease,
    pub(crate) gate: Arc<Gate>,
}

macro_rules! gated {
    ($self:ident, $call:expr) => {{
        $self.gate.pass().await;
        let answer = $call.await;
        $self.gate.pass().await;
        answer
    }};
}

#[async_trait]
impl Provider for Gated {
    fn timing(&self) -> Timing {
        self.lease.timing()
    }

    async fn look(&self) -> Result<View, AskError> {
        gated!(self, self.lease.look())
    }

    async fn announce(&self, seen: &View, candidate: Candidate) -> Result<(), AskError> {
        gated!(self, self.lease.announce(seen, candidate))
    }

    async fn acquire(&self, seen: &View, cluster: &str) -> Result<Option<Grant>, AskError> {
        gated!(self, self.lease.acquire(seen, cluster))
    }

    async fn renew(&self, grant: &Grant, progress: Progress) -> Result<Option<Grant>, AskError> {
        gated!(self, self.lease.renew(grant, progress))
    }

    async fn release(&self, grant: &Grant) -> Result<(), AskError> {
        gated!(self, self.lease.release(grant))
    }

    async fn pass_on(&self, grant: &Grant, to: &NodeId) -> Result<Option<String>, AskError> {
        gated!(self, self.lease.pass_on(grant, to))
    }

    async fn take_over(&self, lease: &str) -> Result<Option<Grant>, AskError> {
        gated!(self, self.lease.take_over(lease))
    }
}

/// Returns the time at which a world's waiting ends.
pub(crate) fn soon(ms: u64) -> Instant {
    Instant::now() + tokio::time::Duration::from_millis(ms)
}
