//! The port: where a lease is kept.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use async_trait::async_trait;

use crate::{Candidate, Epoch, Holder, NodeId, Progress};

/// How a lease stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Held {
    /// Nobody has it.
    #[default]
    Free,
    /// Somebody has.
    By(Holder),
    /// Somebody had, and keeps it for another.
    KeptFor(NodeId, Holder),
}

/// A lease as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Who has it.
    pub held: Held,
    /// Whether that is this node, as it is since its start.
    pub ours: bool,
    /// The last acquisition's; where leases leave no trace when they are free, nothing.
    pub epoch: Epoch,
    /// Moves on with each renewal.
    pub renewal: u64,
    /// How long nobody may have seen a renewal before the lease is free; nothing where the provider itself judges.
    pub ttl: Option<Duration>,
    /// Which cluster it belongs to.
    pub cluster: Option<String>,
    /// Whether somebody of the cluster may have had transactions.
    pub begun: bool,
    /// How far the cluster has come, at least.
    pub progress: Progress,
    /// Who wants it.
    pub candidates: BTreeMap<NodeId, Candidate>,
    /// What the provider knows this view by.
    pub token: String,
}

/// A lease that this node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of this acquisition.
    pub epoch: Epoch,
    /// What the provider knows it by.
    pub token: String,
}

/// How a lease is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a renewal lasts.
    pub ttl: Duration,
    /// When the next one is due.
    pub renew_after: Duration,
    /// How often somebody who waits looks.
    pub look_interval: Duration,
}

/// Where a lease is kept. A call that fails may have had its effect.
#[async_trait]
pub trait Provider: Send + Sync + Debug {
    /// Returns how the lease is paced.
    fn timing(&self) -> Timing;

    /// Looks at the lease.
    async fn look(&self) -> Result<View, AskError>;

    /// Says that this node wants it.
    async fn announce(&self, seen: &View, candidate: Candidate) -> Result<(), AskError>;

    /// Acquires it as it was seen; nothing when somebody else was faster.
    ///
    /// * `cluster`: which cluster it belongs to from then on, unless that is known.
    async fn acquire(&self, seen: &View, cluster: &str) -> Result<Option<Grant>, AskError>;

    /// Renews it; nothing when it is lost.
    ///
    /// * `progress`: how far the cluster has come.
    async fn renew(&self, grant: &Grant, progress: Progress) -> Result<Option<Grant>, AskError>;

    /// Gives it back.
    async fn release(&self, grant: &Grant) -> Result<(), AskError>;

    /// Keeps it for a node, and returns what that takes it over by; nothing when it is lost. From then on it is not this node's.
    async fn pass_on(&self, grant: &Grant, to: &NodeId) -> Result<Option<String>, AskError>;

    /// Takes over what another kept for this node, or takes back what this node kept for another; nothing when that is gone.
    ///
    /// * `lease`: what the other said.
    async fn take_over(&self, lease: &str) -> Result<Option<Grant>, AskError>;
}

/// Why where the lease is kept did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The object cannot be read.
    #[error("read the lease")]
    Get(#[from] objstore::GetError),
    /// The object cannot be written.
    #[error("write the lease")]
    Put(#[from] objstore::PutError),
    /// Others kept changing it meanwhile.
    #[error("the lease changed each of {attempts} times that it was written")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// What is kept there is no lease.
    #[error("the lease under {key} cannot be read")]
    Record {
        /// Where it is kept.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The agent cannot be reached.
    #[error("ask the consul agent at {authority}")]
    Agent {
        /// Where it is.
        authority: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A member of etcd cannot be reached.
    #[error("ask etcd at {endpoint}")]
    Etcd {
        /// Where it is.
        endpoint: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A member of etcd refuses.
    #[error("{path} at {endpoint}: {message} (status {status})")]
    EtcdRefused {
        /// Where it is.
        endpoint: String,
        /// What was asked.
        path: &'static str,
        /// The answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// A member of etcd says what etcd does not say.
    #[error("{path} at {endpoint}: the answer cannot be read")]
    EtcdAnswer {
        /// Where it is.
        endpoint: String,
        /// What was asked.
        path: &'static str,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// Whoever was asked did not answer in time.
    #[error("no answer from {authority} within {after:?}")]
    Timeout {
        /// Whom.
        authority: String,
        /// How long was waited.
        after: Duration,
    },
    /// The agent refuses.
    #[error("{method} {path}: status {status}")]
    Status {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// The answer.
        status: u16,
    },
    /// The provider has not the kind of lease that was offered.
    #[error("a lease was offered that is none of ours: {0}")]
    Foreign(String),
}
