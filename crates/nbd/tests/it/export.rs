//! Exports in memory, with a thread for each connection.

use std::{
    io,
    ops::Range,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use nbd::{BlockSizes, Connection, Export, Extent, Part, Request, Span};

pub(crate) const PAGE: usize = 4096;

/// Bytes, and which pages of them are there at all.
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) present: Vec<bool>,
    /// How many connections opened it, how many flushes and how many durable writes there were.
    pub(crate) counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) connections: usize,
    pub(crate) flushes: usize,
    pub(crate) fua: usize,
    pub(crate) cached: usize,
}

/// A served export; its thread ends with the process.
pub(crate) struct Served {
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) exports: Arc<Mutex<Vec<Export>>>,
    socket: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

impl Served {
    /// Serves `bytes` zeros as the export `disk`, addressed in multiples of `minimum` bytes.
    pub(crate) fn new(bytes: usize, minimum: u32) -> Self {
        let export = Export {
            description: "in memory".into(),
            multi_conn: true,
            fast_zero: true,
            blocks: BlockSizes::new(minimum, 4096).unwrap(),
            ..Export::new("disk", bytes as u64)
        };
        let memory = Memory {
            bytes: vec![0; bytes],
            present: vec![false; bytes.div_ceil(PAGE)],
            counts: Counts::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        let served = Self {
            memory: Arc::new(Mutex::new(memory)),
            exports: Arc::new(Mutex::new(vec![export])),
            socket: dir.path().join("nbd"),
            dir,
        };
        let listener = UnixListener::bind(&served.socket).unwrap();
        let (memory, exports) = (Arc::clone(&served.memory), Arc::clone(&served.exports));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (memory, exports) = (Arc::clone(&memory), Arc::clone(&exports));
                memory.lock().unwrap().counts.connections += 1;
                thread::spawn(move || {
                    let exports = exports.lock().unwrap().clone();
                    // A client that is done may not wait for its last answer.
                    let _ = converse(stream, &exports, &memory);
                });
            }
        });
        served
    }

    pub(crate) fn uri(&self) -> String {
        self.uri_of("disk")
    }

    pub(crate) fn uri_of(&self, name: &str) -> String {
        format!("nbd+unix:///{name}?socket={}", self.socket.display())
    }

    /// Fills a range with bytes that tell their place.
    pub(crate) fn fill(&self, range: Range<usize>) {
        let mut memory = self.memory.lock().unwrap();
        for at in range.clone() {
            memory.bytes[at] = told(at);
        }
        memory.present[range.start / PAGE..range.end.div_ceil(PAGE)].fill(true);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.memory.lock().unwrap().counts
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn is_in(&self, path: &Path) -> bool {
        std::fs::read(path).unwrap() == self.memory.lock().unwrap().bytes
    }
}

/// A byte that tells its place, and is never zero.
pub(crate) fn told(at: usize) -> u8 {
    u8::try_from((at / 512 * 7 + at) % 251 + 1).unwrap()
}

fn converse(stream: UnixStream, exports: &[Export], memory: &Mutex<Memory>) -> io::Result<()> {
    let mut connection = Connection::greet(stream)?;
    while let Some((request, payload)) = connection.next(exports)? {
        let mut memory = memory.lock().unwrap();
        let (fua, ticket) = match request {
            Request::Read(read) => {
                let range = range(read.span());
                let parts: Vec<Part> = memory.parts(range.clone()).collect();
                let data = memory.bytes[range].to_vec();
                drop(memory);
                let mut pieces = Vec::new();
                read.parts(&parts, &mut pieces);
                connection.send_pieces(&pieces, &data)?;
                continue;
            }
            Request::Status(status) => {
                let range = range(status.span());
                let parts = memory.parts(range);
                let answer = status.answer(parts.map(|part| match part {
                    Part::Zeros(bytes) => extent(bytes, true),
                    Part::Data(bytes) | Part::Failed(bytes, _) => extent(bytes, false),
                }));
                drop(memory);
                connection.send(&answer)?;
                continue;
            }
            Request::Write { span, fua, ticket } => {
                let range = range(span);
                memory.bytes[range.clone()].copy_from_slice(&payload);
                memory.present[range.start / PAGE..range.end.div_ceil(PAGE)].fill(true);
                (fua, ticket)
            }
            Request::Zero {
                span,
                fua,
                no_hole,
                ticket,
                ..
            } => {
                memory.zero(range(span), !no_hole);
                (fua, ticket)
            }
            Request::Trim { span, fua, ticket } => {
                memory.zero(range(span), true);
                (fua, ticket)
            }
            Request::Cache { ticket, .. } => {
                memory.counts.cached += 1;
                (false, ticket)
            }
            Request::Flush(ticket) => {
                memory.counts.flushes += 1;
                (false, ticket)
            }
        };
        memory.counts.fua += usize::from(fua);
        drop(memory);
        connection.send(&ticket.done())?;
    }
    Ok(())
}

fn range(span: Span) -> Range<usize> {
    let begin = usize::try_from(span.offset).unwrap();
    begin..begin + span.bytes as usize
}

fn extent(bytes: u32, hole: bool) -> Extent {
    Extent {
        bytes: bytes.into(),
        hole,
        zero: hole,
    }
}

impl Memory {
    /// What stands in a range, page by page.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Part> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        pages.map(move |page| {
            let begin = range.start.max(page * PAGE);
            let bytes = u32::try_from(range.end.min((page + 1) * PAGE) - begin).unwrap();
            if self.present[page] {
                Part::Data(bytes)
            } else {
                Part::Zeros(bytes)
            }
        })
    }

    /// Zeros a range; whole pages of it become holes if they may.
    fn zero(&mut self, range: Range<usize>, holes: bool) {
        self.bytes[range.clone()].fill(0);
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        for page in pages {
            let whole = range.start <= page * PAGE && (page + 1) * PAGE <= range.end;
            if !holes || !whole {
                // What was a hole and is one still reads as zeros all the same.
                self.present[page] |= !holes;
            } else {
                self.present[page] = false;
            }
        }
    }
}
