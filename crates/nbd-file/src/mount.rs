//! A file system with one file in it.

use std::{
    io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use fuser::{BackgroundSession, MountOption, Session};

use crate::{courier::Courier, file::OneFile, link::Link, queue::Queue};

/// The file's name in the directory.
pub const FILE_NAME: &str = "disk";

/// What becomes a file, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's Unix socket.
    pub socket: PathBuf,
    /// The export; the empty name means the server's first.
    pub export: String,
    /// An empty directory.
    pub directory: PathBuf,
    /// Most requests that are taken from the kernel before one of them was answered.
    pub requests_max: usize,
    /// Most bytes of writes among them.
    pub payload_bytes_max: usize,
}

impl Config {
    /// The file for `export` of the server at `socket`, in `directory`, with room for 256 requests and 64 MiB of writes.
    pub fn new(socket: &Path, export: &str, directory: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            export: export.to_owned(),
            directory: directory.to_owned(),
            requests_max: 256,
            payload_bytes_max: 64 << 20,
        }
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Nobody serves the export.
    #[error("open the export `{export}` at {socket}: {source}; start its server first")]
    Server {
        /// The export's name.
        export: String,
        /// The server's socket.
        socket: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The kernel refuses.
    #[error("mount a file system at {directory}: {source}; it takes /dev/fuse, and root or fusermount3")]
    Mount {
        /// Where to.
        directory: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// No thread can be had.
    #[error("start a thread for the export: {0}")]
    Thread(io::Error),
}

/// A mounted file. It is there until it is unmounted.
#[derive(Debug)]
#[must_use]
pub struct Mounted {
    session: BackgroundSession,
    sender: JoinHandle<()>,
}

/// Makes the file.
///
/// # Errors
///
/// When nobody serves the export, or the kernel does not mount.
pub fn mount(config: &Config) -> Result<Mounted, MountError> {
    let link = Link::open(&config.socket, &config.export).map_err(|source| MountError::Server {
        export: config.export.clone(),
        socket: config.socket.clone(),
        source,
    })?;
    // Memory that is freed by writing to this file must not be waited for by it; the right to say so may be missing.
    let _ = rustix::process::configure_io_flusher_behavior(true);
    let facts = (link.read_only, link.minimum_block);
    let queue = Queue::new(config.requests_max, config.payload_bytes_max);
    let (courier, sender) = Courier::start(config.socket.clone(), config.export.clone(), link, queue)
        .map_err(MountError::Thread)?;
    let mut options = fuser::Config::default();
    options.mount_options = vec![
        MountOption::FSName("nbd-file".into()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
    ];
    if facts.0 {
        options.mount_options.push(MountOption::RO);
    }
    let file = OneFile::new(courier.clone(), facts.1);
    let session = Session::new(file, &config.directory, &options).and_then(Session::spawn);
    match session {
        Ok(session) => Ok(Mounted { session, sender }),
        Err(source) => {
            courier.end();
            Err(MountError::Mount {
                directory: config.directory.clone(),
                source,
            })
        }
    }
}

impl Mounted {
    /// Waits until somebody has unmounted it.
    ///
    /// # Errors
    ///
    /// When the kernel broke off.
    pub fn wait(self) -> io::Result<()> {
        let ended = self.session.join();
        // The file system's end is the courier's.
        self.sender
            .join()
            .map_err(|_| io::Error::other("the sending thread panicked"))?;
        ended
    }
}
