//! On a replica: the primary's write lock is taken for an application, kept, and given back.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use lease::{Epoch, Keeper, Standing};
use ltx::NodeId;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    ACQUIRE_MAX,
    holding::{Holding, Reached},
    wire::{self, AnswerError, LITEFS_LASTS, RENEWS, halt_path, tx_path},
};
use crate::{
    db::{Forward, ForwardError, locks::Owner},
    http_client::{Body, Connection, RequestError, body_of, whole},
    name::DatabaseName,
    replication::{applier::OURSELVES, client::EPOCH},
    store::{Slot, Store, TakeOver, chain},
};

/// How long the primary may take to answer what takes no time there.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What was not answered is asked again after so long.
const AGAIN: Duration = Duration::from_millis(200);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HaltError {
    /// Nobody knows who is primary.
    #[error("no primary")]
    NoPrimary,
    /// Whoever asks has the lock, or has asked for it already.
    #[error("the halt lock is held, or waited for")]
    Again,
    /// Others used the database all the time, there or here.
    #[error("timed out waiting for the halt lock")]
    TimedOut,
    /// This node has other transactions than the primary.
    #[error("the database is not what the primary has")]
    Elsewhere,
    /// The primary refuses, or is not there.
    #[error("ask the primary for the halt lock")]
    Request(#[from] RequestError),
    /// Its answer broke off.
    #[error("read the halt lock")]
    Body(#[from] hyper::Error),
    /// Its answer is none.
    #[error("read the halt lock")]
    Answer(#[from] AnswerError),
    /// The database cannot be made.
    #[error("make the database")]
    Disk(#[from] std::io::Error),
    /// The node stops.
    #[error("the node stops")]
    Stopped,
}

/// The write locks that applications hold from here.
#[derive(Debug)]
pub struct Halts {
    store: Arc<Store>,
    standing: watch::Receiver<Standing>,
    runtime: Handle,
    holds: Mutex<Holds>,
}

/// Locks by database and owner; nothing while one is being taken.
type Holds = BTreeMap<(DatabaseName, Owner), Option<Arc<Hold>>>;

/// One lock.
#[derive(Debug)]
struct Hold {
    engine: Mutex<Holding>,
    peer: Peer,
    runtime: Handle,
    given_back: Notify,
}

/// The primary that a lock was asked of.
#[derive(Debug, Clone)]
struct Peer {
    database: DatabaseName,
    /// One for all that is asked: a commit takes one way there and back.
    api: Arc<Connection>,
    epoch: Epoch,
    node: NodeId,
    standing: watch::Receiver<Standing>,
}

impl Peer {
    fn is_primary(&self) -> bool {
        match &*self.standing.borrow() {
            Standing::Replica { primary, epoch } => primary.url == self.api.url() && *epoch == self.epoch,
            Standing::Nobody
            | Standing::Primary { .. }
            | Standing::Leaving
            | Standing::HandingOver { .. } => false,
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(id) = HeaderValue::from_str(&self.node.to_string()) {
            headers.insert("Litefs-Id", id);
        }
        if self.epoch != Epoch::NONE {
            headers.insert(EPOCH, HeaderValue::from(self.epoch.0));
        }
        headers
    }

    async fn ask(&self, id: i64, headers: HeaderMap) -> Result<(wire::Answer, Option<Duration>), HaltError> {
        let path = halt_path(self.database.as_str(), id);
        let response = self.api.request(Method::POST, &path, headers, whole("")).await?;
        let lasts = wire::lasts(response.headers());
        let body = response.into_body().collect().await?.to_bytes();
        Ok((wire::Answer::decode(&body)?, lasts))
    }

    async fn give_back(&self, id: i64) -> Result<(), RequestError> {
        let path = halt_path(self.database.as_str(), id);
        let asked = self.api.request(Method::DELETE, &path, self.headers(), whole(""));
        match timeout(ANSWER_MAX, asked).await {
            Ok(answered) => answered.map(|_| ()),
            Err(_) => Err(RequestError::TimedOut {
                authority: self.api.url().to_owned(),
            }),
        }
    }

    /// Gives the lock back until the primary has heard of it, or it has ended by itself.
    async fn insist(&self, id: i64, until: Instant) {
        while Instant::now() < until && self.is_primary() {
            match self.give_back(id).await {
                Ok(()) | Err(RequestError::Status { .. }) => return,
                Err(error) => tracing::debug!(error = %chain(&error), "halt lock is given back again"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn bring(&self, id: i64, body: Body) -> Result<(), RequestError> {
        let path = tx_path(self.database.as_str(), id);
        let asked = self.api.request(Method::POST, &path, self.headers(), body);
        match timeout(ACQUIRE_MAX + ANSWER_MAX, asked).await {
            Ok(answered) => answered.map(|_| ()),
            Err(_) => Err(RequestError::TimedOut {
                authority: self.api.url().to_owned(),
            }),
        }
    }
}

impl Hold {
    fn engine(&self) -> MutexGuard<'_, Holding> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.engine().end();
        self.given_back.notify_one();
    }
}

impl Forward for Hold {
    fn may_write(&self) -> bool {
        self.engine().may_write(Instant::now().into_std()) && self.peer.is_primary()
    }

    fn forward(&self, file: &Path, promised: bool) -> Result<(), ForwardError> {
        let (id, mut unanswered, began) = (self.engine().id(), None, Instant::now());
        let patient = || promised || began.elapsed() < LITEFS_LASTS;
        while patient() && self.engine().may_commit(Instant::now().into_std()) && self.peer.is_primary() {
            let body = File::open(file).map_err(|error| ForwardError::Refused(error.to_string()))?;
            let brought = self.runtime.block_on(self.peer.bring(id, body_of(body)));
            match brought {
                Ok(()) => return Ok(()),
                // Somebody reads there what has to change.
                Err(RequestError::Status { status, said }) if status == StatusCode::CONFLICT => {
                    if !promised {
                        return Err(ForwardError::Refused(said));
                    }
                }
                // Whoever stands in between did not reach it, or lost its answer.
                Err(RequestError::Status { status, said }) if is_of_between(status) => {
                    unanswered = Some(said)
                }
                Err(RequestError::Status { said, .. }) => {
                    self.engine().end();
                    // A primary that began anew knows nothing of the lock, and may have the transaction.
                    let unknown = unanswered.map(|lost| format!("{lost}; then {said}"));
                    return Err(unknown.map_or(ForwardError::Refused(said), ForwardError::Unknown));
                }
                Err(error) => unanswered = Some(chain(&error)),
            }
            self.runtime.block_on(async { sleep(AGAIN).await });
        }
        Err(unanswered.map_or(ForwardError::NotHeld, ForwardError::Unknown))
    }
}

fn is_of_between(status: StatusCode) -> bool {
    status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT
}

impl Halts {
    /// Makes those of a node: there are none yet.
    #[must_use]
    pub fn new(store: Arc<Store>, keeper: &Keeper, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            store,
            standing: keeper.standing(),
            runtime,
            holds: Mutex::default(),
        })
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether anybody here holds the lock of a database.
    pub fn is_held(&self, database: &DatabaseName) -> bool {
        let holds = self.holds();
        holds
            .iter()
            .any(|((held, _), hold)| held == database && hold.is_some())
    }

    /// Takes the lock of a database for an owner. On the primary nothing is to be taken.
    ///
    /// * `done`: called once, on another thread.
    pub fn take(
        self: &Arc<Self>,
        database: DatabaseName,
        owner: Owner,
        done: impl FnOnce(Result<(), HaltError>) + Send + 'static,
    ) {
        let halts = Arc::clone(self);
        self.runtime.spawn(async move {
            let taken = halts.acquire(&database, owner).await;
            if let Err(error) = &taken {
                tracing::warn!(db = %database, error = %chain(error), "halt lock was not taken");
            }
            done(taken);
        });
    }

    /// Gives the lock of a database back, if that owner holds it.
    ///
    /// * `done`: called once the primary knows, or cannot be told now; at once where nothing is held.
    pub fn give_up(
        self: &Arc<Self>,
        database: &DatabaseName,
        owner: Owner,
        done: impl FnOnce() + Send + 'static,
    ) {
        let held = self.holds().remove(&(database.clone(), owner)).flatten();
        let Some(hold) = held else {
            return done();
        };
        let halts = Arc::clone(self);
        self.runtime.spawn(async move {
            let given_back = halts.part(&hold).await;
            done();
            if !given_back {
                let (id, until) = (hold.engine().id(), hold.engine().until());
                hold.peer.insist(id, until.into()).await;
            }
        });
    }

    /// Gives all locks back: the node stops.
    pub async fn end(self: &Arc<Self>) {
        let holds = std::mem::take(&mut *self.holds());
        for hold in holds.into_values().flatten() {
            self.part(&hold).await;
        }
    }

    /// Nobody writes by it any more, then the primary is told; tells whether it heard.
    async fn part(self: &Arc<Self>, hold: &Arc<Hold>) -> bool {
        hold.end();
        self.withdraw(hold).await;
        let id = hold.engine().id();
        let told = hold.peer.give_back(id).await;
        match told {
            Ok(()) | Err(RequestError::Status { .. }) => true,
            Err(error) => {
                tracing::warn!(db = %hold.peer.database, error = %chain(&error), "halt lock was not given back yet");
                false
            }
        }
    }

    async fn acquire(self: &Arc<Self>, database: &DatabaseName, owner: Owner) -> Result<(), HaltError> {
        let peer = match &*self.standing.borrow() {
            Standing::Primary { .. } => return Ok(()),
            Standing::Replica { primary, epoch } => Peer {
                database: database.clone(),
                api: Arc::new(Connection::new(&primary.url)),
                epoch: *epoch,
                node: self.store.node().id,
                standing: self.standing.clone(),
            },
            Standing::Nobody | Standing::Leaving | Standing::HandingOver { .. } => {
                return Err(HaltError::NoPrimary);
            }
        };
        let key = (database.clone(), owner);
        match self.holds().entry(key.clone()) {
            Entry::Occupied(_) => return Err(HaltError::Again),
            Entry::Vacant(entry) => entry.insert(None),
        };
        // Never zero, which LiteFS takes for none.
        let id = i64::from_ne_bytes(daemon::random::bytes()) & i64::MAX | 1;
        match self.take_lock(&peer, id, Instant::now() + ACQUIRE_MAX).await {
            Ok(hold) => {
                self.holds().insert(key, Some(Arc::clone(&hold)));
                let halts = Arc::clone(self);
                self.runtime.spawn(async move { halts.keep(&hold).await });
                tracing::info!(db = %database, id, "halt lock taken");
                Ok(())
            }
            Err(error) => {
                self.holds().remove(&key);
                // It may have been granted, and nobody have heard of it.
                self.runtime.spawn(async move {
                    let ends = Instant::now() + LITEFS_LASTS;
                    peer.insist(id, ends).await;
                });
                Err(error)
            }
        }
    }

    async fn take_lock(&self, peer: &Peer, id: i64, until: Instant) -> Result<Arc<Hold>, HaltError> {
        let asked = timeout_at(until, self.ask_and_catch_up(peer, id)).await;
        let (slot, engine) = asked.unwrap_or(Err(HaltError::TimedOut))?;
        let hold = Arc::new(Hold {
            engine: Mutex::new(engine),
            peer: peer.clone(),
            runtime: self.runtime.clone(),
            given_back: Notify::new(),
        });
        let (store, taken) = (Arc::clone(&self.store), Arc::clone(&hold));
        let opening = tokio::task::spawn_blocking(move || {
            let how = TakeOver {
                owner: OURSELVES,
                when: &|| true,
                give_up: &|| Instant::now() >= until || store.is_stopped(),
                at_rest: &|_| true,
            };
            store.take_over(&slot, &how, |database| {
                let there = taken.engine().reached(database.pos()) == Reached::There;
                if there {
                    let forward: Arc<dyn Forward> = taken.clone();
                    database.set_forward(Some(Arc::clone(&forward)));
                    slot.set_forward(Some(forward));
                }
                there
            })
        });
        match opening.await {
            Ok(Some(true)) => Ok(hold),
            Ok(Some(false)) => Err(HaltError::Elsewhere),
            Ok(None) => Err(HaltError::TimedOut),
            Err(_) => Err(HaltError::Stopped),
        }
    }

    /// Asks for the lock, and waits until the database is where the primary's was then.
    async fn ask_and_catch_up(&self, peer: &Peer, id: i64) -> Result<(Arc<Slot>, Holding), HaltError> {
        let mut changes = self.store.changes();
        let asked_at = Instant::now();
        let (answer, lasts) = peer.ask(id, peer.headers()).await?;
        let engine = Holding::new(id, answer.pos, asked_at.into_std(), lasts);
        let (store, database) = (Arc::clone(&self.store), peer.database.clone());
        let making = tokio::task::spawn_blocking(move || store.get_or_create(&database));
        let slot = making.await.map_err(|_| HaltError::Stopped)??;
        loop {
            match engine.reached(slot.noted().pos) {
                Reached::There => return Ok((slot, engine)),
                Reached::Elsewhere => return Err(HaltError::Elsewhere),
                Reached::Behind => {
                    let _any_change_or_many = changes.recv().await;
                }
            }
        }
    }

    /// Renews a lock until it is given back, or ends.
    async fn keep(&self, hold: &Arc<Hold>) {
        let mut standing = self.standing.clone();
        loop {
            let next = hold.engine().next();
            tokio::select! {
                () = sleep_until(next.into()) => {}
                () = hold.given_back.notified() => return,
                changed = standing.changed() => if changed.is_err() {
                    // It never changes any more.
                    tokio::select! {
                        () = sleep_until(next.into()) => {}
                        () = hold.given_back.notified() => return,
                    }
                },
            }
            let now = Instant::now();
            let ended = if !hold.peer.is_primary() {
                Some("the primary is another")
            } else if !hold.engine().may_commit(now.into_std()) {
                Some("it has expired")
            } else if now.into_std() >= next {
                renew(hold).await
            } else {
                None
            };
            if let Some(why) = ended {
                tracing::warn!(db = %hold.peer.database, why, "halt lock was lost");
                hold.engine().end();
                self.withdraw(hold).await;
                return;
            }
        }
    }

    /// Applications do not write any more; what one has begun is taken back as soon as nobody reads, and the log is put away.
    async fn withdraw(&self, hold: &Arc<Hold>) {
        let Some(slot) = self.store.get(&hold.peer.database) else {
            return;
        };
        let is_ours = |forward: &Arc<dyn Forward>| std::ptr::addr_eq(Arc::as_ptr(forward), Arc::as_ptr(hold));
        if !slot.forward().as_ref().is_some_and(is_ours) {
            // Another's by now, or nobody's.
            return;
        }
        let store = Arc::clone(&self.store);
        let withdrawn = tokio::task::spawn_blocking(move || {
            slot.set_forward(None);
            if let crate::store::State::Serving(database) = &mut *slot.lane().take() {
                database.set_forward(None);
            }
            let settling = std::thread::Builder::new()
                .name("halt".to_owned())
                .spawn(move || settle(&store, &slot));
            settling.map(|_| ())
        });
        match withdrawn.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "log stays until the next transaction"),
            Err(error) => tracing::error!(%error, "halt lock was not withdrawn"),
        }
    }
}

/// Asks for a lock again, and tells why it has ended, if it has.
async fn renew(hold: &Hold) -> Option<&'static str> {
    let (id, asked_at) = (hold.engine().id(), Instant::now().into_std());
    let mut headers = hold.peer.headers();
    headers.insert(RENEWS, HeaderValue::from_static("true"));
    match timeout(ANSWER_MAX, hold.peer.ask(id, headers)).await {
        Ok(Ok((_, lasts))) => hold.engine().renewed(asked_at, lasts),
        Ok(Err(HaltError::Request(RequestError::Status { status, .. }))) if !is_of_between(status) => {
            return Some("the primary does not know it any more");
        }
        Ok(Err(_)) | Err(_) => hold.engine().unanswered(asked_at),
    }
    None
}

fn settle(store: &Store, slot: &Slot) {
    let how = TakeOver {
        owner: OURSELVES,
        when: &|| true,
        give_up: &|| store.is_stopped() || slot.forward().is_some() || store.is_primary_of(slot),
        at_rest: &|_| true,
    };
    store.take_over(slot, &how, |_| ());
}
