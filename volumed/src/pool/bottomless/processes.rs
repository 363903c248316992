//! The processes `volumed disk ID`: started, asked and ended. They outlive volumed, as guests do.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crashsafe::{LockError, LockFile};
use daemon::unix_http::{CallError, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::Instant;

use crate::disk::{DiskDir, Phase, Status};
use crate::volume::VolumeId;

/// What processes say, in their disk's directory.
const LOG: &str = "disk.log";
/// A log that is longer begins anew with the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A snapshot or an extend waits for the bucket.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);
/// For how long one question waits for all of a journal to be uploaded; then it is asked again.
const DRAIN_WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);
/// From one start to the next of a process that ends by itself.
const START_EVERY: Duration = Duration::from_secs(2);
/// The same for one that a person must look after.
const START_EVERY_AFTER_TROUBLE: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(10);
/// The exit code of a process that found another one serving its disk.
const SERVED_ALREADY: i32 = 5;
/// How much of a log's end is read for its last line.
const TAIL_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Run {
    began: Instant,
    /// Whether it has ended, and its exit code if it was not killed.
    ended: Option<Option<i32>>,
}

/// The processes that this volumed has started, the last of each disk.
#[derive(Debug)]
pub(super) struct Processes {
    program: PathBuf,
    config_file: PathBuf,
    runs: Arc<Mutex<HashMap<VolumeId, Run>>>,
}

