//! What performs an engine's wishes: a small stand-in for the real driver, with a disk that is slow and out of order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use log_disk::{
    Answer, Ask, BLOCK_BYTES, Engine, Input, Lag, Lba, ObjectName, ObjectSeq, OpenError, OpenOptions,
    Opening, Output, PAGE_BYTES, PageStore, ReadId, ReadPart, Record, Request, RequestId, Role, SealJob,
    Sealer, Source, Stopped, Time, Wanted, seal_object,
};
use rand::RngExt as _;
use sim::{Rng, Trace};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::faults::Faults;
use crate::guest::Guest;
use crate::io::{Bucket, Slice, spin};
use crate::reader::{Place, Reader};

/// Leaves of the map that memory had no room for, on a disk that may fail.
#[derive(Debug)]
pub(crate) struct Pages {
    kept: BTreeMap<u32, Vec<Vec<u8>>>,
    faults: Faults,
}

impl Pages {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            kept: BTreeMap::new(),
            faults,
        }
    }
}

impl PageStore for Pages {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        let kept = self.kept.entry(leaf).or_default();
        kept.push(bytes.to_vec());
        if kept.len() > 2 {
            kept.remove(0);
        }
    }

    fn load(&mut self, leaf: u32) -> std::io::Result<Vec<u8>> {
        let kept = self
            .kept
            .get(&leaf)
            .ok_or_else(|| std::io::Error::other("no such leaf"))?;
        let newest = kept.last().expect("none is empty");
        if !self.faults.spoils_page() {
            return Ok(newest.clone());
        }
        match self.faults.below(4) {
            0 => Err(std::io::Error::other("an error of the disk")),
            1 => Ok(kept[0].clone()),
            2 => Ok(self.kept.values().next().expect("there is one")[0].clone()),
            _ => {
                let mut damaged = newest.clone();
                self.faults.flip(&mut damaged);
                Ok(damaged)
            }
        }
    }
}

/// What a process works with.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) slice: Slice,
    pub(crate) bucket: Bucket,
    pub(crate) reader: Reader,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) began: Instant,
    /// The process's name in the trace.
    pub(crate) name: String,
}

impl Ground {
    pub(crate) fn now(&self) -> Time {
        let micros = self.began.elapsed().as_micros();
        Time(u64::try_from(micros).expect("a world does not last for ages"))
    }

    fn fork(&self) -> Self {
        Self {
            rng: self.rng.fork("part"),
            ..self.clone()
        }
    }

    fn event(&self, line: std::fmt::Arguments<'_>) {
        self.trace
            .event(format_args!("{} {} {line}", self.now(), self.name));
    }

    /// The blocks of a source, read and verified.
    async fn read(
        &mut self,
        places: &Places,
        source: Source,
        (lba, blocks): (Lba, u64),
        why: Wanted,
    ) -> Option<Bytes> {
        match source {
            Source::Journal {
                seq,
                position,
                piece,
                skip,
            } => {
                let record = Record::open(&self.sealer, &self.slice.read_ring(position, 1)?).ok()?;
                if record.header.seq != seq {
                    return None;
                }
                let found = record.pieces.get(usize::from(piece))?;
                let page = position + 1 + u64::from(found.data.as_ref()?.page);
                let pages = self.slice.read_ring(page, found.blocks)?;
                let plain = record.open_piece(&self.sealer, usize::from(piece), &pages).ok()?;
                let from = usize::from(skip) * BLOCK_BYTES;
                let len = usize::try_from(blocks).ok()? * BLOCK_BYTES;
                Some(Bytes::from(plain.get(from..from + len)?.to_vec()))
            }
            Source::Object { object, at } => {
                let place = places.0.get(&object)?;
                self.reader
                    .blocks(&mut self.rng, place, (lba, at, blocks), why)
                    .await
            }
        }
    }

