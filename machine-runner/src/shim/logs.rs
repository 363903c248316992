//! What the workload writes, as JSON lines in rotated files.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest_init::proto::{Incoming, Session, StreamId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Directory of the logs, in the machine's directory.
pub const LOGS_DIR: &str = "logs";
/// Size at which a file is put away, in bytes.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files kept, the one being written included.
pub const FILES_MAX: u32 = 4;
/// Longest message; longer lines are cut into several, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
const RECONNECT: Duration = Duration::from_millis(50);

/// One line of a machine's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the host received it.
    pub timestamp: Timestamp,
    /// `stdout`, `stderr`, or `runner` for words of the platform.
    pub stream: String,
    /// The line without its end.
    pub message: String,
}

/// Path of the file number `age`, 0 being written, in a logs directory.
#[must_use]
pub fn file(logs: &Path, age: u32) -> PathBuf {
    logs.join(format!("{age}.jsonl"))
}

/// Cuts a byte stream into messages. Pure.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Adds bytes and returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.partial.pop();
                if self.partial.last() == Some(&b'\r') {
                    self.partial.pop();
                }
                lines.extend(self.finish_pieces());
            } else if self.partial.len() >= MESSAGE_BYTES_MAX {
                lines.extend(self.finish_pieces());
            }
        }
        lines
    }

    /// The rest, when the stream has ended in the middle of a line.
    pub fn finish(&mut self) -> Vec<String> {
        if self.partial.is_empty() {
            Vec::new()
        } else {
            self.finish_pieces()
        }
    }

    fn finish_pieces(&mut self) -> Vec<String> {
        let partial = std::mem::take(&mut self.partial);
        if partial.is_empty() {
            return vec![String::new()];
        }
        partial
            .chunks(MESSAGE_BYTES_MAX)
            .map(|piece| String::from_utf8_lossy(piece).into_owned())
            .collect()
    }
}

/// Appends lines to the newest file and puts full files away.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Opens the newest file of a logs directory, which is made when missing.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let file = File::options().append(true).create(true).open(file(dir, 0))?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            dir: dir.to_path_buf(),
            file,
            bytes,
        })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn append(&mut self, line: &LogLine) -> std::io::Result<()> {
        let text = text_of(line)?;
        if self.bytes > 0 && self.bytes + text.len() as u64 > FILE_BYTES_MAX {
            self.rotate()?;
        }
        self.write(&text)
    }

    fn put(&mut self, line: &LogLine) -> std::io::Result<()> {
        let text = text_of(line)?;
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    #[allow(clippy::disallowed_methods)] // logs are not durable: a power cut may take their end
    fn rotate(&mut self) -> std::io::Result<()> {
        for age in (0..FILES_MAX - 1).rev() {
            match std::fs::rename(file(&self.dir, age), file(&self.dir, age + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.file = File::options()
            .append(true)
            .create(true)
            .open(file(&self.dir, 0))?;
        self.bytes = 0;
        Ok(())
    }
}

fn text_of(line: &LogLine) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads the log port of a guest into the files until QEMU has gone.
///
/// # Errors
/// When the logs directory cannot be opened. What cannot be written later is dropped with a warning: a full disk
/// must not stop the guest.
pub async fn drive(socket: PathBuf, dir: PathBuf) -> std::io::Result<()> {
    let mut writer = Writer::open(&dir)?;
    let mut streams = [Lines::default(), Lines::default()];
    loop {
        let Ok(stream) = UnixStream::connect(&socket).await else {
            if !socket.exists() {
                break;
            }
            tokio::time::sleep(RECONNECT).await;
            continue;
        };
        if read_port(stream, &mut writer, &mut streams).await {
            break;
        }
    }
    for (lines, name) in streams.iter_mut().zip(["stdout", "stderr"]) {
        append_all(&mut writer, name, lines.finish());
    }
    Ok(())
}

/// Adds a line of the platform's to the log of a machine. Puts no full file away: the guest's writer may be at it.
///
/// # Errors
/// When the file system refuses.
pub fn say(dir: &Path, message: String) -> std::io::Result<()> {
    Writer::open(dir)?.put(&LogLine {
        timestamp: daemon::wall_clock::now(),
        stream: "runner".to_owned(),
        message,
    })
}

fn append_all(writer: &mut Writer, stream: &str, messages: Vec<String>) {
    for message in messages {
        let line = LogLine {
            timestamp: daemon::wall_clock::now(),
            stream: stream.to_owned(),
            message,
        };
        if let Err(error) = writer.append(&line) {
            tracing::warn!(%error, "a log line was dropped");
        }
    }
}

/// Reads until the port closes; true when it has closed for good.
async fn read_port(stream: UnixStream, writer: &mut Writer, streams: &mut [Lines; 2]) -> bool {
    let (mut reader, mut sender) = stream.into_split();
    let mut session = Session::host();
    session.open(&daemon::random::hex(16), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return true,
                Ok(count) => {
                    session.receive(&buffer[..count]);
                    if take_all(&mut session, writer, streams).is_err() {
                        session.open(&daemon::random::hex(16), 0);
                    }
                }
            },
            written = sender.write(session.outgoing()), if !session.outgoing().is_empty() => match written {
                Ok(0) | Err(_) => return true,
                Ok(count) => session.sent(count),
            },
        }
    }
}

fn take_all(
    session: &mut Session,
    writer: &mut Writer,
    streams: &mut [Lines; 2],
) -> Result<(), guest_init::proto::SessionError> {
    while let Some(incoming) = session.next()? {
        match incoming {
            Incoming::Hello(_) => {
                session.open_receiving(StreamId::LOG_STDOUT);
                session.open_receiving(StreamId::LOG_STDERR);
            }
            Incoming::Data { stream, bytes } => {
                let (index, name) = if stream == StreamId::LOG_STDERR {
                    (1, "stderr")
                } else {
                    (0, "stdout")
                };
                append_all(writer, name, streams[index].push(&bytes));
                session.consumed(stream, bytes.len());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
