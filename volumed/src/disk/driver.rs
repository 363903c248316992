//! The thread of one disk: owns the engine, the ring of io_uring, the slice and the export's sockets.
//!
//! It performs what the engine asks for and tells it what came of that. A write's way from a socket to the journal and back is on
//! this thread alone; whatever waits for the store or costs time is done elsewhere and comes back as an [`Event`].

mod clients;
mod journal_io;
mod object_reads;
mod outputs;
mod reads;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use log_disk::{
    CacheStats, Durability, Engine, Epoch, FetchId, Input, Lag, Layout, OnOutage, Outcome, Output, Request,
    RequestId, Seq, Stats, Stopped, Time,
};
use rustix::event::EventfdFlags;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::clock;
use super::map_pages::MapPages;
use super::metrics::Metrics;
use super::seal::Sealing;
use super::slice::Slice;
use super::store::Bucket;
use super::sys::{Ended, Held, Uring};
use clients::{ClientId, Clients};
use journal_io::JournalIo;
use object_reads::{ObjectReads, Part};
use reads::Reads;

/// Events that may wait for the thread; who sends more waits.
const EVENTS: usize = 256;
/// How long a disk that is to end waits for requests under way.
const END_WITHIN_US: u64 = 5_000_000;

/// What comes to the thread from outside its ring.
#[derive(Debug)]
pub(super) enum Event {
    /// Something that the engine waits for.
    Input(Box<Input>),
    /// The front of the object that a part of a read lies in; `None` when it cannot be read.
    Front { part: Part, layout: Option<Arc<Layout>> },
    /// Bytes of an object; `None` when they cannot be read.
    Got { fetch: FetchId, bytes: Option<Bytes> },
    /// Somebody wants something.
    Order(Order),
}

/// What is wanted of a disk from inside this process.
#[derive(Debug)]
pub(super) enum Order {
    /// A request, as a guest would make it.
    Request {
        request: Request,
        answer: oneshot::Sender<Outcome>,
    },
    /// Figures.
    Report { answer: oneshot::Sender<Report> },
    /// Other promises from now on.
    Change {
        durability: Durability,
        on_outage: OnOutage,
        lag: Lag,
    },
    /// Bring everything to the store and end; the answer comes from whoever releases the disk.
    Drain { answer: oneshot::Sender<Drained> },
    /// End.
    Stop,
}

/// Whether a disk was given up.
pub(super) type Drained = Result<Epoch, String>;

/// What the thread knows of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) epoch: Epoch,
    pub(super) size_blocks: u64,
    pub(super) stats: Stats,
    pub(super) cache: CacheStats,
    pub(super) clients: usize,
    pub(super) snapshots: usize,
}

/// How the thread ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// As asked for.
    Asked,
    /// Everything is in the store, nothing is answered any more: the disk may be released.
    Drained {
        epoch: Epoch,
        answer: oneshot::Sender<Drained>,
    },
    /// The engine will not go on.
    Stopped(Stopped),
    /// The ring of io_uring broke.
    Ring(io::Error),
}

/// A way to the thread; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    events: mpsc::Sender<Event>,
    wake: Arc<OwnedFd>,
}

/// The thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the disk is not served any more")]
pub(super) struct Gone;

impl Orders {
    /// Makes a way to a thread that is still to be started.
    ///
    /// # Errors
    /// What the system says to an event's descriptor.
    pub(super) fn new() -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (events, queue) = mpsc::channel(EVENTS);
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        Ok((Self { events, wake }, queue))
    }

    /// Sends an event, waiting for room.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) async fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)?;
        // Full means that it is awake for a long time to come.
        let _counted = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// Makes a request and waits for its end.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) async fn request(&self, request: Request) -> Result<Outcome, Gone> {
        let (answer, answered) = oneshot::channel();
        self.send(Event::Order(Order::Request { request, answer }))
            .await?;
        answered.await.map_err(|_| Gone)
    }

    /// Asks for figures.
    ///
    /// # Errors
    /// [`Gone`].
    pub(super) async fn report(&self) -> Result<Report, Gone> {
        let (answer, answered) = oneshot::channel();
        self.send(Event::Order(Order::Report { answer })).await?;
        answered.await.map_err(|_| Gone)
    }
}

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) engine: Engine<MapPages>,
    pub(super) slice: Slice,
    pub(super) bucket: Bucket,
    pub(super) sealing: Sealing,
    pub(super) metrics: Metrics,
    pub(super) orders: Orders,
    pub(super) queue: mpsc::Receiver<Event>,
}

/// What a completion of the ring is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// Somebody sent an event.
    Wake,
    /// A record of so many bytes.
    Append { seq: Seq, bytes: usize },
    /// The engine's sync.
    Sync,
    /// A page of the superblock.
    Superblock { page: u64 },
    /// Its sync.
    SuperblockSynced { page: u64 },
    /// The first page of a record that a read needs, or the pages of its piece.
    Journal(journal_io::Step),
    /// A line of the cache, read.
    Slot(u64),
    /// A line of the cache, written.
    Fill(u64),
    /// A client has come.
    Accept,
    /// A client said something.
    Receive(ClientId),
    /// A client was told something.
    Send(ClientId),
}

