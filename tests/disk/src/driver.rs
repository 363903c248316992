//! What performs an engine's wishes: a small stand-in for the real driver, with a disk that is slow and out of order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use log_disk::{
    Answer, Ask, BLOCK_BYTES, Engine, Input, ObjectName, ObjectSeq, OpenError, OpenOptions, Opening, Output,
    PAGE_BYTES, PageStore, ReadPart, Record, Request, RequestId, Role, SealJob, Sealer, Source, Stopped,
    Time, seal_object,
};
use rand::RngExt as _;
use sim::{Rng, Trace};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::guest::Guest;
use crate::io::{Bucket, Slice, spin};

/// Leaves of the map that memory had no room for.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<u32, Vec<u8>>);

impl PageStore for Pages {
    fn store(&mut self, leaf: u32, bytes: &[u8]) {
        self.0.insert(leaf, bytes.to_vec());
    }

    fn load(&mut self, leaf: u32) -> std::io::Result<Vec<u8>> {
        self.0
            .get(&leaf)
            .cloned()
            .ok_or_else(|| std::io::Error::other("no such leaf"))
    }
}

/// What a process works with.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) slice: Slice,
    pub(crate) bucket: Bucket,
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
    async fn read(&self, fronts: &Fronts, source: Source, blocks: u64) -> Option<Bytes> {
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
                let name = fronts.names.get(&object)?;
                let layout = self.bucket.layout(&self.sealer, *name).await?;
                let mut out = BytesMut::new();
                let mut done = 0;
                while done < blocks {
                    let (index, skip) = layout.find(at + u32::try_from(done).ok()?)?;
                    let extent = &layout.extents[index];
                    let stored = self.bucket.get(*name, extent.stored.clone()).await?;
                    let plain = layout.open_extent(&self.sealer, index, &stored).ok()?;
                    let count = (extent.blocks - skip).min(blocks - done);
                    let from = usize::try_from(skip).ok()? * BLOCK_BYTES;
                    let len = usize::try_from(count).ok()? * BLOCK_BYTES;
                    out.extend_from_slice(&plain[from..from + len]);
                    done += count;
                }
                Some(out.freeze())
            }
        }
    }

    async fn read_parts(&self, fronts: &Fronts, parts: &[ReadPart]) -> Option<Bytes> {
        let mut out = BytesMut::new();
        for part in parts {
            let len = usize::try_from(part.blocks).ok()? * BLOCK_BYTES;
            match part.source {
                None => out.resize(out.len() + len, 0),
                Some(source @ Source::Object { .. }) => {
                    out.extend_from_slice(&self.read(fronts, source, part.blocks).await?);
                }
                Some(source @ Source::Journal { .. }) => {
                    out.extend_from_slice(&self.read(fronts, source, part.blocks).await?);
                }
            }
        }
        Some(out.freeze())
    }

    async fn seal(&self, fronts: &Fronts, job: SealJob) -> Input {
        let seq = job.header.seq;
        let mut data = Vec::with_capacity(job.runs.len());
        for run in &job.runs {
            let mut bytes = BytesMut::new();
            for source in &run.sources {
                match self.read(fronts, source.source, source.blocks).await {
                    Some(blocks) => bytes.extend_from_slice(&blocks),
                    None => return Input::Sealed { seq, object: None },
                }
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

/// The names of the objects that one request reads from.
#[derive(Debug, Default)]
struct Fronts {
    names: BTreeMap<ObjectSeq, ObjectName>,
}

impl Fronts {
    fn of(engine: &Engine<Pages>, sources: impl Iterator<Item = Source>) -> Self {
        let names = sources.filter_map(|source| match source {
            Source::Object { object, .. } => Some((object, engine.object_name(object)?)),
            Source::Journal { .. } => None,
        });
        Self {
            names: names.collect(),
        }
    }
}

/// Opens a disk.
pub(crate) async fn open(ground: &Ground, options: OpenOptions<Pages>) -> Result<Engine<Pages>, OpenError> {
    let mut rng = ground.rng.fork("open");
    let (mut opening, mut ask) = Opening::new(options);
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
            Ask::Get(parts) => {
                let mut got = Vec::with_capacity(parts.len());
                for (name, range) in parts {
                    got.push(ground.bucket.get(name, range).await);
                }
                Answer::Got(got)
            }
            Ask::ListData { after } => {
                let mut names = ground.bucket.list(Role::Data).await;
                names.retain(|name| name.seq > after);
                Answer::Listed(names)
            }
            Ask::ReadRing { position, pages } => Answer::Ring(ground.slice.read_ring(position, pages)),
            Ask::SyncRing => {
                assert!(ground.slice.sync(), "the power went and nobody stopped us");
                Answer::Done
            }
            Ask::WriteSuperblock(superblock) => {
                assert!(
                    ground.slice.write_superblock(&superblock),
                    "the power went and nobody stopped us"
                );
                Answer::Done
            }
            Ask::Ready(engine) => {
                ground.event(format_args!("opened in epoch {}", engine.epoch()));
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
    pub(crate) objects: Vec<ObjectName>,
    pub(crate) stored_blocks: u64,
    pub(crate) live_blocks: u64,
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
        view.send_replace(View {
            quiet: engine.is_quiet() && orders.is_empty(),
            stopped: engine.stopped(),
            objects: engine
                .objects()
                .iter()
                .filter_map(|(seq, _)| engine.object_name(seq))
                .collect(),
            stored_blocks: engine.stats().stored_blocks,
            live_blocks: engine.stats().live_blocks,
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
            perform(&mut ground, &engine, output, &reads, &mut work);
        }
    }
}

type Reads = Arc<std::sync::Mutex<BTreeMap<RequestId, Bytes>>>;

fn perform(
    ground: &mut Ground,
    engine: &Engine<Pages>,
    output: Output,
    reads: &Reads,
    work: &mut JoinSet<Option<Input>>,
) {
    // Each task gets chance of its own, so that none depends on when another draws.
    let number: u64 = ground.rng.random();
    let mut rng = ground.rng.fork(&number.to_string());
    let here = ground.fork();
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
            let fronts = Fronts::of(engine, parts.iter().filter_map(|part| part.source));
            let reads = Arc::clone(reads);
            work.spawn(async move {
                spin(&mut rng, 1_000).await;
                let bytes = here.read_parts(&fronts, &parts).await;
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
        Output::Seal(job) => {
            let sources = job.runs.iter().flat_map(|run| &run.sources).map(|run| run.source);
            let fronts = Fronts::of(engine, sources);
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
            work.spawn(async move {
                let done = here.bucket.delete(name).await;
                Some(Input::Deleted { name, done })
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
