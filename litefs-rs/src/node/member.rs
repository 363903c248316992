//! A node as its lease sees it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crashsafe::Disk;
use lease::{Epoch, NodeId, Progress, Subject};

use crate::store::{ClusterId, KeptEpoch, Store};

/// A node as its lease sees it: how far it has come, and to which cluster it belongs.
#[derive(Debug)]
pub struct Member {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    me: NodeId,
    store: OnceLock<Arc<Store>>,
    kept: Mutex<KeptEpoch>,
    cluster: Mutex<Option<ClusterId>>,
    proposal: Mutex<ClusterId>,
}

impl Member {
    /// Reads what the node kept of itself.
    ///
    /// * `me`: who it is from now on.
    ///
    /// # Errors
    /// As the disk.
    pub fn new(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        me: NodeId,
        cluster: Option<ClusterId>,
    ) -> io::Result<Self> {
        let random = u64::from_ne_bytes(daemon::random::bytes());
        Ok(Self {
            kept: Mutex::new(KeptEpoch::read(&*disk, &root)?),
            cluster: Mutex::new(cluster),
            proposal: Mutex::new(ClusterId::new(random)),
            store: OnceLock::new(),
            disk,
            root,
            me,
        })
    }

    /// Says what the node has: until then it seems to have nothing.
    pub fn set_store(&self, store: Arc<Store>) {
        let _first_one_counts = self.store.set(store);
    }

    /// Returns what the node keeps of its last primary.
    pub fn kept(&self) -> KeptEpoch {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node had everything that the primary of an epoch had.
    ///
    /// # Errors
    /// As the disk; then it is not so.
    pub fn synced(&self, epoch: Epoch) -> io::Result<()> {
        let newer = epoch > self.kept().epoch;
        if newer {
            self.keep(KeptEpoch { epoch, node: None })
        } else {
            Ok(())
        }
    }

    /// The node is primary itself.
    ///
    /// # Errors
    /// As the disk; then it is not.
    pub fn begins(&self, epoch: Epoch) -> io::Result<()> {
        let kept = KeptEpoch {
            epoch,
            node: Some(self.me.clone()),
        };
        if epoch != Epoch::NONE && self.kept() != kept {
            self.keep(kept)?;
        }
        if self.cluster().is_none() {
            self.proposal().write(&*self.disk, &self.root)?;
        }
        Ok(())
    }

    fn keep(&self, kept: KeptEpoch) -> io::Result<()> {
        kept.write(&*self.disk, &self.root)?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(())
    }

    fn proposal(&self) -> ClusterId {
        self.proposal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.is_none() {
            *cluster = ClusterId::read(&*self.disk, &self.root).ok().flatten();
        }
        cluster.clone()
    }
}

impl Subject for Member {
    fn progress(&self) -> Progress {
        let slots = self.store.get().map(|store| store.all()).unwrap_or_default();
        Progress {
            epoch: self.kept().epoch,
            txids: slots.iter().map(|slot| slot.noted().pos.txid.get()).sum(),
        }
    }

    fn cluster(&self) -> Option<String> {
        self.cluster_id().map(|id| id.to_string())
    }

    fn proposes(&self) -> String {
        self.cluster().unwrap_or_else(|| self.proposal().to_string())
    }

    fn adopts(&self, cluster: &str) {
        if let Ok(cluster) = cluster.parse() {
            *self.proposal.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
        }
    }
}