/// Who waits for a request.
#[derive(Debug)]
enum Waiter {
    /// Somebody in this process.
    Inside(oneshot::Sender<Outcome>),
    /// A client of the export.
    Client {
        client: ClientId,
        asked: clients::Asked,
        since: Time,
    },
    /// The thread itself: the last flush of a drain.
    Drain,
}

/// What the thread is about to do at its end.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Serving,
    /// Ends when nothing is under way, or at this time.
    Closing { until: Time },
    /// Waits for requests under way, then for the store to have everything.
    Draining {
        answer: oneshot::Sender<Drained>,
        flushing: bool,
    },
}

/// The thread's state.
pub(super) struct Driver {
    engine: Engine<MapPages>,
    ring: Uring<Tag>,
    slice: Slice,
    bucket: Bucket,
    sealing: Sealing,
    metrics: Metrics,
    orders: Orders,
    queue: mpsc::Receiver<Event>,
    inputs: VecDeque<Input>,
    out: Vec<Output>,
    waiters: HashMap<RequestId, Waiter>,
    next_request: u64,
    reads: Reads,
    journal_io: JournalIo,
    objects: ObjectReads,
    clients: Clients,
    /// Clients that have something to be sent or looked at.
    busy: Vec<ClientId>,
    phase: Phase,
    ended: Option<Ending>,
    /// Ends what was [started](Driver::start) with the thread.
    over: CancellationToken,
    _ends: DropGuard,
}

