//! The two sockets of a port, and a task for each.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Frames, Shared};
use crate::switch::PortFile;
use crate::switch::engine::PortId;
use crate::switch::frame::FRAME_BYTES_MAX;

/// Frames that wait for one guest, at most.
const QUEUED_FRAMES_MAX: usize = 256;

/// The way to one guest: a bounded queue.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    queue: mpsc::Sender<Bytes>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: AtomicU64,
    lost: AtomicU64,
}

impl Delivery {
    pub(super) fn new() -> (Self, Frames) {
        let (queue, frames) = mpsc::channel(QUEUED_FRAMES_MAX);
        (
            Self {
                queue,
                tally: Arc::default(),
            },
            frames,
        )
    }

    /// Queues a frame, or loses it when the queue is full: networks may.
    pub(super) fn offer(&self, frame: Bytes) {
        if self.queue.try_send(frame).is_err() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.tally.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn lost(&self) -> u64 {
        self.tally.lost.load(Ordering::Relaxed)
    }
}

/// A port whose tasks run.
#[derive(Debug)]
pub(super) struct OpenPort {
    id: PortId,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 2],
}

impl OpenPort {
    /// Binds the switch's socket, in place of one that a killed switch left, and starts the tasks.
    pub(super) fn open(
        id: PortId,
        file: &PortFile,
        shared: &Arc<Shared>,
        delivery: &Delivery,
        frames: Frames,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        match std::fs::remove_file(&file.switch_socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(&file.switch_socket)?;
        std::fs::set_permissions(&file.switch_socket, PermissionsExt::from_mode(0o600))?;
        let receiving = receive(id, socket, Arc::clone(shared), stop.clone());
        let sending = deliver(
            file.guest_socket.clone(),
            frames,
            Arc::clone(&delivery.tally),
            stop.clone(),
        );
        let tasks = [
            daemon::spawn("switch-receive", receiving),
            daemon::spawn("switch-deliver", sending),
        ];
        Ok(Self { id, stop, tasks })
    }

    pub(super) fn id(&self) -> PortId {
        self.id
    }

    pub(super) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks and waits for them.
    pub(super) async fn close(self) {
        self.cancel();
        for task in self.tasks {
            // A task that panicked has said so.
            let _ended = task.await;
        }
    }
}

async fn receive(id: PortId, socket: UnixDatagram, shared: Arc<Shared>, stop: CancellationToken) {
    // One more byte than the largest frame, so that a longer one is seen to be longer.
    let mut buffer = vec![0; FRAME_BYTES_MAX + 1];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv(&mut buffer) => received,
        };
        match received {
            Ok(len) => shared.receive(id, &buffer[..len]),
            Err(error) => {
                tracing::warn!(%error, "a port's socket failed");
                return;
            }
        }
    }
}

/// Sends frames to the guest in order. While it has no guest, frames are lost; when its queue is full, they wait.
async fn deliver(guest: PathBuf, mut frames: Frames, tally: Arc<Tally>, stop: CancellationToken) {
    let mut link = None;
    loop {
        let frame = tokio::select! {
            () = stop.cancelled() => return,
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else { return };
        let sent = tokio::select! {
            () = stop.cancelled() => return,
            sent = send(&guest, &mut link, &frame) => sent,
        };
        let counter = if sent { &tally.delivered } else { &tally.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends one frame, connecting first when there is no link or the guest was started again.
///
/// Connected, because only then does the kernel say when a full receiver has room again.
async fn send(guest: &PathBuf, link: &mut Option<UnixDatagram>, frame: &[u8]) -> bool {
    for _ in 0..2 {
        let socket = match link {
            Some(socket) => socket,
            None => match connect(guest) {
                Ok(socket) => link.insert(socket),
                Err(error) => {
                    tracing::trace!(%error, "no guest listens");
                    return false;
                }
            },
        };
        match socket.send(frame).await {
            Ok(_) => return true,
            Err(error) => {
                tracing::trace!(%error, "the guest's socket is gone");
                *link = None;
            }
        }
    }
    false
}

fn connect(guest: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(guest)?;
    Ok(socket)
}
