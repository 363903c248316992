//! The replicas that are connected to this node, and a lease that goes to one of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ltx::NodeId;
use tokio::sync::{Notify, watch};

/// The replicas that are connected.
#[derive(Debug, Default)]
pub struct Streams {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Stream>>>,
}

/// What became of a lease that was to go to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is on its way.
    Pending,
    /// It was sent, behind everything else.
    Sent,
    /// The replica is gone.
    Gone,
}

/// One replica that is connected.
#[derive(Debug)]
pub struct Stream {
    peer: Option<NodeId>,
    lease: Mutex<Option<String>>,
    wake: Notify,
    delivery: watch::Sender<Delivery>,
}

/// A stream that is in the list until this is dropped.
#[derive(Debug)]
pub struct Entry {
    streams: Arc<Streams>,
    number: u64,
    stream: Arc<Stream>,
}

impl Streams {
    /// Takes a replica up.
    #[must_use]
    pub fn enter(self: &Arc<Self>, peer: Option<NodeId>) -> Entry {
        let stream = Arc::new(Stream {
            peer,
            lease: Mutex::new(None),
            wake: Notify::new(),
            delivery: watch::Sender::new(Delivery::Pending),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.list().insert(number, Arc::clone(&stream));
        Entry {
            streams: Arc::clone(self),
            number,
            stream,
        }
    }

    /// Tells whether a node is connected.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.list().values().any(|stream| stream.peer == Some(node))
    }

    /// Returns how many are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// Sends a lease to a replica, when it has everything else; nothing if it is not connected.
    pub fn offer(&self, node: NodeId, lease: String) -> Option<watch::Receiver<Delivery>> {
        let open = self.list();
        let stream = open.values().rev().find(|stream| stream.peer == Some(node))?;
        *stream.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        stream.wake.notify_one();
        Some(stream.delivery.subscribe())
    }

    fn list(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Stream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Returns the lease that is to be sent, once.
    #[must_use]
    pub fn take_lease(&self) -> Option<String> {
        let mut lease = self.stream.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.take()
    }

    /// The lease was sent.
    pub fn sent(&self) {
        self.stream.delivery.send_replace(Delivery::Sent);
    }

    /// Waits for a lease that is to be sent.
    pub async fn wait(&self) {
        self.stream.wake.notified().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.streams.list().remove(&self.number);
        let gone = |delivery: &mut Delivery| {
            let pending = *delivery == Delivery::Pending;
            if pending {
                *delivery = Delivery::Gone;
            }
            pending
        };
        self.stream.delivery.send_if_modified(gone);
    }
}
