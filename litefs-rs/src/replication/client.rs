//! A replica: it connects to the primary, reads the stream and connects again, on a thread of its own.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crashsafe::{DiskFile, OpenOptions};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt as _;
use lease::Epoch;
use ltx::{DecodeError, HEADER_BYTES, Header, Version};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    applier::Applier,
    follower::{Disconnect, Follower, Input, Output},
    frame::{FrameReader, Received},
    position_map::{self, PositionMap},
    status::Status,
};
use crate::{
    db::Incoming,
    http_client::{RequestError, request, whole},
    name::DatabaseName,
    node::Member,
    store::{ClusterId, ClusterIdError, Store},
};

/// Says under which epoch a node is primary, or the greatest that it knows of. Nodes of LiteFS say nothing.
pub const EPOCH: &str = "Litefs-Epoch";
const LABEL: &str = "incoming";
/// How long a replica looks away from its stop.
const LOOK: Duration = Duration::from_millis(200);

/// What a replica follows.
#[derive(Debug)]
pub struct Following {
    /// Where the primary's API is.
    pub url: String,
    /// Only these databases, if there are any.
    pub only: Vec<String>,
    /// The epoch of the primary, as the lease has it.
    pub epoch: Epoch,
    /// Who takes down that this node has everything.
    pub member: Arc<Member>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The primary does not answer, or refuses.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The node belongs to another cluster.
    #[error("cannot stream from primary with a different cluster id: {theirs} <> {ours}")]
    OtherCluster {
        /// The primary's.
        theirs: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// The primary's cluster is none.
    #[error("the primary's cluster id")]
    ClusterId(#[from] ClusterIdError),
    /// The follower says why.
    #[error(transparent)]
    Disconnected(#[from] Disconnect),
    /// The connection broke.
    #[error("read the stream")]
    Read(#[source] hyper::Error),
    /// A transaction is not sound.
    #[error("a transaction of the primary")]
    Ltx(#[from] DecodeError),
    /// A database did not take a transaction.
    #[error("database {0} is fetched anew")]
    FetchAnew(DatabaseName),
    /// The disk fails.
    #[error("write a transaction of the primary")]
    Disk(#[from] io::Error),
    /// The primary is none any more.
    #[error("a primary of epoch {theirs}, and there was one of epoch {ours}")]
    OldEpoch {
        /// What it says.
        theirs: Epoch,
        /// What is known.
        ours: Epoch,
    },
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    store: Arc<Store>,
    status: Arc<Status>,
    stop: Arc<AtomicBool>,
    appliers: BTreeMap<DatabaseName, Applier>,
    /// A lease that the primary hands over.
    offer: Option<String>,
    /// The primary has sent everything once; not all of it may be applied.
    sent_all: bool,
}

/// A file on its way here.
struct Arriving {
    name: String,
    head: Vec<u8>,
    file: Option<(Box<dyn DiskFile>, std::path::PathBuf, Fate)>,
    len: u64,
}

/// What becomes of it.
enum Fate {
    Apply(DatabaseName),
    Drop,
}

impl Replica {
    /// Makes a replica.
    #[must_use]
    pub fn new(store: Arc<Store>, status: Arc<Status>, stop: Arc<AtomicBool>) -> Self {
        Self {
            store,
            status,
            stop,
            appliers: BTreeMap::new(),
            offer: None,
            sent_all: false,
        }
    }

    /// Returns a lease that the primary handed over at the end of its stream, once.
    pub fn take_offer(&mut self) -> Option<String> {
        self.offer.take()
    }

    /// Returns what tells whether nothing waits to be applied to a database.
    pub fn idle(&self, database: &DatabaseName) -> impl Fn() -> bool + Send + use<> {
        let idle = self.appliers.get(database).map(Applier::idle);
        move || idle.as_ref().is_none_or(|idle| idle())
    }

    /// Waits until nothing waits to be applied, and tells whether that is so.
    pub fn finishes(&self, until: Instant) -> bool {
        let slots = self.store.all();
        let busy = slots
            .iter()
            .filter_map(|slot| Some((slot, self.appliers.get(slot.name())?.idle())));
        busy.into_iter().all(|(slot, idle)| {
            let give_up = || Instant::now() >= until || self.is_stopping();
            let finished = slot.lane().take_when(|_| idle().then_some(()), give_up);
            finished.is_some()
        })
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.store.is_stopped()
    }

    /// Returns where the databases are, or will be when everything that waits is applied.
    fn positions(&mut self) -> PositionMap {
        // What failed begins anew, when nothing waits any more.
        self.appliers
            .retain(|_, applier| !applier.has_failed() || applier.ahead().is_some());
        let slots = self.store.all();
        let positions = slots.into_iter().map(|slot| {
            let applier = self.appliers.get(slot.name());
            let pos = applier
                .filter(|applier| !applier.has_failed())
                .and_then(Applier::ahead)
                .unwrap_or_else(|| slot.noted().pos);
            (slot.name().clone(), pos)
        });
        positions.collect()
    }

    /// Connects and reads until the stream ends.
    ///
    /// * `changed`: tells whether the primary is another by now.
    ///
    /// # Errors
    /// Why it ended.
    pub fn follow(
        &mut self,
        runtime: &Handle,
        following: &Following,
        changed: &dyn Fn() -> bool,
    ) -> Result<(), FollowError> {
        self.sent_all = false;
        for (name, applier) in &self.appliers {
            if applier.has_failed()
                && let Some(slot) = self.store.get(name)
            {
                // Fetched whole: nothing that it has counts.
                slot.forget_position();
            }
        }
        let positions = self.positions();
        let node = self.store.node().id;
        let mut headers = HeaderMap::new();
        if let Ok(id) = HeaderValue::from_str(&node.to_string()) {
            headers.insert("Litefs-Id", id);
        }
        let seen = following.epoch.max(following.member.kept().epoch);
        if seen != Epoch::NONE {
            headers.insert(EPOCH, HeaderValue::from(seen.0));
        }
        let path = match following.only.join(",") {
            only if only.is_empty() => "/stream".to_owned(),
            only => format!("/stream?filter={only}"),
        };
        let body = whole(position_map::encode(&positions));
        let url = &following.url;
        let response = runtime.block_on(request(Method::POST, url, &path, headers, body))?;
        self.check_cluster(response.headers())?;
        let epoch = check_epoch(response.headers(), following.epoch, seen)?;
        tracing::info!(url, "connected to the primary");
        let mut body = response.into_body();
        let mut follower = Follower::new(Instant::now().into_std(), node, positions, self.status.is_ready());
        let (mut reader, mut arriving, mut received) = (FrameReader::default(), None, Vec::new());
        loop {
            if self.is_stopping() || changed() {
                return Ok(());
            }
            self.check_appliers()?;
            if self.sent_all && self.appliers.values().all(|applier| applier.ahead().is_none()) {
                following.member.synced(epoch)?;
                self.sent_all = false;
            }
            let until = Instant::from_std(follower.deadline()).min(Instant::now() + LOOK);
            match runtime.block_on(async { timeout_at(until, body.frame()).await }) {
                Err(_) => self.handle(&mut follower, Input::Tick)?,
                Ok(None) => {
                    let ended = reader.end().map_or_else(Input::Broken, |()| Input::End);
                    self.handle(&mut follower, ended)?;
                }
                Ok(Some(Err(error))) => return Err(FollowError::Read(error)),
                Ok(Some(Ok(frame))) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    self.handle(&mut follower, Input::Heard)?;
                    let fed = reader.feed(&bytes, &mut received);
                    for frame in received.drain(..) {
                        self.take(frame, &mut follower, &mut arriving)?;
                    }
                    if let Err(error) = fed {
                        self.handle(&mut follower, Input::Broken(error))?;
                    }
                }
            }
        }
    }

    fn check_cluster(&self, headers: &HeaderMap) -> Result<(), FollowError> {
        let Some(theirs) = headers.get("Litefs-Cluster-Id").and_then(|id| id.to_str().ok()) else {
            return Ok(());
        };
        let theirs: ClusterId = theirs.parse()?;
        let disk = &*self.store.node().disk;
        match ClusterId::read(disk, self.store.root())? {
            Some(ours) if ours == theirs => Ok(()),
            Some(ours) => Err(FollowError::OtherCluster { theirs, ours }),
            None => Ok(theirs.write(disk, self.store.root())?),
        }
    }

    fn check_appliers(&self) -> Result<(), FollowError> {
        match self.appliers.iter().find(|(_, applier)| applier.has_failed()) {
            Some((name, _)) => Err(FollowError::FetchAnew(name.clone())),
            None => Ok(()),
        }
    }

    /// Tells the follower, and does what it says, files apart.
    fn handle(&mut self, follower: &mut Follower, input: Input) -> Result<(), FollowError> {
        let mut outputs = Vec::new();
        follower.handle(Instant::now().into_std(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::BecomeReady => {
                    self.status.become_ready();
                    tracing::info!("in sync with the primary");
                }
                Output::Reached { timestamp_ms } => self.status.reached(timestamp_ms),
                Output::TakeLease(lease) => self.offer = Some(lease),
                // Backups are not there.
                Output::Retain { .. } => {}
                Output::Disconnect(why) => return Err(why.into()),
                Output::Apply(_) | Output::Verify(_) | Output::Skip(_) => {}
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        received: Received,
        follower: &mut Follower,
        arriving: &mut Option<Arriving>,
    ) -> Result<(), FollowError> {
        match received {
            Received::LtxBegins { database } => {
                *arriving = Some(Arriving {
                    name: database,
                    head: Vec::new(),
                    file: None,
                    len: 0,
                });
                Ok(())
            }
            Received::LtxBytes(bytes) => match arriving {
                Some(arriving) => self.arrive(arriving, &bytes, follower),
                None => Ok(()),
            },
            Received::LtxEnds => match arriving.take() {
                Some(arriving) => self.arrived(arriving, follower),
                None => Ok(()),
            },
            Received::Ready => {
                self.sent_all = true;
                self.handle(follower, Input::Ready)
            }
            Received::End => self.handle(follower, Input::End),
            Received::NoDatabase { .. } => Ok(()),
            Received::Handoff { lease } => self.handle(follower, Input::Handoff(lease)),
            Received::HighWaterMark { txid, database } => {
                self.handle(follower, Input::HighWaterMark { database, txid })
            }
            Received::Heartbeat { timestamp_ms } => self.handle(follower, Input::Heartbeat(timestamp_ms)),
        }
    }

    /// Takes up bytes of a file; when its header is there, what becomes of it is decided.
    fn arrive(
        &mut self,
        arriving: &mut Arriving,
        bytes: &[u8],
        follower: &mut Follower,
    ) -> Result<(), FollowError> {
        let mut rest = bytes;
        if arriving.file.is_none() {
            let wanted = HEADER_BYTES - arriving.head.len();
            let (head, after) = rest.split_at(wanted.min(rest.len()));
            arriving.head.extend_from_slice(head);
            rest = after;
            let Ok(head) = <&[u8; HEADER_BYTES]>::try_from(&arriving.head[..]) else {
                return Ok(());
            };
            let header = Header::decode(head, Version::V1).map_err(DecodeError::Header)?;
            let fate = self.decide(&arriving.name, header, follower)?;
            let path = self.store.incoming();
            let file = self
                .store
                .node()
                .disk
                .open(LABEL, &path, OpenOptions::CREATE_NEW)?;
            file.write_at(&arriving.head, 0)?;
            arriving.len = HEADER_BYTES as u64;
            arriving.file = Some((file, path, fate));
        }
        if let Some((file, _, _)) = &arriving.file {
            file.write_at(rest, arriving.len)?;
            arriving.len += rest.len() as u64;
        }
        Ok(())
    }

    fn decide(&mut self, name: &str, header: Header, follower: &mut Follower) -> Result<Fate, FollowError> {
        let mut outputs = Vec::new();
        let input = Input::Ltx {
            database: name.to_owned(),
            header,
        };
        follower.handle(Instant::now().into_std(), input, &mut outputs);
        let mut fate = Fate::Drop;
        for output in outputs {
            match output {
                // What we made ourselves is here, unless its maker was not told that it counts: whoever applies it looks.
                Output::Apply(database) | Output::Verify(database) => fate = Fate::Apply(database),
                Output::Skip(why) => {
                    tracing::warn!(name, error = %why, "database of the primary was left out")
                }
                Output::Disconnect(why) => return Err(why.into()),
                Output::BecomeReady
                | Output::Reached { .. }
                | Output::Retain { .. }
                | Output::TakeLease(_) => {}
            }
        }
        Ok(fate)
    }

    /// A file is here: it is checked, made durable, and waits for its database.
    fn arrived(&mut self, arriving: Arriving, follower: &mut Follower) -> Result<(), FollowError> {
        let disk = Arc::clone(&self.store.node().disk);
        let Some((file, path, fate)) = arriving.file else {
            return Ok(());
        };
        file.sync_data()?;
        drop(file);
        let incoming = Incoming::read(&*disk, path)?;
        let database = match fate {
            Fate::Apply(database) => database,
            Fate::Drop => return Ok(incoming.discard(&*disk)?),
        };
        let (pos, timestamp_ms) = (incoming.pos(), incoming.header().timestamp_ms);
        self.applier(&database)?.push(incoming);
        let applied = Input::Applied {
            database,
            pos,
            timestamp_ms,
        };
        self.handle(follower, applied)
    }

    fn applier(&mut self, database: &DatabaseName) -> Result<&Applier, FollowError> {
        if !self.appliers.contains_key(database) {
            let slot = self.store.get_or_create(database)?;
            let applier = Applier::start(Arc::clone(&self.store), slot, Arc::clone(&self.stop))?;
            self.appliers.insert(database.clone(), applier);
        }
        self.appliers
            .get(database)
            .ok_or_else(|| FollowError::Disk(io::ErrorKind::NotFound.into()))
    }
}

/// Checks under which epoch the primary sends, and returns that.
///
/// * `leased`: what the lease says; what counts where the primary says nothing.
/// * `seen`: the greatest that is known.
fn check_epoch(headers: &HeaderMap, leased: Epoch, seen: Epoch) -> Result<Epoch, FollowError> {
    let said = headers
        .get(EPOCH)
        .and_then(|epoch| epoch.to_str().ok()?.parse().ok());
    let theirs = said.map_or(leased, Epoch);
    if theirs < seen {
        return Err(FollowError::OldEpoch { theirs, ours: seen });
    }
    Ok(theirs)
}
