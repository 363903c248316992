//! A lease that is one object, changed by compare-and-swap.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use objstore::{ETag, GetError, Key, ObjectStore, Purpose, PutError};

use crate::{
    AskError, Candidate, Epoch, Grant, Held, Holder, NodeId, Progress, Provider, Record, Timing, View,
};

const PURPOSE: Purpose = Purpose("lease");
/// How often a record is read anew because others changed it.
const ATTEMPTS: u32 = 8;
/// What a lease that is handed over is called by.
const HANDED: &str = "object/";

/// A lease that is one object. Whoever changes it replaces what it has read; nobody believes in anybody's clock.
///
/// The object stays when nobody holds the lease: its epoch, its cluster and how far that has come are in it.
#[derive(Debug, Clone)]
pub struct ObjectLease {
    store: Arc<dyn ObjectStore>,
    key: Key,
    me: Holder,
    timing: Timing,
    /// What this node was before it started again, and the lease that it had then.
    former: Option<(NodeId, Epoch)>,
}

impl ObjectLease {
    /// Keeps a lease under a key.
    ///
    /// * `me`: what others learn of this node while it holds the lease.
    pub fn new(store: Arc<dyn ObjectStore>, key: Key, me: Holder, timing: Timing) -> Self {
        Self {
            store,
            key,
            me,
            timing,
            former: None,
        }
    }

    /// Says that this node had the lease before it started again: it is its own as long as nobody else has had it since.
    #[must_use]
    pub fn resuming(mut self, node: NodeId, epoch: Epoch) -> Self {
        self.former = Some((node, epoch));
        self
    }

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

    async fn read(&self) -> Result<(Record, Option<ETag>), AskError> {
        match self.store.get(&self.key, None, PURPOSE).await {
            Ok(object) => {
                let record = serde_json::from_slice(&object.bytes).map_err(|source| AskError::Record {
                    key: self.key.to_string(),
                    source,
                })?;
                Ok((record, Some(object.etag)))
            }
            Err(GetError::NotFound { .. }) => Ok((Record::default(), None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces what was read; nothing when it has changed since.
    async fn swap(&self, seen: Option<&ETag>, record: &Record) -> Result<Option<ETag>, AskError> {
        let body = serde_json::to_vec(record).map_err(|source| AskError::Record {
            key: self.key.to_string(),
            source,
        })?;
        let body = Bytes::from(body);
        let put = match seen {
            Some(etag) => self.store.put_if_match(&self.key, etag, body, PURPOSE).await,
            None => self.store.put_if_absent(&self.key, body, PURPOSE).await,
        };
        match put {
            Ok(etag) => Ok(Some(etag)),
            Err(PutError::Stale { .. } | PutError::Exists { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the record as long as `change` has something to change.
    async fn change<T>(
        &self,
        change: impl Fn(&Record) -> Option<(Record, T)>,
    ) -> Result<Option<(ETag, T)>, AskError> {
        for _ in 0..ATTEMPTS {
            let (record, etag) = self.read().await?;
            let Some((next, result)) = change(&record) else {
                return Ok(None);
            };
            if let Some(etag) = self.swap(etag.as_ref(), &next).await? {
                return Ok(Some((etag, result)));
            }
        }
        Err(AskError::Contended { attempts: ATTEMPTS })
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.timing.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    fn view(&self, record: Record, etag: Option<ETag>) -> View {
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
            token: etag.map_or_else(String::new, |etag| etag.as_str().to_owned()),
        }
    }
}

#[async_trait]
impl Provider for ObjectLease {
    fn timing(&self) -> Timing {
        self.timing
    }

    async fn look(&self) -> Result<View, AskError> {
        let (record, etag) = self.read().await?;
        Ok(self.view(record, etag))
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
        let (record, etag) = self.read().await?;
        if etag.as_ref().map_or("", ETag::as_str) != seen.token {
            return Ok(None);
        }
        let next = record.acquired(self.me.clone(), self.ttl_ms(), cluster);
        let swapped = self.swap(etag.as_ref(), &next).await?;
        Ok(swapped.map(|_| Grant {
            epoch: next.epoch,
            token: String::new(),
        }))
    }

    async fn renew(&self, grant: &Grant, progress: Progress) -> Result<Option<Grant>, AskError> {
        let changed = self.change(|record| {
            let held = record.is_held(&self.me.node, grant.epoch);
            held.then(|| (record.renewed(progress), ()))
        });
        Ok(changed.await?.map(|_| grant.clone()))
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
        Ok(passed.map(|_| format!("{HANDED}{}", grant.epoch)))
    }

    async fn take_over(&self, lease: &str) -> Result<Option<Grant>, AskError> {
        let epoch = lease.strip_prefix(HANDED).and_then(|epoch| epoch.parse().ok());
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
        Ok(changed.await?.map(|(_, epoch)| Grant {
            epoch,
            token: String::new(),
        }))
    }
}

#[cfg(test)]
mod tests;
