//! The thread that moves bytes by io_uring.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use objstore::Remedy;
use tokio::sync::{mpsc, oneshot};
use tokio_uring::buf::BoundedBuf;

use super::aligned::{Spare, is_aligned};

/// Requests that may wait for the thread; each holds at most a block.
const QUEUE: usize = 64;
/// Entries of the submission ring.
const RING_ENTRIES: u32 = 128;

/// Why there is no io_uring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UringError {
    /// The kernel has none, or forbids it to us.
    #[error(
        "io_uring: the kernel refuses a ring ({source}); it needs Linux 5.11 or newer, \
         /proc/sys/kernel/io_uring_disabled at 0 and a seccomp profile that allows it"
    )]
    Unavailable {
        /// What the system said.
        source: io::Error,
    },
    /// No thread for it.
    #[error("io_uring: starting its thread")]
    Thread {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl UringError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } => Remedy::FixRequest,
            Self::Thread { .. } => Remedy::Retry,
        }
    }
}

/// A handle to the io_uring thread; clones share it. It ends when the last handle and the last file are dropped.
#[derive(Debug, Clone)]
pub struct Bulk {
    requests: mpsc::Sender<Request>,
    /// Files whose handles were dropped, to be closed by the thread.
    closed: Arc<Mutex<Vec<u64>>>,
}

#[derive(Debug)]
enum Request {
    Open {
        file: File,
        /// Whether it bypasses the page cache.
        direct: bool,
        answer: oneshot::Sender<u64>,
    },
    Read {
        file: u64,
        offset: u64,
        len: usize,
        answer: oneshot::Sender<io::Result<Bytes>>,
    },
    Write {
        file: u64,
        offset: u64,
        data: Bytes,
        answer: oneshot::Sender<io::Result<()>>,
    },
    Sync {
        file: u64,
        answer: oneshot::Sender<io::Result<()>>,
    },
    Sweep,
}

impl Bulk {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`UringError`] when this kernel cannot.
    pub fn start() -> Result<Self, UringError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let closed = Arc::new(Mutex::new(Vec::new()));
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let swept = Arc::clone(&closed);
        let body = move || match runtime() {
            Ok(runtime) => {
                super::step_back();
                // The starter waits for it below.
                let _heard = started.send(Ok(()));
                runtime.block_on(serve(queue, swept));
            }
            Err(error) => {
                let _heard = started.send(Err(error));
            }
        };
        thread::Builder::new()
            .name("bulk-io".to_owned())
            .spawn(body)
            .map_err(|source| UringError::Thread { source })?;
        match start.recv() {
            Ok(Ok(())) => Ok(Self { requests, closed }),
            Ok(Err(source)) => Err(UringError::Unavailable { source }),
            Err(_) => Err(UringError::Unavailable {
                source: io::Error::other("its thread ended"),
            }),
        }
    }

    /// Tells whether this kernel lets us have a ring, without keeping one.
    ///
    /// # Errors
    /// [`UringError::Unavailable`] with the reason and what to change.
    pub fn probe() -> Result<(), UringError> {
        // On a thread of its own: the caller's may be inside a runtime already.
        let probe = thread::Builder::new()
            .name("bulk-probe".to_owned())
            .spawn(|| runtime().map(drop));
        match probe.map_err(|source| UringError::Thread { source })?.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(UringError::Unavailable { source }),
            Err(_) => Err(UringError::Unavailable {
                source: io::Error::other("its thread panicked"),
            }),
        }
    }

    /// Hands `file` to the thread. Of one that was opened with `O_DIRECT` all offsets and lengths are [aligned](is_aligned).
    pub(super) async fn open(&self, file: File, direct: bool) -> io::Result<UringFile> {
        let (answer, opened) = oneshot::channel();
        let request = Request::Open { file, direct, answer };
        self.send(request).await?;
        let id = opened.await.map_err(|_| gone())?;
        Ok(UringFile {
            bulk: self.clone(),
            id,
        })
    }

    async fn send(&self, request: Request) -> io::Result<()> {
        self.requests.send(request).await.map_err(|_| gone())
    }
}

/// A file that the thread holds open. Any number of its requests may be under way at once.
#[derive(Debug)]
pub(super) struct UringFile {
    bulk: Bulk,
    id: u64,
}