    async fn read_parts(&mut self, places: &Places, parts: &[ReadPart]) -> Option<Bytes> {
        let mut out = BytesMut::new();
        for part in parts {
            let len = usize::try_from(part.blocks).ok()? * BLOCK_BYTES;
            match part.source {
                None => out.resize(out.len() + len, 0),
                Some(source) => {
                    let run = (part.lba, part.blocks);
                    out.extend_from_slice(&self.read(places, source, run, Wanted::Now).await?);
                }
            }
        }
        Some(out.freeze())
    }

    async fn read_ahead(&mut self, places: &Places, parts: &[ReadPart]) {
        for part in parts {
            if let Some(Source::Object { object, at }) = part.source
                && let Some(place) = places.0.get(&object)
            {
                let run = (part.lba, at, part.blocks);
                self.reader.ahead(&mut self.rng, place, run).await;
            }
        }
    }

    async fn seal(&mut self, places: &Places, job: SealJob) -> Input {
        let seq = job.header.seq;
        let mut data = Vec::with_capacity(job.runs.len());
        for run in &job.runs {
            let mut bytes = BytesMut::new();
            let mut lba = run.lba;
            for source in &run.sources {
                let blocks = (lba, source.blocks);
                match self.read(places, source.source, blocks, Wanted::Once).await {
                    Some(blocks) => bytes.extend_from_slice(&blocks),
                    None => return Input::Sealed { seq, object: None },
                }
                lba = lba.plus(source.blocks);
            }
            data.push(bytes.freeze());
        }
        let object = seal_object(&self.sealer, job.compression, job.header, &job.runs, &data);
        Input::Sealed {
            seq,
            object: Some(object),
        }
    }
}

/// The objects that one request reads from.
#[derive(Debug, Default)]
struct Places(BTreeMap<ObjectSeq, Place>);

impl Places {
    fn of(engine: &Engine<Pages>, sources: impl Iterator<Item = Source>) -> Self {
        let places = sources.filter_map(|source| match source {
            Source::Object { object, .. } => {
                let place = Place {
                    name: engine.object_name(object)?,
                    home: engine.home(object),
                    sealer: Arc::clone(engine.sealer_of(object)),
                };
                Some((object, place))
            }
            Source::Journal { .. } => None,
        });
        Self(places.collect())
    }
}

/// Opens a disk.
pub(crate) async fn open(ground: &Ground, options: OpenOptions<Pages>) -> Result<Engine<Pages>, OpenError> {
    let mut rng = ground.rng.fork("open");
    let (mut opening, mut ask) = Opening::new(options);
    let mut taken_over = false;
    loop {
        spin(&mut rng, 2_000).await;
        let answer = match ask {
            Ask::ReadSuperblocks => Answer::Superblocks(ground.slice.superblocks()),
            Ask::GetHead => loop {
                match ground.bucket.get_head().await {
                    log_disk::GotHead::Unknown => tokio::time::sleep(Duration::from_millis(300)).await,
                    got => break Answer::Head(got),
                }
            },
            Ask::PutHead { expected, body } => {
                Answer::HeadPut(ground.bucket.put_head(&expected, body, rng.random()).await)
            }
            Ask::WaitUntil(time) => {
                tokio::time::sleep_until(ground.began + Duration::from_micros(time.0)).await;
                Answer::Done
            }
            Ask::Get(wanted) => {
                let mut got = Vec::with_capacity(wanted.parts.len());
                for part in wanted.parts {
                    got.push(ground.bucket.of(part.disk).get(part.name, part.range).await);
                }
                Answer::Got(got)
            }
            Ask::Put { name, body } => Answer::Put(ground.bucket.put(name, body).await),
            Ask::ListData { after } => {
                let mut names = ground.bucket.list(Role::Data).await;
                names.retain(|name| name.seq > after);
                Answer::Listed(names)
            }
            Ask::ReadRing { position, pages } => Answer::Ring(ground.slice.read_ring(position, pages)),
            Ask::SyncRing => {
                while !ground.slice.sync() {
                    assert!(ground.slice.is_faulty(), "the power went and nobody stopped us");
                }
                Answer::Done
            }
            Ask::WriteSuperblock(superblock) => {
                if !std::mem::replace(&mut taken_over, true) {
                    ground.slice.taken_over();
                }
                while !ground.slice.write_superblock(&superblock) {
                    assert!(ground.slice.is_faulty(), "the power went and nobody stopped us");
                }
                Answer::Done
            }
            Ask::Ready(engine) => {
                ground.event(format_args!("opened in epoch {}", engine.epoch()));
                ground.slice.opened();
                return Ok(*engine);
            }
            Ask::Failed(why) => {
                ground.event(format_args!("not opened: {why}"));
                return Err(why);
            }
        };
        ask = opening.answer(ground.now(), answer);
    }
}

