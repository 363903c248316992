//! PURE. What is known of a lease where all nodes see it; in an object store, the object itself: JSON.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Counts acquisitions: who holds a greater one came later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before the first acquisition.
    pub const NONE: Self = Self(0);

    /// Returns the next one.
    ///
    /// # Panics
    /// After 2^64 acquisitions.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("fewer than 2^64 acquisitions"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a node, from one start of it to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node as others reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which one; nothing where that is not said.
    #[serde(default)]
    pub node: NodeId,
    /// Its host name, for people and applications.
    pub hostname: String,
    /// Where its API is.
    #[serde(rename = "advertise-url")]
    pub url: String,
}

/// How far a node has come. The greater, the more it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Progress {
    /// The last primary of whom the node had everything once, or its own epoch: what was made under an older one may have been
    /// replaced.
    pub epoch: Epoch,
    /// The number of transactions of all databases together.
    pub txids: u64,
}

impl Progress {
    /// Tells whether the node has no transaction at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.txids == 0
    }
}

/// A node that wants a free lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// How far it has come.
    pub progress: Progress,
    /// +1 each time that it says so: one that does not move on is gone.
    pub beat: u64,
}

/// A lease in an object store. Keys that are not known are left out when it is written again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Of the last acquisition.
    pub epoch: Epoch,
    /// Who has it; nothing when it was given back.
    pub holder: Option<Holder>,
    /// +1 each time that the holder renews it: whoever sees no change for the time to live may take it.
    pub renewal: u64,
    /// How long a renewal lasts, in milliseconds, as the holder has it.
    pub ttl_ms: u64,
    /// The node that it is kept for, while the holder hands it over.
    pub kept_for: Option<NodeId>,
    /// Which cluster it belongs to, once that is known.
    pub cluster: Option<String>,
    /// How far the cluster has come, as the holder said when it last renewed the lease.
    pub progress: Progress,
    /// Who wants it, since it is free.
    pub candidates: BTreeMap<NodeId, Candidate>,
}

impl Record {
    /// Returns the record after an acquisition.
    ///
    /// * `cluster`: which one it belongs to, unless that is known.
    #[must_use]
    pub fn acquired(&self, holder: Holder, ttl_ms: u64, cluster: &str) -> Self {
        Self {
            cluster: self.cluster.clone().or_else(|| Some(cluster.to_owned())),
            epoch: self.epoch.next(),
            holder: Some(holder),
            renewal: 0,
            ttl_ms,
            kept_for: None,
            candidates: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Returns the record after a renewal.
    #[must_use]
    pub fn renewed(&self, progress: Progress) -> Self {
        Self {
            renewal: self.renewal.wrapping_add(1),
            // A holder that knows less than what is written has not read it.
            progress: self.progress.max(progress),
            candidates: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Returns the record after it was given back.
    #[must_use]
    pub fn released(&self) -> Self {
        Self {
            holder: None,
            kept_for: None,
            ..self.clone()
        }
    }

    /// Returns the record while it is handed over.
    #[must_use]
    pub fn kept(&self, target: NodeId) -> Self {
        Self {
            renewal: self.renewal.wrapping_add(1),
            kept_for: Some(target),
            ..self.clone()
        }
    }

    /// Returns the record with one more who wants it.
    #[must_use]
    pub fn announced(&self, node: NodeId, candidate: Candidate) -> Self {
        let mut record = self.clone();
        record.candidates.insert(node, candidate);
        record
    }

    /// Tells whether a node holds it under an epoch.
    #[must_use]
    pub fn is_held(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.epoch == epoch
            && self.kept_for.is_none()
            && self.holder.as_ref().is_some_and(|holder| holder.node == *node)
    }
}

#[cfg(test)]
mod tests;