impl Driver {
    /// Takes everything over. To be called on the thread that then [runs](Self::run) it, inside a runtime.
    ///
    /// # Errors
    /// What the system says to a ring.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let mut ring = Uring::new(&parts.slice.descriptor()?)?;
        let journal_io = JournalIo::new(&mut ring);
        let slice = parts.slice.settings();
        let objects = ObjectReads::new(slice.cache_at(), slice.cache_bytes);
        ring.receive(Tag::Wake, &parts.orders.wake, vec![0; 8], 0);
        let over = CancellationToken::new();
        Ok(Self {
            engine: parts.engine,
            ring,
            slice: parts.slice,
            bucket: parts.bucket,
            sealing: parts.sealing,
            metrics: parts.metrics,
            orders: parts.orders,
            queue: parts.queue,
            inputs: VecDeque::new(),
            out: Vec::new(),
            waiters: HashMap::new(),
            next_request: 0,
            reads: Reads::default(),
            journal_io,
            objects,
            clients: Clients::default(),
            busy: Vec::new(),
            phase: Phase::default(),
            ended: None,
            _ends: over.clone().drop_guard(),
            over,
        })
    }

    /// Lets clients come.
    pub(super) fn export(&mut self, listener: OwnedFd, name: &str) {
        let size_blocks = self.engine.size_blocks();
        self.clients.listen(listener, name, size_blocks);
        self.accept();
    }

    /// Serves until the end.
    pub(super) fn run(mut self) -> Ending {
        self.feed(Input::Tick);
        loop {
            if let Some(ending) = self.take_ending() {
                return ending;
            }
            if let Err(error) = self.ring.wait(self.patience()) {
                return Ending::Ring(error);
            }
            while let Some(ended) = self.ring.ended() {
                self.ended(ended);
            }
            while let Ok(event) = self.queue.try_recv() {
                self.event(event);
            }
            if self.engine.deadline().is_some_and(|due| due <= clock::now()) {
                self.feed(Input::Tick);
            }
            while let Some(client) = self.busy.pop() {
                self.tend(client);
            }
        }
    }

    /// How long there is nothing to do, unless something happens.
    fn patience(&self) -> Option<Duration> {
        let end = match self.phase {
            Phase::Closing { until } => Some(until),
            Phase::Serving | Phase::Draining { .. } => None,
        };
        let due = [self.engine.deadline(), end].into_iter().flatten().min()?;
        Some(Duration::from_micros(due.since(clock::now())))
    }

    fn take_ending(&mut self) -> Option<Ending> {
        if self.ended.is_some() {
            return self.ended.take();
        }
        let idle = self.waiters.is_empty() && self.clients.are_told();
        match &mut self.phase {
            Phase::Serving => None,
            Phase::Closing { until } => (idle || clock::now() >= *until).then(|| match self.slice.sync() {
                Ok(()) => Ending::Asked,
                Err(error) => Ending::Ring(error),
            }),
            Phase::Draining { flushing, .. } => {
                if idle && !*flushing {
                    *flushing = true;
                    self.feed(Input::SetDurability(Durability::Remote));
                    self.ask(Request::Flush, Waiter::Drain);
                }
                self.ended.take()
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.feed(*input),
            Event::Front { part, layout } => self.front_came(part, layout),
            Event::Got { fetch, bytes } => self.got(fetch, bytes),
            Event::Order(order) => self.order(order),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Request { request, answer } => self.ask(request, Waiter::Inside(answer)),
            Order::Report { answer } => {
                let report = Report {
                    epoch: self.engine.epoch(),
                    size_blocks: self.engine.size_blocks(),
                    stats: self.engine.stats(),
                    cache: self.objects.stats(),
                    clients: self.clients.count(),
                    snapshots: self.engine.head().snapshots.len(),
                };
                // Whoever asked may have gone.
                let _unheard = answer.send(report);
            }
            Order::Change {
                durability,
                on_outage,
                lag,
            } => {
                self.feed(Input::SetDurability(durability));
                self.feed(Input::SetOutage { on_outage, lag });
            }
            Order::Drain { answer } => {
                info!("drains");
                self.busy.extend(self.clients.close());
                self.phase = Phase::Draining {
                    answer,
                    flushing: false,
                };
            }
            Order::Stop => {
                self.busy.extend(self.clients.close());
                self.phase = Phase::Closing {
                    until: clock::now().plus(END_WITHIN_US),
                };
            }
        }
    }

    /// Makes a request of the engine.
    fn ask(&mut self, request: Request, waiter: Waiter) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.waiters.insert(id, waiter);
        self.feed(Input::Request { id, request });
    }

    /// Tells the engine what happened, and performs what it asks for.
    fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.feed_waiting();
    }

    /// Tells the engine what waits to be told.
    fn feed_waiting(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let mut out = std::mem::take(&mut self.out);
            self.engine.handle(clock::now(), input, &mut out);
            for output in out.drain(..) {
                self.perform(output);
            }
            self.out = out;
        }
    }

    /// A request of the ring has ended.
    fn ended(&mut self, ended: Ended<Tag>) {
        let Ended { tag, result, held } = ended;
        match tag {
            Tag::Wake => self.ring.receive(Tag::Wake, &self.orders.wake, vec![0; 8], 0),
            Tag::Append { seq, bytes } => self.appended(seq, bytes, result, held),
            Tag::Sync => self.feed(Input::Synced {
                done: self.told(result, "the ring was not synced").is_some(),
            }),
            Tag::Superblock { page } => self.superblock_written(page, result, held),
            Tag::SuperblockSynced { page } => self.superblock_synced(page, result),
            Tag::Journal(step) => self.journal_ended(step, result, held),
            Tag::Slot(number) => self.slot_came(number, result, held),
            Tag::Fill(number) => self.filled(number, result, held),
            Tag::Accept => self.accepted(&result, held),
            Tag::Receive(client) => self.received(client, result, held),
            Tag::Send(client) => self.sent(client, result, &held),
        }
    }

    /// The value, or a line in the log.
    fn told(&self, result: io::Result<usize>, what: &'static str) -> Option<usize> {
        result
            .inspect_err(|error| tracing::error!(error = %error, what, "slice refused"))
            .ok()
    }

    /// A request is done: tells who waits for it.
    fn complete(&mut self, request: RequestId, outcome: Outcome) {
        let data = self.reads.take(request);
        match self.waiters.remove(&request) {
            Some(Waiter::Inside(answer)) => {
                // Whoever asked may have gone.
                let _unheard = answer.send(outcome);
            }
            Some(Waiter::Client { client, asked, since }) => {
                let micros = clock::now().since(since);
                self.metrics.answered(asked.kind(), micros);
                self.answer(client, asked, outcome, data);
            }
            Some(Waiter::Drain) => self.drained(outcome),
            None => panic!("{request:?} was not under way"),
        }
    }

    fn drained(&mut self, outcome: Outcome) {
        let Phase::Draining { answer, .. } = std::mem::take(&mut self.phase) else {
            return;
        };
        if outcome == Outcome::Done {
            let epoch = self.engine.epoch();
            self.ended = Some(Ending::Drained { epoch, answer });
        }
    }

    /// Starts something that takes its time; what it returns comes back as an event.
    fn start(&self, name: &'static str, work: impl Future<Output = Event> + Send + 'static) {
        let (orders, over) = (self.orders.clone(), self.over.clone());
        daemon::spawn(name, async move {
            tokio::select! {
                // Whatever was asked of the store may happen or not, as after a crash: nobody waits for it any more.
                () = over.cancelled() => {}
                event = work => {
                    // The thread may have ended meanwhile.
                    let _unheard = orders.send(event).await;
                }
            }
        });
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?}, {:?})", self.engine.epoch(), self.ring)
    }
}

/// What a held buffer of a socket is.
fn room(held: Held) -> Vec<u8> {
    match held {
        Held::Room(room) => room,
        Held::Nothing | Held::Pages(_) | Held::Message(_) | Held::Listening | Held::Socket(_) => {
            panic!("{held:?} where room was handed in")
        }
    }
}
