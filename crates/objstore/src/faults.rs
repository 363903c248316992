//! A store that breaks another one on purpose, for tests.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{
    DeleteError, ETag, GetError, Key, ListError, Object, ObjectStore, Outage, Page, Purpose, PutError,
};

/// Which method of [`ObjectStore`] a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`ObjectStore::put_if_absent`] and [`ObjectStore::put_if_match`].
    Put,
    /// [`ObjectStore::get`].
    Get,
    /// [`ObjectStore::list`].
    List,
    /// [`ObjectStore::delete`].
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The call never reaches the store and comes back unavailable.
    FailBefore,
    /// The store performs the call, the answer is lost.
    FailAfter,
    /// A get comes back as [`GetError::Short`] with this many bytes.
    Short {
        /// Bytes that came.
        got_bytes: u64,
    },
    /// A get succeeds and silently lacks its end, as no correct store does: what must be caught by checksums.
    Truncate {
        /// Bytes that remain.
        keep_bytes: usize,
    },
    /// A get succeeds with its first byte changed.
    Flip,
    /// The call is performed after this long.
    Delay(Duration),
}

/// A fault and when it strikes.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The method it is for.
    pub call: Call,
    /// The purpose it is for; any when `None`.
    pub purpose: Option<Purpose>,
    /// Matching calls that pass unharmed first.
    pub skip: u64,
    /// Matching calls harmed after those.
    pub times: u64,
    /// What happens to them.
    pub damage: Damage,
}

impl Fault {
    /// Harms the next call of this kind, whatever its purpose.
    #[must_use]
    pub fn next(call: Call, damage: Damage) -> Self {
        Self {
            call,
            purpose: None,
            skip: 0,
            times: 1,
            damage,
        }
    }

    /// Harms every call of this kind from now on.
    #[must_use]
    pub fn always(call: Call, damage: Damage) -> Self {
        Self {
            call,
            purpose: None,
            skip: 0,
            times: u64::MAX,
            damage,
        }
    }

    /// Narrows it to one purpose.
    #[must_use]
    pub fn on(mut self, purpose: Purpose) -> Self {
        self.purpose = Some(purpose);
        self
    }

    /// Lets `calls` matching calls pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }
}

/// A store with faults. Clones share them, and the count of calls.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    calls: Vec<(Call, Purpose)>,
}

impl FaultStore {
    /// Wraps `inner`, without faults yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            state: Arc::default(),
        }
    }

    /// Adds a fault. Where several match a call, the oldest that is due strikes.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes every fault.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Counts the calls made of this kind, for this purpose if one is given, harmed or not.
    #[must_use]
    pub fn calls(&self, call: Call, purpose: Option<Purpose>) -> usize {
        let wanted =
            |made: &&(Call, Purpose)| made.0 == call && purpose.is_none_or(|purpose| made.1 == purpose);
        self.lock().calls.iter().filter(wanted).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call, waits if it is to be delayed, and returns other damage to do.
    async fn strike(&self, call: Call, purpose: Purpose) -> Option<Damage> {
        let damage = self.lock().strike(call, purpose);
        if let Some(Damage::Delay(delay)) = damage {
            tokio::time::sleep(delay).await;
            return None;
        }
        damage
    }
}

impl State {
    fn strike(&mut self, call: Call, purpose: Purpose) -> Option<Damage> {
        self.calls.push((call, purpose));
        let mut struck = None;
        for fault in &mut self.faults {
            if fault.call != call || fault.purpose.is_some_and(|only| only != purpose) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() && fault.times > 0 {
                fault.times -= 1;
                struck = Some(fault.damage.clone());
            }
        }
        struck
    }
}

fn outage() -> Outage {
    Outage::Connection {
        message: "injected fault".to_owned(),
    }
}

fn put_lost(key: &Key) -> PutError {
    PutError::Unavailable {
        key: key.clone(),
        attempts: 1,
        source: outage(),
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        match self.strike(Call::Put, purpose).await {
            Some(Damage::FailBefore) => Err(put_lost(key)),
            Some(Damage::FailAfter) => {
                self.inner.put_if_absent(key, body, purpose).await?;
                Err(put_lost(key))
            }
            _ => self.inner.put_if_absent(key, body, purpose).await,
        }
    }

    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        match self.strike(Call::Put, purpose).await {
            Some(Damage::FailBefore) => Err(put_lost(key)),
            Some(Damage::FailAfter) => {
                self.inner.put_if_match(key, expected, body, purpose).await?;
                Err(put_lost(key))
            }
            _ => self.inner.put_if_match(key, expected, body, purpose).await,
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        let damage = self.strike(Call::Get, purpose).await;
        if matches!(damage, Some(Damage::FailBefore | Damage::FailAfter)) {
            return Err(GetError::Unavailable {
                key: key.clone(),
                attempts: 1,
                source: outage(),
            });
        }
        let mut object = self.inner.get(key, range, purpose).await?;
        match damage {
            Some(Damage::Short { got_bytes }) => {
                let expected_bytes = object.bytes.len() as u64;
                return Err(GetError::Short {
                    key: key.clone(),
                    expected_bytes,
                    got_bytes,
                });
            }
            Some(Damage::Truncate { keep_bytes }) => object.bytes.truncate(keep_bytes),
            Some(Damage::Flip) => {
                let mut bytes = object.bytes.to_vec();
                if let Some(first) = bytes.first_mut() {
                    *first ^= 1;
                }
                object.bytes = bytes.into();
            }
            Some(Damage::FailBefore | Damage::FailAfter | Damage::Delay(_)) | None => {}
        }
        Ok(object)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        match self.strike(Call::List, purpose).await {
            Some(Damage::FailBefore | Damage::FailAfter) => Err(ListError::Unavailable {
                prefix: prefix.to_owned(),
                attempts: 1,
                source: outage(),
            }),
            _ => self.inner.list(prefix, after, limit, purpose).await,
        }
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        let lost = || DeleteError::Unavailable {
            key: key.clone(),
            attempts: 1,
            source: outage(),
        };
        match self.strike(Call::Delete, purpose).await {
            Some(Damage::FailBefore) => Err(lost()),
            Some(Damage::FailAfter) => {
                self.inner.delete(key, purpose).await?;
                Err(lost())
            }
            _ => self.inner.delete(key, purpose).await,
        }
    }
}

#[cfg(test)]
mod tests;