fn locked(runs: &Mutex<HashMap<VolumeId, Run>>) -> MutexGuard<'_, HashMap<VolumeId, Run>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processes {
    pub(super) fn new(program: &Path, config_file: &Path) -> Self {
        Self {
            program: program.to_owned(),
            config_file: config_file.to_owned(),
            runs: Arc::default(),
        }
    }

    fn last(&self, id: &VolumeId) -> Option<Run> {
        locked(&self.runs).get(id).copied()
    }

    /// Asks a disk's process how it is; none when none answers.
    pub(super) async fn status(&self, dir: &DiskDir) -> Option<Status> {
        if !dir.control().exists() {
            return None;
        }
        let client = Client::new(dir.control()).with_timeout(ANSWER_WITHIN);
        client.get("/v1/status").await.ok()
    }

    /// Says whether it is time to start one: none is starting, and the last did not just end.
    pub(super) fn may_start(&self, id: &VolumeId) -> bool {
        let Some(run) = self.last(id) else {
            return true;
        };
        let pause = match run.ended {
            None => return false,
            Some(None | Some(0 | 3 | SERVED_ALREADY)) => START_EVERY,
            Some(Some(_)) => START_EVERY_AFTER_TROUBLE,
        };
        run.began.elapsed() >= pause
    }

    /// Starts a disk's process. One that finds another serving the disk ends at once.
    pub(super) fn start(&self, id: &VolumeId, dir: &DiskDir) -> io::Result<()> {
        let path = dir.path().join(LOG);
        let long = std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX);
        let log = File::options()
            .create(true)
            .write(true)
            .truncate(long)
            .append(!long)
            .open(path)?;
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("disk")
            .arg(id.as_str())
            .arg("--config")
            .arg(&self.config_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Not ended with volumed, nor by the terminal that volumed was started from.
            .process_group(0)
            .kill_on_drop(false);
        let mut child = command.spawn()?;
        tracing::info!(volume_id = %id, pid = child.id(), "disk's process started");
        let run = Run {
            began: Instant::now(),
            ended: None,
        };
        locked(&self.runs).insert(id.clone(), run);
        let (runs, id) = (Arc::clone(&self.runs), id.clone());
        daemon::spawn("disk_reaper", async move {
            let code = child.wait().await.ok().and_then(|status| status.code());
            if let Some(run) = locked(&runs).get_mut(&id) {
                run.ended = Some(code);
            }
            tracing::info!(volume_id = %id, code, "disk's process ended");
        });
        Ok(())
    }

    /// Waits until a disk is served, starting its process when there is none.
    ///
    /// # Errors
    /// A sentence that says why it is not, and what to do.
    pub(super) async fn serving(
        &self,
        id: &VolumeId,
        dir: &DiskDir,
        within: Duration,
    ) -> Result<Status, String> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(LOOK);
        let mut started = false;
        loop {
            ticks.tick().await;
            match self.status(dir).await {
                Some(status) if status.state == Phase::Serving => return Ok(status),
                Some(_) => {}
                None => {
                    let last = self.last(id).filter(|_| started);
                    match last.and_then(|run| run.ended) {
                        Some(Some(code)) if !matches!(code, 0 | 3 | SERVED_ALREADY) => {
                            return Err(format!("its process ended: {}", last_line(dir)));
                        }
                        _ => {}
                    }
                    let running = self.last(id).is_some_and(|run| run.ended.is_none());
                    if !running && (!started || self.may_start(id)) {
                        self.start(id, dir)
                            .map_err(|error| format!("its process was not started: {error}"))?;
                        started = true;
                    }
                }
            }
            if begun.elapsed() > within {
                return Err(format!(
                    "it is still being opened after {} s: {}; try again",
                    within.as_secs(),
                    last_line(dir)
                ));
            }
        }
    }

    /// Makes a disk larger.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn extend(&self, dir: &DiskDir, size_bytes: u64) -> Result<(), String> {
        let client = Client::new(dir.control()).with_timeout(CHANGE_WITHIN);
        let asked = client
            .post::<serde_json::Value>("/v1/extend", &json!({ "size_bytes": size_bytes }))
            .await;
        asked.map(drop).map_err(|error| crate::ops::chain(&error))
    }

    /// Takes a snapshot; when it is there, the bucket has all that it holds.
    ///
    /// # Errors
    /// The call's; after a while without an answer nobody knows whether it was taken.
    pub(super) async fn snapshot(&self, dir: &DiskDir, name: &str) -> Result<(), CallError> {
        let client = Client::new(dir.control()).with_timeout(CHANGE_WITHIN);
        let asked = client
            .post::<serde_json::Value>("/v1/snapshots", &json!({ "name": name }))
            .await;
        asked.map(drop)
    }

    /// Forgets a snapshot, or finds that there is none.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn remove_snapshot(&self, dir: &DiskDir, name: &str) -> Result<(), String> {
        let client = Client::new(dir.control()).with_timeout(CHANGE_WITHIN);
        let asked = client
            .delete::<serde_json::Value>(&format!("/v1/snapshots/{name}"))
            .await;
        match asked {
            Ok(_) | Err(CallError::Status { status: 404, .. }) => Ok(()),
            Err(error) => Err(crate::ops::chain(&error)),
        }
    }

    /// Has a disk given up: everything uploaded first, however long that takes. Its process ends then.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn drain(&self, dir: &DiskDir) -> Result<(), String> {
        let client = Client::new(dir.control()).with_timeout(DRAIN_WITHIN);
        let asked = client.post::<serde_json::Value>("/v1/drain", &json!({})).await;
        asked.map(drop).map_err(|error| crate::ops::chain(&error))
    }

    /// Returns how the last process of a disk ended that this volumed started, if it was not killed.
    pub(super) fn exit_code(&self, id: &VolumeId) -> Option<i32> {
        self.last(id)?.ended?
    }

    /// Asks a process to end.
    pub(super) fn ask_to_end(&self, id: &VolumeId, pid: u32) {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process(pid, Signal::TERM) {
            tracing::warn!(volume_id = %id, %error, "the disk's process was not asked to end");
        }
    }

    /// Ends a disk's process, and waits until it has.
    ///
    /// # Errors
    /// A sentence, when it does not end.
    pub(super) async fn end(&self, id: &VolumeId, dir: &DiskDir) -> Result<(), String> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(LOOK);
        let mut asked = false;
        loop {
            ticks.tick().await;
            // Whether it answers says nothing: it may be stuck, or on its way out with uploads under way.
            match LockFile::acquire(dir.lock()) {
                Ok(_given_back) => return Ok(()),
                Err(LockError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Ok(());
                }
                Err(LockError::Held { pid: Some(pid), .. }) if !asked => {
                    self.ask_to_end(id, pid);
                    asked = true;
                }
                Err(LockError::Held { .. }) => {}
                Err(error) => return Err(crate::ops::chain(&error)),
            }
            if begun.elapsed() > END_WITHIN {
                return Err(format!("the process of disk {id} does not end"));
            }
        }
    }
}

/// The end of what a disk's process said.
fn last_line(dir: &DiskDir) -> String {
    let path = dir.path().join(LOG);
    let tail = || -> io::Result<String> {
        let mut file = File::open(&path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let tail = tail().unwrap_or_default();
    let last = tail.lines().rev().find(|line| !line.trim().is_empty());
    match last {
        Some(line) => format!("{} (see {})", line.trim(), path.display()),
        None => format!("nothing is said in {}", path.display()),
    }
}
