//! An object store that is late, loses answers, and tells the truth about nothing but what it stored.

mod faults;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use objstore::{
    DeleteError, ETag, GetError, Key, ListError, MemoryStore, Object, ObjectStore, Outage, Page, Purpose,
    PutError,
};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub use faults::StoreFaults;
use faults::{Fate, Plan};

use crate::{Rng, Trace, World};

/// How long a client waits for an answer before it gives up.
const DEADLINE: Duration = Duration::from_secs(30);

/// One client's way to a simulated store.
///
/// The store itself is linearizable: each request takes effect at one instant, or never. Around it, as
/// [`StoreFaults`] has it: latency with a heavy tail, requests that are lost before or after they took effect, requests
/// that take effect long after their client gave up or died, bursts of refusals, short reads, short pages, and retries that
/// meet their own traces. Dropping a call does not recall the request.
#[derive(Debug, Clone)]
pub struct SimStore {
    shared: Arc<Shared>,
    connected: Arc<AtomicBool>,
    client: Arc<str>,
}

#[derive(Debug)]
struct Shared {
    objects: MemoryStore,
    dice: Mutex<Dice>,
    trace: Trace,
    began: Instant,
    in_flight: AtomicUsize,
    landed: Notify,
}

#[derive(Debug)]
struct Dice {
    rng: Rng,
    faults: StoreFaults,
    busy_until: Option<Instant>,
    requests: u64,
}

impl SimStore {
    pub(crate) fn new(world: &World) -> Self {
        let dice = Dice {
            rng: world.rng("store"),
            faults: StoreFaults::CALM,
            busy_until: None,
            requests: 0,
        };
        let shared = Shared {
            objects: MemoryStore::with_clock(world.clock()),
            dice: Mutex::new(dice),
            trace: world.trace().clone(),
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            landed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            connected: Arc::new(AtomicBool::new(true)),
            client: "client".into(),
        }
    }

    /// Returns another client of the same store; `name` tells it from others in the trace.
    #[must_use]
    pub fn client(&self, name: &str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            connected: Arc::new(AtomicBool::new(true)),
            client: name.into(),
        }
    }

    /// Changes how the store behaves from the next request on, for every client.
    pub fn set_faults(&self, faults: StoreFaults) {
        let mut dice = self.dice();
        dice.faults = faults;
        dice.busy_until = None;
    }

    /// Cuts this client off from the store, or connects it again. What is under way still arrives.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::SeqCst);
    }

    /// Returns what the store holds, without latency or faults: for what a test checks and how it damages.
    pub fn objects(&self) -> &MemoryStore {
        &self.shared.objects
    }

    /// Waits until no request is under way, those of dead clients included.
    pub async fn settle(&self) {
        loop {
            let landed = self.shared.landed.notified();
            if self.shared.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            landed.await;
        }
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.shared.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request on its way: a task of its own, which outlives the call. Gives the answer, or how there was none.
    async fn send<T: Send + 'static>(
        &self,
        what: String,
        reads: Reads,
        apply: impl AsyncApply<T>,
    ) -> Result<(T, Fate), Outage> {
        let mut plan = self.dice().plan(Instant::now(), reads);
        if !self.connected.load(Ordering::SeqCst) {
            plan.fate = Fate::LostBefore;
        }
        let Plan {
            number,
            fate,
            before,
            after,
        } = plan;
        self.shared
            .event(format_args!("{} #{number} {what}: {fate:?}", self.client));
        match fate {
            Fate::LostBefore => {
                tokio::time::sleep(DEADLINE).await;
                return Err(Outage::Timeout { after: DEADLINE });
            }
            Fate::Busy => {
                tokio::time::sleep(before).await;
                return Err(Outage::Status {
                    status: 503,
                    code: "SlowDown".to_owned(),
                });
            }
            Fate::Answered | Fate::LostAfter | Fate::Late | Fate::Retried | Fate::Short => {}
        }
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        let flight = daemon::spawn("sim_store_request", async move {
            tokio::time::sleep(before).await;
            let applied = apply.apply(shared.objects.clone()).await;
            shared.event(format_args!("#{number} applied"));
            tokio::time::sleep(after).await;
            // The client may have given up or died: nobody minds.
            let _nobody_waits = answer.send(applied);
            shared.in_flight.fetch_sub(1, Ordering::SeqCst);
            shared.landed.notify_waiters();
        });
        drop(flight);
        match fate {
            Fate::LostAfter | Fate::Late => {
                tokio::time::sleep(DEADLINE).await;
                Err(Outage::Timeout { after: DEADLINE })
            }
            _ => match tokio::time::timeout(DEADLINE, answered).await {
                Ok(Ok(applied)) => Ok((applied, fate)),
                Ok(Err(_)) => Err(Outage::Connection {
                    message: "the world ended".to_owned(),
                }),
                Err(_) => Err(Outage::Timeout { after: DEADLINE }),
            },
        }
    }

    /// What a put that was sent twice finds: its own object, or somebody else's after its own was there for a while.
    async fn is_own(&self, key: &Key, etag: &ETag, purpose: Purpose) -> bool {
        let second_thought = self.dice().latency();
        tokio::time::sleep(second_thought).await;
        matches!(self.shared.objects.get(key, None, purpose).await, Ok(object) if object.etag == *etag)
    }
}

