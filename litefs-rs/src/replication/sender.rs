//! What a primary sends one replica, on a thread of its own.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lease::Epoch;
use ltx::Txid;
use tokio::{
    runtime::Handle,
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc,
    },
    time::{Instant, timeout_at},
};

use super::{
    catch_up::{Action, CatchUp},
    frame::{Chunks, Frame},
    position_map::PositionMap,
    streams::Entry,
};
use crate::{
    db::{DatabaseError, Snapshot, SnapshotError},
    name::DatabaseName,
    store::{Change, Refusal, Slot, State, Store},
};

/// Bytes that are sent in one go.
const CHUNK_BYTES: usize = 1 << 16;
/// Writes that may wait for the network.
pub const CHUNKS_WAITING: usize = 16;
/// How long a sender waits before it looks whether the node stops.
const LOOK: Duration = Duration::from_millis(500);

/// What a body is made of.
pub type Part = io::Result<Bytes>;

/// Why sending ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The replica is gone.
    #[error("the replica closed the stream")]
    Gone,
    /// A transaction cannot be read, or sent.
    #[error("send transaction {txid} of database {database}")]
    File {
        /// Of which database.
        database: DatabaseName,
        /// Which one.
        txid: Txid,
        /// What the system said.
        source: io::Error,
    },
    /// A database cannot be sent whole.
    #[error("send database {database}")]
    Snapshot {
        /// Which one.
        database: DatabaseName,
        /// Why.
        source: SnapshotError,
    },
    /// A database cannot be read.
    #[error("read database {database}")]
    Refused {
        /// Which one.
        database: DatabaseName,
        /// Why.
        source: Refusal,
    },
}

/// Who is sent to, and as what.
#[derive(Debug)]
pub struct Peer {
    /// Where its databases are.
    pub replica: PositionMap,
    /// Only these are sent, if there are any.
    pub only: BTreeSet<DatabaseName>,
    /// Under which this node is primary; the stream ends with it.
    pub epoch: Epoch,
    /// Its place among the streams.
    pub entry: Entry,
}

/// Sends until the replica is gone or the node stops.
///
/// * `changes`: listened to since before the databases' names were read.
///
/// # Errors
/// The stream is to be broken off.
pub fn send(
    store: &Arc<Store>,
    mut changes: Receiver<Change>,
    peer: Peer,
    parts: &mpsc::Sender<Part>,
    runtime: &Handle,
    stop: &AtomicBool,
) -> Result<(), SendError> {
    let names = |store: &Store| {
        store
            .all()
            .into_iter()
            .map(|slot| slot.name().clone())
            .collect::<Vec<_>>()
    };
    let Peer {
        replica,
        only,
        epoch,
        entry,
    } = peer;
    let mut catch_up = CatchUp::new(replica, names(store), only);
    let mut handed_over = false;
    loop {
        while let Ok(change) = changes.try_recv() {
            catch_up.changed(change.database);
        }
        if let Some(lease) = entry.take_lease() {
            catch_up.hand_off(lease);
        }
        let lasts = store.node().primacy.lasts(epoch);
        let ending = ending_of(store, stop) || !lasts;
        let action = if ending {
            Action::End
        } else {
            catch_up.next(Instant::now().into_std(), &**store)
        };
        let frame = match action {
            Action::SendFile { database, txid } => {
                send_file(store, &database, txid, parts)?;
                let pos = position_after(store, &database, txid)?;
                catch_up.sent(database, pos);
                continue;
            }
            Action::SendSnapshot { database } => {
                if let Some(pos) = send_snapshot(store, &database, parts, &|| ending_of(store, stop))? {
                    catch_up.sent(database, pos);
                }
                continue;
            }
            Action::HighWaterMark { database, txid } => Frame::HighWaterMark { txid, database },
            Action::NoDatabase { database } => Frame::NoDatabase { database },
            Action::Ready => Frame::Ready,
            Action::Heartbeat => Frame::Heartbeat {
                timestamp_ms: (store.node().wall_clock_ms)(),
            },
            Action::Handoff { lease } => {
                handed_over = true;
                Frame::Handoff { lease }
            }
            Action::End => {
                send_frame(&Frame::End, parts)?;
                if handed_over {
                    entry.sent();
                }
                return Ok(());
            }
            Action::Wait { until } => {
                let until = Instant::from_std(until).min(Instant::now() + LOOK);
                let waited = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = entry.wait() => None,
                        change = timeout_at(until, changes.recv()) => Some(change),
                    }
                });
                let Some(change) = waited else {
                    continue;
                };
                match change {
                    Ok(Ok(change)) => catch_up.changed(change.database),
                    Ok(Err(RecvError::Lagged(_))) => {
                        names(store).into_iter().for_each(|name| catch_up.changed(name));
                    }
                    Ok(Err(RecvError::Closed)) | Err(_) => {}
                }
                continue;
            }
        };
        send_frame(&frame, parts)?;
    }
}