/// What a process is told from outside.
#[derive(Debug)]
pub(crate) enum Order {
    Request(RequestId, Request),
    Input(Input),
}

/// What can be seen of a running process.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) quiet: bool,
    pub(crate) stopped: Option<Stopped>,
    /// The objects that there should be, when all is quiet.
    pub(crate) objects: Vec<ObjectName>,
    pub(crate) stored_blocks: u64,
    pub(crate) live_blocks: u64,
    pub(crate) lag: Lag,
}

/// Serves a disk until it is dropped.
pub(crate) async fn serve(
    mut ground: Ground,
    mut engine: Engine<Pages>,
    mut orders: mpsc::Receiver<Order>,
    mut paused: watch::Receiver<bool>,
    view: watch::Sender<View>,
    guest: Guest,
) {
    let mut work: JoinSet<Option<Input>> = JoinSet::new();
    let mut data: BTreeMap<RequestId, Bytes> = BTreeMap::new();
    let reads: Arc<std::sync::Mutex<BTreeMap<RequestId, Bytes>>> = Arc::default();
    let mut out = Vec::new();
    loop {
        while *paused.borrow_and_update() {
            if paused.changed().await.is_err() {
                return;
            }
        }
        let (stats, quiet) = (engine.stats(), engine.is_quiet() && orders.is_empty());
        let names = engine.objects().own().filter(|_| quiet);
        view.send_replace(View {
            quiet,
            stopped: engine.stopped(),
            objects: names.filter_map(|(seq, _)| engine.object_name(seq)).collect(),
            stored_blocks: stats.stored_blocks,
            live_blocks: stats.live_blocks,
            lag: stats.lag,
        });
        let deadline = engine
            .deadline()
            .map(|at| ground.began + Duration::from_micros(at.0));
        let input = tokio::select! {
            biased;
            _ = paused.changed() => continue,
            order = orders.recv() => match order {
                None => return,
                Some(Order::Input(input)) => input,
                Some(Order::Request(id, request)) => Input::Request { id, request },
            },
            Some(done) = work.join_next() => match done {
                Ok(Some(input)) => input,
                Ok(None) => continue,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Input::Tick,
        };
        engine.handle(ground.now(), input, &mut out);
        for output in out.drain(..) {
            if let Output::Complete { request, outcome } = output {
                data.append(&mut reads.lock().expect("nobody panics with it"));
                ground.event(format_args!("{request:?} {outcome:?}"));
                guest.completed(&ground.name, request, outcome, data.remove(&request));
                continue;
            }
            perform(&mut ground, &mut engine, output, &reads, &mut work);
        }
    }
}

type Reads = Arc<std::sync::Mutex<BTreeMap<RequestId, Bytes>>>;

/// Reads for a guest, and sometimes what it may want next.
fn perform_read(
    mut here: Ground,
    mut rng: Rng,
    engine: &mut Engine<Pages>,
    (read, request, parts): (ReadId, RequestId, Vec<ReadPart>),
    reads: &Reads,
    work: &mut JoinSet<Option<Input>>,
) {
    let places = Places::of(engine, parts.iter().filter_map(|part| part.source));
    if rng.random_bool(0.2)
        && let Some(last) = parts.last()
    {
        let ahead = engine.peek(last.lba.plus(last.blocks), 16);
        let places = Places::of(engine, ahead.iter().filter_map(|part| part.source));
        let mut here = here.fork();
        work.spawn(async move {
            here.read_ahead(&places, &ahead).await;
            None
        });
    }
    let reads = Arc::clone(reads);
    work.spawn(async move {
        spin(&mut rng, 1_000).await;
        let bytes = here.read_parts(&places, &parts).await;
        let done = bytes.is_some();
        if !done {
            here.event(format_args!("cannot read {parts:?}"));
        }
        if let Some(bytes) = bytes {
            reads
                .lock()
                .expect("nobody panics with it")
                .insert(request, bytes);
        }
        Some(Input::ReadDone { read, done })
    });
}

fn perform(
    ground: &mut Ground,
    engine: &mut Engine<Pages>,
    output: Output,
    reads: &Reads,
    work: &mut JoinSet<Option<Input>>,
) {
    // Each task gets chance of its own, so that none depends on when another draws.
    let number: u64 = ground.rng.random();
    let mut rng = ground.rng.fork(&number.to_string());
    let mut here = ground.fork();
    match output {
        Output::Complete { .. } => unreachable!("told before"),
        Output::Append { seq, position, bytes } => {
            work.spawn(async move {
                spin(&mut rng, 1_500).await;
                // A process that dies between the two leaves half a record.
                let half = bytes.len() / PAGE_BYTES / 2 * PAGE_BYTES;
                let mut done = here.slice.write_ring(position, &bytes[..half]);
                spin(&mut rng, 500).await;
                done &= here
                    .slice
                    .write_ring(position + (half / PAGE_BYTES) as u64, &bytes[half..]);
                Some(Input::Appended { seq, done })
            });
        }
        Output::Sync => {
            work.spawn(async move {
                spin(&mut rng, 1_000).await;
                let done = here.slice.sync();
                spin(&mut rng, 1_000).await;
                Some(Input::Synced { done })
            });
        }
        Output::WriteSuperblock { superblock } => {
            work.spawn(async move {
                spin(&mut rng, 1_000).await;
                let done = here.slice.write_superblock(&superblock);
                Some(Input::SuperblockWritten { done })
            });
        }
        Output::Read { read, request, parts } => {
            perform_read(here, rng, engine, (read, request, parts), reads, work);
        }
        Output::Seal(job) => {
            let sources = job.runs.iter().flat_map(|run| &run.sources).map(|run| run.source);
            let fronts = Places::of(engine, sources);
            work.spawn(async move {
                spin(&mut rng, 5_000).await;
                Some(here.seal(&fronts, job).await)
            });
        }
        Output::Put { name, body } => {
            work.spawn(async move {
                let outcome = here.bucket.put(name, body).await;
                Some(Input::Put { name, outcome })
            });
        }
        Output::GetHead { asked } => {
            work.spawn(async move {
                let got = here.bucket.get_head().await;
                Some(Input::Head { asked, got })
            });
        }
        Output::PutHead { expected, body } => {
            work.spawn(async move {
                let outcome = here.bucket.put_head(&expected, body, rng.random()).await;
                Some(Input::HeadPut { outcome })
            });
        }
        Output::Delete { name } => {
            here.reader.forget(name.seq);
            work.spawn(async move {
                let done = here.bucket.delete(name).await;
                Some(Input::Deleted { name, done })
            });
        }
        Output::ListPins { asked } => {
            work.spawn(async move {
                let pins = here.bucket.pins().await;
                Some(Input::Pins { asked, pins })
            });
        }
        Output::GetLayout { name } => {
            work.spawn(async move {
                let layout = here.bucket.layout(&here.sealer, name).await;
                Some(Input::Layout {
                    object: name.seq,
                    layout,
                })
            });
        }
        Output::Resized { size_blocks } => ground.event(format_args!("has {size_blocks} blocks")),
        Output::Stopped { why } => ground.event(format_args!("stopped: {why:?}")),
    }
}
