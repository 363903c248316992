//! A server in memory that can die with requests under way, and whose disk outlives it.

use std::{
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nbd::{BlockSizes, Connection, Export, Request, Span};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// What survives a server.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) flushes: usize,
    pub(crate) zeroed: u64,
}

impl Disk {
    fn at(&mut self, span: Span) -> &mut [u8] {
        let begin = usize::try_from(span.offset).unwrap();
        &mut self.bytes[begin..begin + span.bytes as usize]
    }
}

pub(crate) struct Server {
    pub(crate) disk: Arc<Mutex<Disk>>,
    socket: PathBuf,
    running: Option<Running>,
    minimum: u32,
    lives: u64,
}

struct Running {
    dies: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    listener: JoinHandle<()>,
}

impl Server {
    pub(crate) fn new(socket: &Path, bytes: usize, minimum: u32) -> Self {
        let disk = Disk {
            bytes: vec![0; bytes],
            ..Disk::default()
        };
        let mut server = Self {
            disk: Arc::new(Mutex::new(disk)),
            socket: socket.to_owned(),
            running: None,
            minimum,
            lives: 0,
        };
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        self.lives += 1;
        let listener = UnixListener::bind(&self.socket).unwrap();
        let dies = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let life = Life {
            disk: Arc::clone(&self.disk),
            dies: Arc::clone(&dies),
            minimum: self.minimum,
        };
        let seed = self.lives;
        let accepted = Arc::clone(&streams);
        let listener = thread::spawn(move || {
            let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if life.dies.load(Ordering::Acquire) {
                    break;
                }
                accepted.lock().unwrap().push(stream.try_clone().unwrap());
                let life = life.clone();
                threads.push(thread::spawn(move || life.serve(stream, seed)));
            }
            for thread in threads {
                // A stream that breaks is what dying is.
                let _ = thread.join().unwrap();
            }
        });
        self.running = Some(Running {
            dies,
            streams,
            listener,
        });
    }

    /// Dies at once, whatever is under way: of that, some was done and is not answered.
    pub(crate) fn kill(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.dies.store(true, Ordering::Release);
        for stream in running.streams.lock().unwrap().iter() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the listener.
        let _ = UnixStream::connect(&self.socket);
        running.listener.join().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Life {
    disk: Arc<Mutex<Disk>>,
    dies: Arc<AtomicBool>,
    minimum: u32,
}

impl Life {
    fn serve(self, stream: UnixStream, seed: u64) -> io::Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let exports = [Export {
            blocks: BlockSizes::new(self.minimum, 4096).unwrap(),
            ..Export::new("disk", self.disk.lock().unwrap().bytes.len() as u64)
        }];
        let mut connection = Connection::greet(stream)?;
        while let Some((request, payload)) = connection.next(&exports)? {
            // A dying server does some of what it has taken, and answers none of it.
            let dying = self.dies.load(Ordering::Acquire);
            if dying && rng.random() {
                return Ok(());
            }
            let mut disk = self.disk.lock().unwrap();
            let ticket = match request {
                Request::Read(read) => {
                    let data = disk.at(read.span()).to_vec();
                    drop(disk);
                    connection.send(&read.whole())?;
                    connection.send(&data)?;
                    continue;
                }
                Request::Write { span, ticket, .. } => {
                    disk.at(span).copy_from_slice(&payload);
                    ticket
                }
                Request::Zero { span, ticket, .. } | Request::Trim { span, ticket, .. } => {
                    disk.at(span).fill(0);
                    disk.zeroed += u64::from(span.bytes);
                    ticket
                }
                Request::Flush(ticket) => {
                    disk.flushes += 1;
                    ticket
                }
                Request::Cache { ticket, .. } => ticket,
                Request::Status(status) => {
                    connection.send(&status.answer([]))?;
                    continue;
                }
            };
            drop(disk);
            if dying {
                return Ok(());
            }
            connection.send(&ticket.done())?;
        }
        Ok(())
    }
}