impl UringFile {
    pub(super) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        self.bulk
            .send(Request::Read {
                file: self.id,
                offset,
                len,
                answer,
            })
            .await?;
        answered.await.map_err(|_| gone())?
    }

    pub(super) async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.bulk
            .send(Request::Write {
                file: self.id,
                offset,
                data,
                answer,
            })
            .await?;
        answered.await.map_err(|_| gone())?
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.bulk
            .send(Request::Sync {
                file: self.id,
                answer,
            })
            .await?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for UringFile {
    fn drop(&mut self) {
        self.bulk
            .closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.id);
        // A full queue needs no nudge: every request sweeps. A thread that is gone has closed everything.
        let _nudged = self.bulk.requests.try_send(Request::Sweep);
    }
}

fn gone() -> io::Error {
    io::Error::other("the io_uring thread is gone")
}

fn runtime() -> io::Result<tokio_uring::Runtime> {
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES);
    tokio_uring::Runtime::new(&builder)
}

type Files = Rc<RefCell<HashMap<u64, Rc<Opened>>>>;

/// An open file.
struct Opened {
    file: tokio_uring::fs::File,
    direct: bool,
}

async fn serve(mut queue: mpsc::Receiver<Request>, closed: Arc<Mutex<Vec<u64>>>) {
    let (files, spare) = (Files::default(), Spare::default());
    let mut next = 0_u64;
    let running = Arc::new(tokio::sync::Semaphore::new(QUEUE));
    while let Some(request) = queue.recv().await {
        for id in closed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Requests under way hold the file until they end.
            files.borrow_mut().remove(&id);
        }
        if files.borrow().is_empty() {
            spare.clear();
        }
        match request {
            Request::Sweep => {}
            Request::Open { file, direct, answer } => {
                next += 1;
                let file = tokio_uring::fs::File::from_std(file);
                files.borrow_mut().insert(next, Rc::new(Opened { file, direct }));
                if answer.send(next).is_err() {
                    files.borrow_mut().remove(&next);
                }
            }
            request => {
                let Ok(permit) = Arc::clone(&running).acquire_owned().await else {
                    return;
                };
                let (files, spare) = (Rc::clone(&files), spare.clone());
                tokio_uring::spawn(async move {
                    perform(&files, &spare, request).await;
                    drop(permit);
                });
            }
        }
    }
}

/// Performs one request. A caller that was dropped meanwhile is no error: the request runs to its end all the same,
/// so that its buffer outlives it.
async fn perform(files: &Files, spare: &Spare, request: Request) {
    let find = |id: u64| files.borrow().get(&id).cloned().ok_or_else(gone);
    match request {
        Request::Read {
            file,
            offset,
            len,
            answer,
        } => {
            let result = match find(file) {
                Ok(file) => read(&file, spare, offset, len).await,
                Err(error) => Err(error),
            };
            let _unheard = answer.send(result);
        }
        Request::Write {
            file,
            offset,
            data,
            answer,
        } => {
            let result = match find(file) {
                Ok(file) => write(&file, spare, offset, data).await,
                Err(error) => Err(error),
            };
            let _unheard = answer.send(result);
        }
        Request::Sync { file, answer } => {
            let result = match find(file) {
                Ok(file) => file.file.sync_data().await,
                Err(error) => Err(error),
            };
            let _unheard = answer.send(result);
        }
        Request::Open { .. } | Request::Sweep => {}
    }
}

async fn read(file: &Opened, spare: &Spare, offset: u64, len: usize) -> io::Result<Bytes> {
    let (buffer, range) = spare.take(len);
    let (result, buffer) = file.file.read_exact_at(buffer.slice(range.clone()), offset).await;
    let buffer = buffer.into_inner();
    result?;
    Ok(spare.lend(buffer, range))
}

async fn write(file: &Opened, spare: &Spare, offset: u64, data: Bytes) -> io::Result<()> {
    if !file.direct || is_aligned(data.as_ptr() as usize) {
        return file.file.write_all_at(data, offset).await.0;
    }
    let (mut buffer, range) = spare.take(data.len());
    buffer[range.clone()].copy_from_slice(&data);
    drop(data);
    let (result, buffer) = file.file.write_all_at(buffer.slice(range), offset).await;
    spare.give(buffer.into_inner());
    result
}
