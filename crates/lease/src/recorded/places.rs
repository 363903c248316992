//! Where records are kept, each in memory.

use std::{sync::Arc, time::Duration};

use objstore::{FaultStore, Key, MemoryStore, ObjectStore, Purpose};

use crate::{
    Epoch, EtcdConfig, EtcdLease, Gateway, Holder, NodeId, ObjectLease, Provider, etcd::model::Model,
};

pub(crate) const TTL: Duration = Duration::from_secs(10);
const KEY: &str = "lease";

/// Where records are kept.
#[derive(Debug)]
pub(crate) enum Place {
    Object(Arc<dyn ObjectStore>),
    Etcd(Arc<Model>),
}

impl Place {
    /// Returns one of each kind, with nothing in it.
    pub(crate) fn all() -> [Self; 2] {
        [
            Self::Object(Arc::new(FaultStore::new(Arc::new(MemoryStore::new())))),
            Self::Etcd(Arc::new(Model::default())),
        ]
    }

    pub(crate) fn lease(&self, node: &str) -> Box<dyn Provider> {
        self.lease_after(node, (id("nobody"), Epoch::NONE))
    }

    /// Returns the lease of a node that had it before it started again.
    pub(crate) fn lease_after(&self, node: &str, (former, epoch): (NodeId, Epoch)) -> Box<dyn Provider> {
        let me = holder(node);
        match self {
            Self::Object(store) => {
                let (store, key) = (Arc::clone(store), Key::new(KEY).unwrap());
                let lease = ObjectLease::new(store, key, me, ObjectLease::timing(TTL));
                Box::new(lease.resuming(former, epoch))
            }
            Self::Etcd(model) => {
                let config = EtcdConfig::new(&["http://etcd".to_owned()], KEY, TTL).unwrap();
                let gateway = Arc::clone(model) as Arc<dyn Gateway>;
                Box::new(EtcdLease::new(gateway, config, me).resuming(former, epoch))
            }
        }
    }

    /// Writes what is no lease where it is kept.
    pub(crate) async fn write(&self, body: &'static [u8]) {
        match self {
            Self::Object(store) => {
                let key = Key::new(KEY).unwrap();
                let put = store.put_if_absent(&key, body.into(), Purpose("test"));
                put.await.unwrap();
            }
            Self::Etcd(model) => model.write(KEY, body),
        }
    }

    /// Returns what is there.
    pub(crate) async fn read(&self) -> Vec<u8> {
        match self {
            Self::Object(store) => {
                let key = Key::new(KEY).unwrap();
                let read = store.get(&key, None, Purpose("test")).await;
                read.unwrap().bytes.to_vec()
            }
            Self::Etcd(model) => model.read(KEY),
        }
    }
}

pub(crate) fn id(node: &str) -> NodeId {
    NodeId(node.to_owned())
}

pub(crate) fn holder(node: &str) -> Holder {
    Holder {
        node: id(node),
        hostname: node.to_owned(),
        url: format!("http://{node}:20202"),
    }
}
