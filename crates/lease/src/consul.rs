//! A lease in Consul, with the keys and the session of LiteFS: nodes of either kind compete for it, and hand it to each other.
//!
//! | what | where |
//! |---|---|
//! | who is primary | `<prefix>/<key>`, locked by a session: `{"hostname":…,"advertise-url":…}` |
//! | the cluster | `<prefix>/<key>/clusterid` |
//! | who wants it, ours alone | `<prefix>/<key>/candidates/<node>`: JSON, not locked |
//!
//! The epoch is the index of the change that locked the key. That index is Consul's own, of all its keys: it grows also when the
//! key goes with its session and comes again, unlike the count of the key's locks.

mod config;
mod http_agent;

pub use config::{ConsulConfig, ConsulConfigError};
pub use http_agent::HttpAgent;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::{AskError, Candidate, Epoch, Grant, Held, Holder, NodeId, Progress, Provider, Timing, View};

const NOT_FOUND: u16 = 404;

/// A Consul agent.
#[async_trait]
pub trait Agent: Send + Sync + Debug {
    /// Makes a request and returns the status and the body.
    ///
    /// * `path`: from `/v1/` on, with the query.
    async fn call(&self, method: &'static str, path: &str, body: Bytes) -> Result<(u16, Bytes), AskError>;
}

/// A lease in Consul.
#[derive(Debug)]
pub struct ConsulLease {
    agent: Arc<dyn Agent>,
    config: ConsulConfig,
    me: Holder,
    /// The session that holds the key or wants to.
    session: Mutex<Option<String>>,
    registered: Mutex<bool>,
}

/// What Consul says of a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    modify_index: u64,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
}

/// What the key says of its holder; whoever has it is not named.
#[derive(Debug, Deserialize)]
struct Value {
    hostname: String,
    #[serde(rename = "advertise-url")]
    url: String,
}

impl Pair {
    fn value(&self) -> Vec<u8> {
        let value = self.value.as_deref().unwrap_or("");
        BASE64_STANDARD.decode(value).unwrap_or_default()
    }
}

impl ConsulLease {
    /// Keeps a lease with an agent.
    ///
    /// * `me`: what others learn of this node while it holds the lease.
    pub fn new(agent: Arc<dyn Agent>, config: ConsulConfig, me: Holder) -> Self {
        Self {
            agent,
            config,
            me,
            session: Mutex::new(None),
            registered: Mutex::new(false),
        }
    }

