//! A lease that is one [`Record`], kept whole in a cell that is changed by compare-and-swap.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    AskError, Candidate, Epoch, Grant, Held, Holder, NodeId, Progress, Provider, Record, Timing, View,
};

/// How often a record is read anew because others changed it.
const ATTEMPTS: u32 = 8;

/// Where one record is kept, whole.
#[async_trait]
pub trait Cell: Send + Sync + Debug {
    /// What a lease that is handed over is called by, before its epoch.
    const HANDED: &'static str;

    /// Returns what people know it by.
    fn name(&self) -> String;

    /// Reads what is there, and its version, which is never empty; nothing when nothing is.
    async fn read(&self) -> Result<Option<(Bytes, String)>, AskError>;

    /// Replaces what is there in that version, or nothing, and tells whether it did: not when another version is there by now.
    ///
    /// A failure may have had its effect. No two changes ever write the same.
    async fn swap(&self, seen: Option<&str>, body: Bytes) -> Result<bool, AskError>;
}

/// A lease that is one record in a cell. Whoever changes it replaces what it has read; nobody believes in anybody's clock.
///
/// The record stays when nobody holds the lease: its epoch, its cluster and how far that has come are in it.
#[derive(Debug, Clone)]
pub struct RecordLease<C> {
    cell: C,
    me: Holder,
    timing: Timing,
    /// How much longer than its holder others take a renewal to last.
    lock_delay: Duration,
    /// What this node was before it started again, and the lease that it had then.
    former: Option<(NodeId, Epoch)>,
}

impl<C> RecordLease<C> {
    /// Returns how a lease of that time to live is paced, where a look costs a request: an engine that waits takes a free lease
    /// within less than two seconds of its end.
    #[must_use]
    pub fn timing(ttl: Duration) -> Timing {
        let shortest = Duration::from_millis(50);
        Timing {
            ttl,
            renew_after: ttl / 3,
            look_interval: (ttl / 20).clamp(shortest, Duration::from_millis(500)),
        }
    }

    pub(crate) fn in_cell(cell: C, me: Holder, timing: Timing) -> Self {
        Self {
            cell,
            me,
            timing,
            lock_delay: Duration::ZERO,
            former: None,
        }
    }

    /// Has others wait for so much longer than the lease lasts for its holder.
    #[must_use]
    pub(crate) fn delaying(mut self, lock_delay: Duration) -> Self {
        self.lock_delay = lock_delay;
        self
    }

    /// Says that this node had the lease before it started again: it is its own as long as nobody else has had it since.
    #[must_use]
    pub fn resuming(mut self, node: NodeId, epoch: Epoch) -> Self {
        self.former = Some((node, epoch));
        self
    }

    fn ttl_ms(&self) -> u64 {
        let lasts = self.timing.ttl + self.lock_delay;
        u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)
    }

    fn view(&self, record: Record, version: Option<String>) -> View {
        let ours = record.holder.as_ref().is_some_and(|holder| {
            let before = self.former.as_ref();
            holder.node == self.me.node
                || before.is_some_and(|(node, epoch)| holder.node == *node && record.epoch == *epoch)
        });
        View {
            ours,
            epoch: record.epoch,
            renewal: record.renewal,
            ttl: Some(Duration::from_millis(record.ttl_ms)),
            held: match (record.holder, record.kept_for) {
                (None, _) => Held::Free,
                (Some(holder), None) => Held::By(holder),
                (Some(holder), Some(target)) => Held::KeptFor(target, holder),
            },
            cluster: record.cluster,
            begun: record.progress != Progress::default(),
            progress: record.progress,
            candidates: record.candidates,
            token: version.unwrap_or_default(),
        }
    }
}

impl<C: Cell> RecordLease<C> {
    fn unreadable(&self, source: serde_json::Error) -> AskError {
        AskError::Record {
            key: self.cell.name(),
            source,
        }
    }

    async fn read(&self) -> Result<(Record, Option<String>), AskError> {
        match self.cell.read().await? {
            Some((body, version)) => {
                let record = serde_json::from_slice(&body).map_err(|source| self.unreadable(source))?;
                Ok((record, Some(version)))
            }
            None => Ok((Record::default(), None)),
        }
    }

