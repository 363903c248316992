//! QEMU's control protocol: one JSON object a line, commands with ids, events in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, oneshot};

/// Longest line that is accepted, in bytes; the largest answers list all nodes of a machine.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Events that a slow listener may be behind.
const EVENTS_KEPT: usize = 256;
/// Time in which a command must be answered.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// The socket.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The other side does not greet as QEMU does.
    #[error("not a QMP greeting: {line}")]
    Greeting {
        /// What it said instead.
        line: String,
    },
    /// QEMU refused a command.
    #[error("{command}: {class}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of error.
        class: String,
        /// QEMU's sentence.
        description: String,
    },
    /// No answer in time.
    #[error("{command}: no answer within {} ms", limit.as_millis())]
    Timeout {
        /// The command.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// The connection is gone.
    #[error("{command}: qemu is gone")]
    Gone {
        /// The command.
        command: String,
    },
}

/// An event of QEMU.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct QmpEvent {
    /// Name, e.g. `SHUTDOWN`.
    pub event: String,
    /// Its data.
    #[serde(default)]
    pub data: Value,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Refusal>,
    id: Option<u64>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

type Answer = Result<Value, Refusal>;
/// `None` once the connection is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

/// A connection to QEMU's control socket.
#[derive(Debug)]
pub struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    next_id: std::sync::atomic::AtomicU64,
    waiting: Waiting,
    events: broadcast::Sender<QmpEvent>,
    reader: tokio::task::JoinHandle<()>,
    limit: Duration,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Qmp {
    /// Connects, reads the greeting and leaves the negotiation mode.
    ///
    /// # Errors
    /// [`QmpError`] when nobody listens at `socket` or it is not QEMU.
    pub async fn connect(socket: &Path) -> Result<Self, QmpError> {
        Self::connect_with(socket, ANSWER_TIMEOUT).await
    }

    async fn connect_with(socket: &Path, limit: Duration) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|source| QmpError::Io {
            what: "connect to qemu's control socket",
            source,
        })?;
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = async {
            let mut line = String::new();
            let read = reader.read_line(&mut line).await;
            read.map_err(|source| QmpError::Io {
                what: "read qemu's greeting",
                source,
            })
            .map(|_| line)
        };
        let greeting = tokio::time::timeout(limit, greeting).await;
        let line = greeting.map_err(|_| QmpError::Timeout {
            command: "greeting".to_owned(),
            limit,
        })??;
        let greeted = serde_json::from_str::<Value>(&line).is_ok_and(|value| value.get("QMP").is_some());
        if !greeted {
            return Err(QmpError::Greeting { line });
        }
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let task = daemon::spawn(
            "qmp_reader",
            read_lines(reader, Arc::clone(&waiting), events.clone()),
        );
        let writer = tokio::sync::Mutex::new(writer);
        let qmp = Self {
            writer,
            next_id: 1.into(),
            waiting,
            events,
            reader: task,
            limit,
        };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Listens to events from now on. The channel closes when the connection does.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.events.subscribe()
    }

    /// Sends a command and waits for its answer, at most [`ANSWER_TIMEOUT`].
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let gone = || QmpError::Gone {
            command: command.to_owned(),
        };
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_mut().ok_or_else(gone)?.insert(id, answer);
        }
        let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        line.push('\n');
        let call = async {
            self.writer
                .lock()
                .await
                .write_all(line.as_bytes())
                .await
                .map_err(|_| gone())?;
            answered.await.map_err(|_| gone())
        };
        let result = tokio::time::timeout(self.limit, call).await;
        if let Some(waiting) = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            waiting.remove(&id);
        }
        let answer = result.map_err(|_| QmpError::Timeout {
            command: command.to_owned(),
            limit: self.limit,
        })??;
        answer.map_err(|refusal| QmpError::Refused {
            command: command.to_owned(),
            class: refusal.class,
            description: refusal.desc,
        })
    }
}

async fn read_lines(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Waiting,
    events: broadcast::Sender<QmpEvent>,
) {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_until(b'\n', &mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(bytes) if bytes > LINE_BYTES_MAX => break,
            Ok(_) => {}
        }
        let Ok(line) = serde_json::from_slice::<Line>(&buffer) else {
            tracing::warn!(bytes = buffer.len(), "qemu sent a line that is not QMP");
            continue;
        };
        if let Some(event) = line.event {
            // Nobody listening is no error.
            let _listeners = events.send(QmpEvent {
                event,
                data: line.data,
            });
            continue;
        }
        let Some(id) = line.id else { continue };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
            let answer = match line.error {
                Some(refusal) => Err(refusal),
                None => Ok(line.returned.unwrap_or(Value::Null)),
            };
            let _gone = asker.send(answer);
        }
    }
    // Dropping the askers tells them.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

#[cfg(test)]
mod tests;