/// Whether a request only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Object,
    Listing,
    Nothing,
}

/// What a request does when it takes effect.
trait AsyncApply<T>: Send + 'static {
    fn apply(self, objects: MemoryStore) -> impl Future<Output = T> + Send;
}

impl<T, F, G> AsyncApply<T> for F
where
    F: FnOnce(MemoryStore) -> G + Send + 'static,
    G: Future<Output = T> + Send,
{
    fn apply(self, objects: MemoryStore) -> impl Future<Output = T> + Send {
        self(objects)
    }
}

impl Shared {
    fn event(&self, line: std::fmt::Arguments<'_>) {
        self.trace.event(format_args!(
            "{} us store {line}",
            self.began.elapsed().as_micros()
        ));
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_if_absent(&self, key: &Key, body: Bytes, purpose: Purpose) -> Result<ETag, PutError> {
        let what = format!("put_if_absent {key} {} {}", body.len(), blake3::hash(&body));
        let wanted = key.clone();
        let apply = async move |objects: MemoryStore| objects.put_if_absent(&wanted, body, purpose).await;
        let unavailable = |source| PutError::Unavailable {
            key: key.clone(),
            attempts: 1,
            source,
        };
        match self
            .send(what, Reads::Nothing, apply)
            .await
            .map_err(unavailable)?
        {
            (Ok(etag), Fate::Retried) if !self.is_own(key, &etag, purpose).await => Err(PutError::Exists {
                key: key.clone(),
                maybe_applied: true,
            }),
            (applied, _) => applied,
        }
    }

    async fn put_if_match(
        &self,
        key: &Key,
        expected: &ETag,
        body: Bytes,
        purpose: Purpose,
    ) -> Result<ETag, PutError> {
        let what = format!(
            "put_if_match {key} {expected} {} {}",
            body.len(),
            blake3::hash(&body)
        );
        let (wanted, etag) = (key.clone(), expected.clone());
        let apply =
            async move |objects: MemoryStore| objects.put_if_match(&wanted, &etag, body, purpose).await;
        let unavailable = |source| PutError::Unavailable {
            key: key.clone(),
            attempts: 1,
            source,
        };
        match self
            .send(what, Reads::Nothing, apply)
            .await
            .map_err(unavailable)?
        {
            (Ok(etag), Fate::Retried) if !self.is_own(key, &etag, purpose).await => Err(PutError::Stale {
                key: key.clone(),
                maybe_applied: true,
            }),
            (applied, _) => applied,
        }
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>, purpose: Purpose) -> Result<Object, GetError> {
        let what = format!("get {key} {range:?}");
        let wanted = key.clone();
        let apply = async move |objects: MemoryStore| objects.get(&wanted, range, purpose).await;
        let unavailable = |source| GetError::Unavailable {
            key: key.clone(),
            attempts: 1,
            source,
        };
        match self.send(what, Reads::Object, apply).await.map_err(unavailable)? {
            (Ok(object), Fate::Short) if !object.bytes.is_empty() => {
                let expected_bytes = object.bytes.len() as u64;
                let got_bytes = self.dice().below(expected_bytes);
                Err(GetError::Short {
                    key: key.clone(),
                    expected_bytes,
                    got_bytes,
                })
            }
            (applied, _) => applied,
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        purpose: Purpose,
    ) -> Result<Page, ListError> {
        let what = format!("list {prefix:?} {after:?} {limit}");
        let (wanted, from) = (prefix.to_owned(), after.map(str::to_owned));
        let apply =
            async move |objects: MemoryStore| objects.list(&wanted, from.as_deref(), limit, purpose).await;
        let unavailable = |source| ListError::Unavailable {
            prefix: prefix.to_owned(),
            attempts: 1,
            source,
        };
        match self
            .send(what, Reads::Listing, apply)
            .await
            .map_err(unavailable)?
        {
            (Ok(mut page), Fate::Short) if page.entries.len() > 1 => {
                page.entries.truncate(page.entries.len() / 2);
                page.more = true;
                Ok(page)
            }
            (applied, _) => applied,
        }
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), DeleteError> {
        let wanted = key.clone();
        let apply = async move |objects: MemoryStore| objects.delete(&wanted, purpose).await;
        let unavailable = |source| DeleteError::Unavailable {
            key: key.clone(),
            attempts: 1,
            source,
        };
        self.send(format!("delete {key}"), Reads::Nothing, apply)
            .await
            .map_err(unavailable)?
            .0
    }
}

#[cfg(test)]
mod tests;