    fn session(&self) -> Option<String> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.clone()
    }

    fn set_session(&self, session: Option<String>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    async fn call(&self, method: &'static str, path: &str, body: String) -> Result<(u16, Bytes), AskError> {
        let (status, answer) = self.agent.call(method, path, body.into()).await?;
        match status {
            200 | NOT_FOUND => Ok((status, answer)),
            status => Err(AskError::Status {
                method,
                path: path.to_owned(),
                status,
            }),
        }
    }

    /// Puts something and says whether Consul did it.
    async fn put(&self, path: &str, body: String) -> Result<bool, AskError> {
        let (status, answer) = self.call("PUT", path, body).await?;
        Ok(status == 200 && answer.trim_ascii() == b"true")
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>, AskError> {
        let (status, answer) = self.call("GET", path, String::new()).await?;
        if status == NOT_FOUND {
            return Ok(None);
        }
        let read = serde_json::from_slice(&answer).map_err(|source| AskError::Record {
            key: path.to_owned(),
            source,
        });
        read.map(Some)
    }

    /// Registers the node that sessions belong to, once: the agent's own has no sessions where a prefix is its own world.
    async fn register(&self) -> Result<(), AskError> {
        let registered = *self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if registered || self.config.prefix.is_empty() {
            return Ok(());
        }
        let body = json!({ "Node": self.config.node(), "Address": "localhost" });
        self.call("PUT", "/v1/catalog/register", body.to_string()).await?;
        *self.registered.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }

    async fn create_session(&self) -> Result<String, AskError> {
        let mut body = json!({
            "Name": "litefs",
            "Behavior": "delete",
            "TTL": config::seconds(self.config.ttl),
            "LockDelay": config::seconds(self.config.lock_delay),
            // Nothing but the time to live ends it.
            "NodeChecks": [],
            "Checks": [],
        });
        if !self.config.prefix.is_empty() {
            body["Node"] = self.config.node().into();
        }
        let path = "/v1/session/create";
        let (status, answer) = self.call("PUT", path, body.to_string()).await?;
        if status != 200 {
            return Err(AskError::Status {
                method: "PUT",
                path: path.to_owned(),
                status,
            });
        }
        let created: Session = serde_json::from_slice(&answer).map_err(|source| AskError::Record {
            key: path.to_owned(),
            source,
        })?;
        Ok(created.id)
    }

    async fn destroy(&self, session: &str) -> Result<(), AskError> {
        let path = format!("/v1/session/destroy/{session}");
        self.call("PUT", &path, String::new()).await.map(|_| ())
    }

    /// Locks the key, and reads under which epoch that is so.
    async fn lock(&self, session: &str) -> Result<Option<Grant>, AskError> {
        let value = json!({ "hostname": self.me.hostname, "advertise-url": self.me.url });
        let path = format!("/v1/kv/{}?acquire={session}", self.config.key_path());
        if !self.put(&path, value.to_string()).await? {
            return Ok(None);
        }
        let pair = self.pair(&self.config.key_path()).await?;
        let ours = pair.filter(|pair| pair.session.as_deref() == Some(session));
        Ok(ours.map(|pair| Grant {
            epoch: Epoch(pair.modify_index),
            token: session.to_owned(),
        }))
    }

    async fn pair(&self, key: &str) -> Result<Option<Pair>, AskError> {
        let pairs: Option<Vec<Pair>> = self.read(&format!("/v1/kv/{key}")).await?;
        Ok(pairs.and_then(|pairs| pairs.into_iter().next()))
    }

    async fn cluster(&self) -> Result<Option<String>, AskError> {
        let pair = self
            .pair(&format!("{}/clusterid", self.config.key_path()))
            .await?;
        let text = pair.map(|pair| String::from_utf8_lossy(&pair.value()).trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    async fn candidates(&self) -> Result<BTreeMap<NodeId, Candidate>, AskError> {
        let prefix = format!("{}/candidates/", self.config.key_path());
        let pairs: Option<Vec<Pair>> = self.read(&format!("/v1/kv/{prefix}?recurse")).await?;
        let candidate = |pair: Pair| {
            let node = pair.key.strip_prefix(&prefix)?.to_owned();
            Some((NodeId(node), serde_json::from_slice(&pair.value()).ok()?))
        };
        Ok(pairs
            .unwrap_or_default()
            .into_iter()
            .filter_map(candidate)
            .collect())
    }
}

#[async_trait]
impl Provider for ConsulLease {
    fn timing(&self) -> Timing {
        Timing {
            ttl: self.config.ttl,
            renew_after: self.config.ttl / 2,
            look_interval: self.config.look_interval,
        }
    }

    async fn look(&self) -> Result<View, AskError> {
        let pair = self.pair(&self.config.key_path()).await?;
        let locked = pair.filter(|pair| pair.session.as_ref().is_some_and(|session| !session.is_empty()));
        let mut view = View {
            cluster: self.cluster().await?,
            ..View::default()
        };
        view.begun = view.cluster.is_some();
        match locked {
            Some(pair) => {
                let value: Value =
                    serde_json::from_slice(&pair.value()).map_err(|source| AskError::Record {
                        key: pair.key.clone(),
                        source,
                    })?;
                view.ours = pair.session.is_some() && pair.session == self.session();
                view.epoch = Epoch(pair.modify_index);
                view.held = Held::By(Holder {
                    node: NodeId::default(),
                    hostname: value.hostname,
                    url: value.url,
                });
            }
            None => view.candidates = self.candidates().await?,
        }
        Ok(view)
    }

    async fn announce(&self, _: &View, candidate: Candidate) -> Result<(), AskError> {
        let path = format!("/v1/kv/{}/candidates/{}", self.config.key_path(), self.me.node);
        let body = serde_json::to_string(&candidate).map_err(|source| AskError::Record {
            key: path.clone(),
            source,
        })?;
        self.put(&path, body).await.map(|_| ())
    }

    async fn acquire(&self, _: &View, cluster: &str) -> Result<Option<Grant>, AskError> {
        self.register().await?;
        let session = self.create_session().await?;
        self.set_session(Some(session.clone()));
        let locked = self.lock(&session).await;
        if !matches!(locked, Ok(Some(_))) {
            self.set_session(None);
            self.destroy(&session).await?;
            return locked;
        }
        // Checked and set in one: not written over.
        let path = format!("/v1/kv/{}/clusterid?cas=0", self.config.key_path());
        self.put(&path, cluster.to_owned()).await?;
        let path = format!("/v1/kv/{}/candidates/?recurse", self.config.key_path());
        self.call("DELETE", &path, String::new()).await?;
        locked
    }

    async fn renew(&self, grant: &Grant, _: Progress) -> Result<Option<Grant>, AskError> {
        let path = format!("/v1/session/renew/{}", grant.token);
        let (status, _) = self.call("PUT", &path, String::new()).await?;
        if status == NOT_FOUND {
            self.set_session(None);
            return Ok(None);
        }
        Ok(Some(grant.clone()))
    }

    async fn release(&self, grant: &Grant) -> Result<(), AskError> {
        self.set_session(None);
        let path = format!("/v1/kv/{}?release={}", self.config.key_path(), grant.token);
        self.put(&path, String::new()).await?;
        self.destroy(&grant.token).await
    }

    async fn pass_on(&self, grant: &Grant, _: &NodeId) -> Result<Option<String>, AskError> {
        // Once more, so that the other has time.
        let renewed = self.renew(grant, Progress::default()).await?;
        // The session is the other's from now on.
        self.set_session(None);
        Ok(renewed.map(|grant| grant.token))
    }

    async fn take_over(&self, session: &str) -> Result<Option<Grant>, AskError> {
        let path = format!("/v1/session/renew/{session}");
        let (status, _) = self.call("PUT", &path, String::new()).await?;
        if status == NOT_FOUND {
            return Ok(None);
        }
        self.set_session(Some(session.to_owned()));
        self.lock(session).await
    }
}

#[cfg(test)]
mod tests;