    /// Replaces what was read; not when it has changed since.
    async fn swap(&self, seen: Option<&str>, record: &Record) -> Result<bool, AskError> {
        let body = serde_json::to_vec(record).map_err(|source| self.unreadable(source))?;
        self.cell.swap(seen, body.into()).await
    }

    /// Changes the record as long as `change` has something to change.
    async fn change<T>(
        &self,
        change: impl Fn(&Record) -> Option<(Record, T)>,
    ) -> Result<Option<T>, AskError> {
        for _ in 0..ATTEMPTS {
            let (record, version) = self.read().await?;
            let Some((next, result)) = change(&record) else {
                return Ok(None);
            };
            if self.swap(version.as_deref(), &next).await? {
                return Ok(Some(result));
            }
        }
        Err(AskError::Contended { attempts: ATTEMPTS })
    }
}

#[async_trait]
impl<C: Cell> Provider for RecordLease<C> {
    fn timing(&self) -> Timing {
        self.timing
    }

    async fn look(&self) -> Result<View, AskError> {
        let (record, version) = self.read().await?;
        Ok(self.view(record, version))
    }

    async fn announce(&self, seen: &View, candidate: Candidate) -> Result<(), AskError> {
        let changed = self.change(|record| {
            let same = (record.epoch, record.renewal) == (seen.epoch, seen.renewal);
            // Somebody has it meanwhile.
            same.then(|| (record.announced(self.me.node.clone(), candidate), ()))
        });
        changed.await.map(|_| ())
    }

    async fn acquire(&self, seen: &View, cluster: &str) -> Result<Option<Grant>, AskError> {
        // The very record on which the decision was made: whoever said something since is heard first.
        let (record, version) = self.read().await?;
        if version.as_deref().unwrap_or("") != seen.token {
            return Ok(None);
        }
        let next = record.acquired(self.me.clone(), self.ttl_ms(), cluster);
        let swapped = self.swap(version.as_deref(), &next).await?;
        Ok(swapped.then(|| Grant {
            epoch: next.epoch,
            token: String::new(),
        }))
    }

    async fn renew(&self, grant: &Grant, progress: Progress) -> Result<Option<Grant>, AskError> {
        let changed = self.change(|record| {
            let held = record.is_held(&self.me.node, grant.epoch);
            held.then(|| (record.renewed(progress), ()))
        });
        Ok(changed.await?.map(|()| grant.clone()))
    }

    async fn release(&self, grant: &Grant) -> Result<(), AskError> {
        let changed = self.change(|record| {
            let held = record.is_held(&self.me.node, grant.epoch);
            held.then(|| (record.released(), ()))
        });
        changed.await.map(|_| ())
    }

    async fn pass_on(&self, grant: &Grant, to: &NodeId) -> Result<Option<String>, AskError> {
        let changed = self.change(|record| {
            let held = record.is_held(&self.me.node, grant.epoch);
            held.then(|| (record.kept(to.clone()), ()))
        });
        let passed = changed.await?;
        Ok(passed.map(|()| format!("{}{}", C::HANDED, grant.epoch)))
    }

    async fn take_over(&self, lease: &str) -> Result<Option<Grant>, AskError> {
        let epoch = lease.strip_prefix(C::HANDED).and_then(|epoch| epoch.parse().ok());
        let epoch = Epoch(epoch.ok_or_else(|| AskError::Foreign(lease.to_owned()))?);
        let changed = self.change(|record| {
            let me = &self.me.node;
            let kept = record.kept_for.as_ref()?;
            let by_us = record.holder.as_ref().is_some_and(|holder| holder.node == *me);
            if record.epoch != epoch || !(kept == me || by_us) {
                return None;
            }
            let cluster = record.cluster.clone()?;
            let next = record.acquired(self.me.clone(), self.ttl_ms(), &cluster);
            let epoch = next.epoch;
            Some((next, epoch))
        });
        Ok(changed.await?.map(|epoch| Grant {
            epoch,
            token: String::new(),
        }))
    }
}

#[cfg(test)]
pub(crate) mod places;
#[cfg(test)]
mod tests;
