//! Brings requests to whoever serves, and answers back.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use nbd::{Client, Errno, Head, Heard};
use tracing::{error, info, warn};

use crate::{
    link::{Link, invalid},
    queue::{Answered, Op, Queue},
};

/// Pause between two looks for a server.
const RETRY: Duration = Duration::from_millis(100);
/// Looks in vain until that is an error, and between two such errors afterwards.
const LOOKS_UNTIL_ERROR: u32 = 100;
const LOOKS_BETWEEN_ERRORS: u32 = 600;
/// Bytes that are received in one go, but for data of reads.
const BUFFER_BYTES: usize = 64 * 1024;

/// Who waits for the answer to a request.
pub(crate) trait Asker: Send + 'static {
    /// Hears how it ended, with the data of a read.
    fn answer(self, result: Result<Vec<u8>, Errno>);
}

/// A question for the file's size.
pub(crate) type Look = Box<dyn FnOnce(u64) + Send>;

struct State<T> {
    queue: Queue<T>,
    looks: Vec<Look>,
    bytes: u64,
    /// The session of the connection in use; none while nobody serves.
    client: Option<Client>,
    ended: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// There is something to send, to look at, or to end.
    work: Condvar,
    /// There is room in the queue.
    room: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes requests; its thread sends them.
pub(crate) struct Courier<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Courier<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Asker> Courier<T> {
    /// Begins with a connection.
    pub(crate) fn start(
        socket: PathBuf,
        name: String,
        link: Link,
        queue: Queue<T>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let state = State {
            queue,
            looks: Vec::new(),
            bytes: link.bytes,
            client: None,
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let sender = Sender {
            socket,
            name,
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new().name("nbd-send".into());
        let thread = thread.spawn(move || sender.run(link))?;
        Ok((Self { shared }, thread))
    }

    /// Has a request carried out; waits while too many are waiting.
    pub(crate) fn ask(&self, op: Op, asker: T) {
        let mut state = self.shared.lock();
        while state.queue.is_full() {
            state = self
                .shared
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.push(op, asker);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Returns the size that is known, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// Finds the size out: of the server if there is one, else what is known.
    pub(crate) fn look(&self, look: Look) {
        let mut state = self.shared.lock();
        if state.client.is_some() {
            state.looks.push(look);
            drop(state);
            self.shared.work.notify_one();
        } else {
            let bytes = state.bytes;
            drop(state);
            look(bytes);
        }
    }

    /// Ends once what is under way was answered.
    pub(crate) fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_one();
    }
}

/// What the sender does next.
enum Next {
    Send(Head, Bytes),
    Look(Vec<Look>),
    Leave(Leave),
}

/// Why a connection is given up.
enum Leave {
    /// It broke.
    Lost,
    /// Another one knows of more bytes, and nothing is under way.
    Changed,
    /// Nobody asks any more.
    Ended,
}

struct Sender<T> {
    socket: PathBuf,
    name: String,
    shared: Arc<Shared<T>>,
}

impl<T: Asker> Sender<T> {
    fn run(self, first: Link) {
        let mut link = Some(first);
        while let Some(current) = link.take() {
            link = match self.converse(current) {
                Ok(successor) => successor,
                Err(error) => {
                    let waiting = self.shared.lock().queue.len();
                    warn!(socket = %self.socket.display(), %error, waiting, "the server is gone; requests wait for it");
                    self.reconnect()
                }
            };
        }
    }

    /// Waits for a server; `None` at the end.
    fn reconnect(&self) -> Option<Link> {
        let mut looks = 0;
        loop {
            let failed = match self.try_again() {
                Ok(link) => return Some(link),
                Err(error) => error,
            };
            looks += 1;
            if looks >= LOOKS_UNTIL_ERROR && (looks - LOOKS_UNTIL_ERROR).is_multiple_of(LOOKS_BETWEEN_ERRORS)
            {
                let seconds = (RETRY * looks).as_secs();
                let waiting = self.shared.lock().queue.len();
                error!(
                    socket = %self.socket.display(), %failed, seconds, waiting,
                    "no server for the export: whoever uses the file stands still; start the server again"
                );
            }
            let state = self.shared.lock();
            let waited = self
                .shared
                .work
                .wait_timeout_while(state, RETRY, |state| !state.ended);
            if waited.unwrap_or_else(PoisonError::into_inner).0.ended {
                return None;
            }
        }
    }

    fn try_again(&self) -> io::Result<Link> {
        let known = self.shared.lock().bytes;
        let link = Link::open(&self.socket, &self.name)?;
        if link.bytes < known {
            let bytes = link.bytes;
            link.leave();
            let why = format!("it serves {bytes} bytes, fewer than the {known} that the file has");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let waiting = self.shared.lock().queue.len();
        info!(socket = %self.socket.display(), waiting, "the server is back; what waits is sent");
        Ok(link)
    }

    /// Sends over one connection until it breaks; returns the one that follows it, `None` at the end.
    fn converse(&self, link: Link) -> io::Result<Option<Link>> {
        let mut stream = link.stream;
        let reader = Reader {
            stream: stream.try_clone()?,
            shared: Arc::clone(&self.shared),
        };
        {
            let mut state = self.shared.lock();
            state.client = Some(link.client);
            state.bytes = link.bytes;
        }
        let thread = thread::Builder::new().name("nbd-receive".into());
        let thread = thread.spawn(move || reader.run())?;
        let mut successor = None;
        let left = self.send(&mut stream, &mut successor);
        if matches!(left, Ok(Leave::Changed | Leave::Ended)) {
            // Nothing is under way; a farewell that does not arrive is none.
            let _ = stream.write_all(&Client::leave());
        }
        // The reader ends with the connection.
        let _ = stream.shutdown(Shutdown::Both);
        let received = thread.join();
        let received = received.unwrap_or_else(|_| Err(io::Error::other("the receiving thread panicked")));
        let mut state = self.shared.lock();
        state.client = None;
        state.queue.take_back();
        let (looks, bytes) = (std::mem::take(&mut state.looks), state.bytes);
        drop(state);
        looks.into_iter().for_each(|look| look(bytes));
        match left? {
            Leave::Changed => Ok(successor),
            Leave::Ended => Ok(None),
            Leave::Lost => Err(received.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn send(&self, stream: &mut UnixStream, successor: &mut Option<Link>) -> io::Result<Leave> {
        loop {
            match self.next(successor.is_some()) {
                Next::Send(head, payload) => {
                    stream.write_all(&head)?;
                    stream.write_all(&payload)?;
                }
                Next::Look(looks) => {
                    if successor.is_none() {
                        *successor = self.grown();
                    }
                    let bytes = self.shared.lock().bytes;
                    looks.into_iter().for_each(|look| look(bytes));
                }
                Next::Leave(leave) => return Ok(leave),
            }
        }
    }

    /// Waits until there is something to do. Who is about to change over sends nothing more.
    fn next(&self, changing: bool) -> Next {
        let mut state = self.shared.lock();
        loop {
            let State {
                client,
                queue,
                looks,
                ended,
                ..
            } = &mut *state;
            let Some(client) = client else {
                return Next::Leave(Leave::Lost);
            };
            if !looks.is_empty() {
                return Next::Look(std::mem::take(looks));
            }
            if changing && queue.under_way() == 0 {
                return Next::Leave(Leave::Changed);
            }
            if *ended && queue.len() == 0 {
                return Next::Leave(Leave::Ended);
            }
            if !changing && let Some((number, ask, payload)) = queue.send() {
                return Next::Send(client.ask(number, ask), payload);
            }
            state = self
                .shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks whether the export has grown: an open session keeps its size, so a new one is asked.
    fn grown(&self) -> Option<Link> {
        // A server that does not take another connection is heard of when it does not answer the first.
        let link = Link::open(&self.socket, &self.name).ok()?;
        let mut state = self.shared.lock();
        if link.bytes > state.bytes {
            info!(socket = %self.socket.display(), from = state.bytes, to = link.bytes, "the export has grown");
            state.bytes = link.bytes;
            return Some(link);
        }
        drop(state);
        link.leave();
        None
    }
}

struct Reader<T> {
    stream: UnixStream,
    shared: Arc<Shared<T>>,
}

impl<T: Asker> Reader<T> {
    /// Receives answers until the connection ends; returns why.
    fn run(mut self) -> io::Result<()> {
        let received = self.receive();
        self.shared.lock().client = None;
        self.shared.work.notify_one();
        // So that a sender that waits for room in the socket hears of it.
        let _ = self.stream.shutdown(Shutdown::Both);
        received
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut reads: HashMap<u64, Vec<u8>> = HashMap::new();
        loop {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut input = &buffer[..count];
            while let Some(heard) = self.hear(&mut input)? {
                match heard {
                    Heard::Data { cookie, at, bytes } => {
                        let data = self.room(&mut reads, cookie);
                        let here = &mut data[at as usize..][..bytes as usize];
                        let (begin, rest) = here.split_at_mut(input.len().min(bytes as usize));
                        begin.copy_from_slice(&input[..begin.len()]);
                        input = &input[begin.len()..];
                        self.stream.read_exact(rest)?;
                        if let Some(client) = &mut self.shared.lock().client {
                            client.payload_taken(bytes);
                        }
                    }
                    Heard::Zeros { cookie, at, bytes } => {
                        self.room(&mut reads, cookie)[at as usize..][..bytes as usize].fill(0);
                    }
                    Heard::Answered { cookie, result } => {
                        let data = reads.remove(&cookie).unwrap_or_default();
                        self.answered(cookie, result, data)?;
                    }
                    Heard::Send(_) | Heard::Opened { .. } => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    fn hear(&self, input: &mut &[u8]) -> io::Result<Option<Heard>> {
        match &mut self.shared.lock().client {
            Some(client) => client.receive(input).map_err(invalid),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Where a read's data is put together. The session tells only of what is under way, and within it.
    fn room<'a>(&self, reads: &'a mut HashMap<u64, Vec<u8>>, number: u64) -> &'a mut Vec<u8> {
        reads.entry(number).or_insert_with(|| {
            let bytes = self.shared.lock().queue.read_bytes(number).unwrap_or_default();
            vec![0; bytes as usize]
        })
    }

    fn answered(&self, number: u64, result: Result<(), Errno>, data: Vec<u8>) -> io::Result<()> {
        let answered = self.shared.lock().queue.answered(number, result);
        self.shared.work.notify_one();
        match answered {
            Answered::Ended(asker, result) => {
                self.shared.room.notify_one();
                asker.answer(result.map(|()| data));
                Ok(())
            }
            Answered::Goes => Ok(()),
            Answered::Stays => Err(io::Error::new(io::ErrorKind::ConnectionAborted, Errno::Shutdown)),
            Answered::Unknown => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
