//! A lease that is one key of etcd, changed by transactions that compare the revision in which it was last changed.
//!
//! The key is not bound to a lease of etcd: who waits judges by himself when a renewal has ended, as in an object store. See
//! `docs/decisions/2026-11-22-etcd-keeps-the-record.md`.

mod config;
mod http_gateway;
mod messages;

pub use config::{EtcdConfig, EtcdConfigError, Login, TlsFiles};
pub use http_gateway::{EtcdConnectError, HttpGateway};

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    AskError, Holder,
    recorded::{Cell, RecordLease},
};
use messages::{ABSENT, Authenticated, Found, Refusal, Swapped};

const RANGE: &str = "/v3/kv/range";
const TXN: &str = "/v3/kv/txn";
const AUTHENTICATE: &str = "/v3/auth/authenticate";
/// A single member is asked twice too: its answer may have been lost.
const ATTEMPTS_MIN: usize = 2;
/// What etcd says when a token has ended, or is none of its own, or is missing.
const TOKEN_ENDED: [&str; 4] = [
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
    "revision in header is old",
];
/// What etcd says to whom logs in where nobody has to.
const NO_LOGINS: &str = "authentication is not enabled";

/// The members of an etcd cluster, by its JSON gateway.
#[async_trait]
pub trait Gateway: Send + Sync + Debug {
    /// Posts a question and returns the status and the body of the answer.
    ///
    /// * `member`: which of the endpoints.
    /// * `path`: from `/v3/` on.
    /// * `token`: of who logged in.
    async fn post(
        &self,
        member: usize,
        path: &'static str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<(u16, Bytes), AskError>;
}

/// A lease whose record is a key of etcd.
pub type EtcdLease = RecordLease<EtcdCell>;

/// A key of etcd that holds a lease's record.
#[derive(Debug)]
pub struct EtcdCell {
    gateway: Arc<dyn Gateway>,
    config: EtcdConfig,
    /// Who answered last is asked first.
    member: AtomicUsize,
    token: Mutex<Option<String>>,
}

impl EtcdLease {
    /// Keeps a lease with the members of a cluster.
    ///
    /// * `me`: what others learn of this node while it holds the lease.
    pub fn new(gateway: Arc<dyn Gateway>, config: EtcdConfig, me: Holder) -> Self {
        let (timing, lock_delay) = (Self::timing(config.ttl), config.lock_delay);
        let cell = EtcdCell {
            gateway,
            config,
            member: AtomicUsize::new(0),
            token: Mutex::new(None),
        };
        Self::in_cell(cell, me, timing).delaying(lock_delay)
    }
}

impl EtcdCell {
    /// Asks one member after the other until one answers. Several may have done what was asked.
    async fn ask<T: DeserializeOwned>(&self, path: &'static str, question: &Value) -> Result<T, AskError> {
        let (members, mut member) = (self.config.endpoints.len(), self.member.load(Ordering::Relaxed));
        let mut asked = self.ask_member(member, path, question).await;
        for _ in 1..members.max(ATTEMPTS_MIN) {
            if asked.is_ok() {
                break;
            }
            member = (member + 1) % members;
            asked = self.ask_member(member, path, question).await;
        }
        self.member.store(member, Ordering::Relaxed);
        asked
    }

    /// Asks a member, as who is logged in.
    async fn ask_member<T: DeserializeOwned>(
        &self,
        member: usize,
        path: &'static str,
        question: &Value,
    ) -> Result<T, AskError> {
        let mut token = self.token().clone();
        if token.is_none() {
            token = self.log_in(member).await?;
        }
        let asked = self.post(member, path, token.as_deref(), question).await;
        match asked {
            Err(AskError::EtcdRefused { message, .. })
                if self.config.login.is_some() && says(&message, &TOKEN_ENDED) =>
            {
                let token = self.log_in(member).await?;
                self.post(member, path, token.as_deref(), question).await
            }
            asked => asked,
        }
    }

    /// Logs in, where somebody is to. Returns the token, if etcd wants one.
    async fn log_in(&self, member: usize) -> Result<Option<String>, AskError> {
        let Some(login) = &self.config.login else {
            return Ok(None);
        };
        let question = messages::authenticate(&login.username, &login.password);
        let token = match self.post(member, AUTHENTICATE, None, &question).await {
            Ok(Authenticated { token }) => Some(token),
            Err(AskError::EtcdRefused { message, .. }) if says(&message, &[NO_LOGINS]) => None,
            Err(error) => return Err(error),
        };
        self.token().clone_from(&token);
        Ok(token)
    }

    fn token(&self) -> MutexGuard<'_, Option<String>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        member: usize,
        path: &'static str,
        token: Option<&str>,
        question: &Value,
    ) -> Result<T, AskError> {
        let body = Bytes::from(question.to_string());
        let (status, answer) = self.gateway.post(member, path, token, body).await?;
        let endpoint = self.config.endpoints[member].clone();
        if status != 200 {
            let refusal: Refusal = serde_json::from_slice(&answer).unwrap_or_default();
            let message = [refusal.message, refusal.error]
                .into_iter()
                .find(|message| !message.is_empty());
            return Err(AskError::EtcdRefused {
                endpoint,
                path,
                status,
                message: message.unwrap_or_else(|| "no word of etcd".to_owned()),
            });
        }
        serde_json::from_slice(&answer).map_err(|source| AskError::EtcdAnswer {
            endpoint,
            path,
            source,
        })
    }
}

fn says(message: &str, any: &[&str]) -> bool {
    any.iter().any(|part| message.contains(part))
}

#[async_trait]
impl Cell for EtcdCell {
    const HANDED: &'static str = "etcd/";

    fn name(&self) -> String {
        self.config.key.clone()
    }

    async fn read(&self) -> Result<Option<(Bytes, String)>, AskError> {
        let found: Found = self.ask(RANGE, &messages::range(&self.config.key)).await?;
        let first = found.kvs.into_iter().next();
        Ok(first.map(|pair| (pair.bytes().into(), pair.mod_revision)))
    }

    async fn swap(&self, seen: Option<&str>, body: Bytes) -> Result<bool, AskError> {
        let question = messages::swap(&self.config.key, seen.unwrap_or(ABSENT), &body);
        let swapped: Swapped = self.ask(TXN, &question).await?;
        if swapped.succeeded {
            return Ok(true);
        }
        // Its own, when an earlier answer was lost: nobody else writes the same.
        Ok(swapped.instead().is_some_and(|pair| pair.bytes() == body))
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
