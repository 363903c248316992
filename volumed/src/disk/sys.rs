//! The ring of io_uring, and memory that a device can write to. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue, types};
use log_disk::PAGE_BYTES;

/// Entries of the submission queue. More may be under way: the rest waits here for its turn.
const ENTRIES: u32 = 256;
/// Completions that the kernel has room for before it keeps them elsewhere.
const COMPLETIONS: u32 = 1024;
/// A reader of the length field of one request can take no more, in bytes.
const LEN_MAX: usize = 1 << 30;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Whole pages of memory, aligned as O_DIRECT wants them.
pub(super) struct Pages {
    pages: Box<[Page]>,
    /// Under which number the ring knows the memory.
    registered: Option<u16>,
}

impl Pages {
    /// Makes `count` pages of zeros.
    pub(super) fn new(count: usize) -> Self {
        Self {
            pages: vec![Page([0; PAGE_BYTES]); count].into_boxed_slice(),
            registered: None,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        // SAFETY: `Page` is an array of bytes without padding, and a slice of them is contiguous; the lifetime is `self`'s.
        // WHY UNSAFE: `as_flattened` is for arrays only, and an array cannot be aligned.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.len()) }
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut self` is the only way to the memory meanwhile.
        // WHY UNSAFE: as above.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.len()) }
    }

    /// Returns how many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Says whether the ring knows the memory.
    pub(super) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({})", self.pages.len())
    }
}

/// What a request uses, and gives back when it has ended.
#[derive(Debug)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// Memory for a device.
    Pages(Pages),
    /// Memory for a socket to write to.
    Room(Vec<u8>),
    /// What a socket sends.
    Message(Message),
    /// A socket that somebody is expected at.
    Listening,
    /// The socket of who has come.
    Socket(OwnedFd),
}

impl Held {
    /// Takes the pages back.
    ///
    /// # Panics
    /// When it is something else.
    pub(super) fn into_pages(self) -> Pages {
        match self {
            Self::Pages(pages) => pages,
            Self::Nothing | Self::Room(_) | Self::Message(_) | Self::Listening | Self::Socket(_) => {
                panic!("{self:?} where pages were handed in")
            }
        }
    }
}

/// What a socket sends at once.
pub(super) struct Message {
    header: Box<libc::msghdr>,
    /// What `header` points to.
    _vectors: Box<[libc::iovec]>,
    /// What `_vectors` point to.
    parts: Vec<Bytes>,
}

impl Message {
    fn new(parts: Vec<Bytes>) -> Self {
        let mut vectors: Box<[libc::iovec]> = parts
            .iter()
            .map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            })
            .collect();
        // SAFETY: a header of zeros is one that names nothing.
        // WHY UNSAFE: the C library's struct has private padding on some hosts, so it cannot be written out.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len();
        Self {
            header,
            _vectors: vectors,
            parts,
        }
    }

    /// Returns how many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.len())
    }
}

#[derive(Debug)]
struct Running<T> {
    tag: T,
    held: Held,
    /// Keeps the descriptor open, so that its number stays this file's.
    _file: Option<Arc<OwnedFd>>,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended<T> {
    /// What it was submitted with.
    pub(super) tag: T,
    /// The bytes moved, or why not.
    pub(super) result: io::Result<usize>,
    /// What it used.
    pub(super) held: Held,
}

/// One ring, of one thread. Owns whatever its requests use until they have ended.
pub(super) struct Uring<T> {
    ring: IoUring,
    running: Vec<Option<Running<T>>>,
    vacant: Vec<usize>,
    /// Requests that the submission queue had no room for.
    waiting: VecDeque<squeue::Entry>,
    in_flight: usize,
}

impl<T: fmt::Debug> Uring<T> {
    /// Makes a ring for the calling thread; no other may use it. `slice` is the file that reads and writes of pages go to.
    ///
    /// # Errors
    /// What the system says to a ring, most often that it is forbidden.
    pub(super) fn new(slice: &OwnedFd) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES))?;
        ring.submitter().register_files(&[slice.as_raw_fd()])?;
        Ok(Self {
            ring,
            running: Vec::new(),
            vacant: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
        })
    }

    /// Makes `count` buffers of `pages` pages that the kernel has pinned once and for all; plain ones when it may pin no more.
    pub(super) fn registered(&mut self, count: u16, pages: usize) -> Vec<Pages> {
        let mut buffers: Vec<Pages> = (0..count).map(|_| Pages::new(pages)).collect();
        let rooms: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_bytes_mut().as_mut_ptr().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        // SAFETY: the kernel pins the pages, and reads or writes them only for a request that names one of the numbers; only a
        // `Pages` with that number makes such a request, and its memory lives until the request has ended (`Uring::pages`).
        // WHY UNSAFE: nothing else registers memory.
        let pinned = unsafe { self.ring.submitter().register_buffers(&rooms) };
        if pinned.is_ok() {
            for (buffer, number) in buffers.iter_mut().zip(0..) {
                buffer.registered = Some(number);
            }
        }
        buffers
    }

    /// Reads into the first `len` bytes of `pages`, from byte `offset` of the slice on.
    pub(super) fn read(&mut self, tag: T, mut pages: Pages, len: usize, offset: u64) {
        let (room, len, number) = (
            pages.as_bytes_mut().as_mut_ptr(),
            checked(&pages, len),
            pages.registered,
        );
        let file = types::Fixed(0);
        let entry = match number {
            Some(number) => opcode::ReadFixed::new(file, room, len, number)
                .offset(offset)
                .build(),
            None => opcode::Read::new(file, room, len).offset(offset).build(),
        };
        self.push(tag, Held::Pages(pages), None, entry);
    }

    /// Writes the first `len` bytes of `pages`, at byte `offset` of the slice.
    pub(super) fn write(&mut self, tag: T, pages: Pages, len: usize, offset: u64) {
        let (from, len, number) = (pages.as_bytes().as_ptr(), checked(&pages, len), pages.registered);
        let file = types::Fixed(0);
        let entry = match number {
            Some(number) => opcode::WriteFixed::new(file, from, len, number)
                .offset(offset)
                .build(),
            None => opcode::Write::new(file, from, len).offset(offset).build(),
        };
        self.push(tag, Held::Pages(pages), None, entry);
    }

    /// Makes durable what was written to the slice.
    pub(super) fn sync(&mut self, tag: T) {
        let flags = types::FsyncFlags::DATASYNC;
        let entry = opcode::Fsync::new(types::Fixed(0)).flags(flags).build();
        self.push(tag, Held::Nothing, None, entry);
    }

    /// Reads what there is from a socket or an event's descriptor into the end of `room`, from byte `from` on.
    pub(super) fn receive(&mut self, tag: T, file: &Arc<OwnedFd>, mut room: Vec<u8>, from: usize) {
        let rest = &mut room[from..];
        assert!(
            !rest.is_empty() && rest.len() <= LEN_MAX,
            "room of {} bytes",
            rest.len()
        );
        let Ok(len) = u32::try_from(rest.len()) else {
            return;
        };
        let number = types::Fd(file.as_raw_fd());
        let entry = opcode::Read::new(number, rest.as_mut_ptr(), len).build();
        self.push(tag, Held::Room(room), Some(Arc::clone(file)), entry);
    }

    /// Sends all of `parts` to a socket, one after the other.
    pub(super) fn send(&mut self, tag: T, file: &Arc<OwnedFd>, parts: Vec<Bytes>) {
        let message = Message::new(parts);
        let number = types::Fd(file.as_raw_fd());
        // A cast, since the C library's type of the flags and the ring's differ in sign.
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL).cast_unsigned();
        let entry = opcode::SendMsg::new(number, &raw const *message.header)
            .flags(flags)
            .build();
        self.push(tag, Held::Message(message), Some(Arc::clone(file)), entry);
    }

    /// Waits for somebody to connect; comes back with [`Held::Socket`].
    pub(super) fn accept(&mut self, tag: T, listener: &Arc<OwnedFd>) {
        let number = types::Fd(listener.as_raw_fd());
        let entry = opcode::Accept::new(number, std::ptr::null_mut(), std::ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(tag, Held::Listening, Some(Arc::clone(listener)), entry);
    }

    fn push(&mut self, tag: T, held: Held, file: Option<Arc<OwnedFd>>, entry: squeue::Entry) {
        let running = Some(Running {
            tag,
            held,
            _file: file,
        });
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.running[slot] = running;
                slot
            }
            None => {
                self.running.push(running);
                self.running.len() - 1
            }
        };
        self.in_flight += 1;
        self.waiting.push_back(entry.user_data(slot as u64));
        self.fill();
    }

    /// Moves what waits into the submission queue, as far as there is room.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: the entry's memory and descriptor are in `running`, moved nowhere (they lie behind a `Box`, a `Vec` or an
            // `Arc`), until its completion is taken; a ring dropped before that leaks them (`Drop`).
            // WHY UNSAFE: the kernel uses memory that Rust does not see it use.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Submits everything, and waits until a request has ended or `limit` has passed; `None` waits for ever.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.fill();
        let waited = match limit {
            None => self.ring.submit_and_wait(1),
            Some(limit) => {
                let time = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&time);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match waited {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time passed, a signal came, or there are completions to be taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                Some(_) | None => Err(error),
            },
        }
    }

    /// Takes a request that has ended.
    pub(super) fn ended(&mut self) -> Option<Ended<T>> {
        let entry = self.ring.completion().next()?;
        let slot = usize::try_from(entry.user_data()).ok()?;
        let running = self.running.get_mut(slot).and_then(Option::take);
        let Some(Running { tag, held, .. }) = running else {
            panic!("a completion of request {slot}, which is not running")
        };
        self.vacant.push(slot);
        self.in_flight -= 1;
        let held = match held {
            Held::Listening if entry.result() >= 0 => {
                // SAFETY: the kernel has just made the descriptor for us, and this completion, which says so, is taken once.
                // WHY UNSAFE: an accepted socket comes as a number.
                Held::Socket(unsafe { OwnedFd::from_raw_fd(entry.result()) })
            }
            held => held,
        };
        let result = usize::try_from(entry.result());
        Some(Ended {
            tag,
            result: result.map_err(|_| io::Error::from_raw_os_error(-entry.result())),
            held,
        })
    }
}

/// The length of a request, which must lie within its memory.
fn checked(pages: &Pages, len: usize) -> u32 {
    assert!(
        len > 0 && len <= pages.len() && len.is_multiple_of(PAGE_BYTES),
        "{len} bytes of {}",
        pages.len()
    );
    let Ok(len) = u32::try_from(len) else {
        panic!("a request of {len} bytes")
    };
    len
}

impl<T> Drop for Uring<T> {
    fn drop(&mut self) {
        // The kernel may still write where requests under way told it to: that memory is given up for good.
        std::mem::forget(std::mem::take(&mut self.running));
    }
}

impl<T> fmt::Debug for Uring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uring({} under way)", self.in_flight)
    }
}