fn ending_of(store: &Store, stop: &AtomicBool) -> bool {
    stop.load(Ordering::Acquire) || store.is_stopped()
}

fn send_frame(frame: &Frame, parts: &mpsc::Sender<Part>) -> Result<(), SendError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let sent = parts.blocking_send(Ok(bytes.into()));
    sent.map_err(|_| SendError::Gone)
}

fn send_file(
    store: &Store,
    database: &DatabaseName,
    txid: Txid,
    parts: &mpsc::Sender<Part>,
) -> Result<(), SendError> {
    let failed = |source| SendError::File {
        database: database.clone(),
        txid,
        source,
    };
    let slot = store
        .get(database)
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let mut file = File::open(slot.ltx_file(txid)).map_err(failed)?;
    let mut out = Parts::new(parts);
    begin(database, &mut out).map_err(failed)?;
    let mut chunks = Chunks::new(out);
    io::copy(&mut file, &mut chunks).map_err(failed)?;
    let mut out = chunks.finish().map_err(failed)?;
    out.flush().map_err(failed)
}

fn position_after(store: &Store, database: &DatabaseName, txid: Txid) -> Result<ltx::Pos, SendError> {
    let failed = |source| SendError::File {
        database: database.clone(),
        txid,
        source,
    };
    let slot = store
        .get(database)
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let noted = slot.noted().pos;
    if noted.txid == txid {
        return Ok(noted);
    }
    let file = File::open(slot.ltx_file(txid)).map_err(failed)?;
    let decoded = ltx::verify(BufReader::new(file), ltx::Version::V1);
    decoded
        .map(|decoded| decoded.pos)
        .map_err(|error| failed(io::Error::other(error)))
}

/// Sends a database as it is now, and returns where that is.
fn send_snapshot(
    store: &Arc<Store>,
    database: &DatabaseName,
    parts: &mpsc::Sender<Part>,
    give_up: &dyn Fn() -> bool,
) -> Result<Option<ltx::Pos>, SendError> {
    let Some(slot) = store.get(database) else {
        return Ok(None);
    };
    let taken = take_snapshot(&slot, &|| parts.is_closed() || give_up());
    let Some(snapshot) = taken.map_err(|source| SendError::Refused {
        database: database.clone(),
        source,
    })?
    else {
        return Err(SendError::Gone);
    };
    let pos = snapshot.pos();
    let failed = |source| SendError::Snapshot {
        database: database.clone(),
        source,
    };
    let mut out = Parts::new(parts);
    begin(database, &mut out).map_err(|error| failed(SnapshotError::Read(error)))?;
    let mut chunks = BufWriter::with_capacity(CHUNK_BYTES - 2, Chunks::new(out));
    let node = store.node();
    snapshot
        .write_ltx(&mut chunks, node.id, (node.wall_clock_ms)(), node.flags)
        .map_err(failed)?;
    let ended = chunks.into_inner().map_err(io::IntoInnerError::into_error);
    let ended = ended.and_then(Chunks::finish).and_then(|mut out| out.flush());
    ended.map_err(|error| failed(SnapshotError::Read(error)))?;
    Ok(Some(pos))
}

/// Begins a snapshot as soon as no transaction is under way in the database file.
///
/// # Errors
/// The database is not served, or cannot be read.
pub fn take_snapshot(slot: &Slot, give_up: &dyn Fn() -> bool) -> Result<Option<Snapshot>, Refusal> {
    let ready = |state: &mut State| -> Option<Result<Snapshot, Option<DatabaseError>>> {
        match state {
            State::Serving(database) => match database.snapshot() {
                Ok(snapshot) => snapshot.map(Ok),
                Err(error) => Some(Err(Some(error))),
            },
            State::Broken(_) | State::Damaged(_) => Some(Err(None)),
        }
    };
    match slot.lane().take_when(ready, give_up) {
        None => Ok(None),
        Some((_, Ok(snapshot))) => Ok(Some(snapshot)),
        Some((_, Err(Some(error)))) => Err(Refusal::Database(error)),
        Some((_, Err(None))) => Err(Refusal::Broken),
    }
}

fn begin(database: &DatabaseName, out: &mut Parts<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    Frame::Ltx {
        database: database.clone(),
    }
    .encode(&mut bytes);
    out.write_all(&bytes)
}

/// Collects what is written and sends it in parts.
#[derive(Debug)]
pub struct Parts<'a> {
    parts: &'a mpsc::Sender<Part>,
    buffer: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Begins.
    pub fn new(parts: &'a mpsc::Sender<Part>) -> Self {
        Self {
            parts,
            buffer: Vec::new(),
        }
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.buffer).into();
        let sent = self.parts.blocking_send(Ok(part));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
