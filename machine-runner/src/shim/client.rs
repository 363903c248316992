//! The daemon's side of a shim: start one, talk to it, wait for its news.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daemon::unix_http::{CallError, Client};
use guest_init::proto::config::NameRecord;
use guest_init::proto::message::VolumeUsage;
use http::{HeaderMap, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;

use super::facts::{
    CopyRequest, ExecOutcome, ExecRequest, GrowRequest, Grown, RunSpec, SHIM_LOG, SHIM_SOCKET, SignalRequest,
    Status, StopRequest,
};

const SHORT: Duration = Duration::from_secs(40);
/// A suspension writes up to 2 GiB; a copy reads a whole volume.
const LONG: Duration = Duration::from_secs(3600);

/// Connection data of one machine's shim.
#[derive(Clone, Debug)]
pub struct ShimClient {
    dir: PathBuf,
    client: Client,
}

impl ShimClient {
    /// The shim of the machine in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            client: Client::new(dir.join(SHIM_SOCKET)),
        }
    }

    /// Starts a shim as a process that outlives this one, and hands it the run. Someone must wait for the child as
    /// long as this process lives; afterwards the system's first process does.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn(program: &Path, dir: &Path, spec: &RunSpec) -> std::io::Result<Child> {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(dir.join(SHIM_LOG))?;
        let mut command = tokio::process::Command::new(program);
        command.arg("shim").arg("--dir").arg(dir).current_dir(dir);
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(false);
        let mut child = command.spawn()?;
        let mut stdin = child
            .stdin
            .take()
            .ok_or_else(|| std::io::Error::other("no pipe to the shim"))?;
        stdin
            .write_all(&serde_json::to_vec(spec).map_err(std::io::Error::other)?)
            .await?;
        drop(stdin);
        Ok(child)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let body = serde_json::to_value(body).map_err(CallError::Decode)?;
        self.client
            .request(method, path, Some(&body), HeaderMap::new(), timeout)
            .await?
            .success()?
            .json()
    }

    /// The status; with `after`, once it is newer than that, at the latest after half a minute.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Refused`] when there is no shim (any more).
    pub async fn status(&self, after: Option<u64>) -> Result<Status, CallError> {
        let path = after.map_or_else(|| "/status".to_owned(), |after| format!("/status?after={after}"));
        self.client.get(&path).await
    }

    /// The status on disk.
    #[must_use]
    pub fn last_status(&self) -> Option<Status> {
        super::board::read(&self.dir)
    }

    /// Begins the guest's end.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stop(&self, request: StopRequest) -> Result<(), CallError> {
        self.call::<Value>(Method::POST, "/stop", &request, SHORT)
            .await
            .map(drop)
    }

    /// Ends QEMU at once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn kill(&self) -> Result<(), CallError> {
        self.call::<Value>(Method::POST, "/kill", &json!({}), SHORT)
            .await
            .map(drop)
    }

    /// Signals the workload.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn signal(&self, signal: i32) -> Result<(), CallError> {
        self.call::<Value>(Method::POST, "/signal", &SignalRequest { signal }, SHORT)
            .await
            .map(drop)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecOutcome, CallError> {
        let timeout = Duration::from_millis(request.timeout_ms) + SHORT;
        self.call(Method::POST, "/exec", request, timeout).await
    }

    /// Announces a grown disk and grows its file system.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn grow(&self, serial: &str, size_bytes: u64) -> Result<Grown, CallError> {
        let request = GrowRequest {
            serial: serial.to_owned(),
            size_bytes,
        };
        self.call(Method::POST, "/grow", &request, SHORT + SHORT).await
    }

    /// Copies a disk's backing file as it is now.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn copy(&self, request: &CopyRequest) -> Result<(), CallError> {
        self.call::<Value>(Method::POST, "/copy", request, LONG)
            .await
            .map(drop)
    }

    /// Suspends; false when it was broken off.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn suspend(&self) -> Result<bool, CallError> {
        let answer: Value = self.call(Method::POST, "/suspend", &json!({}), LONG).await?;
        Ok(answer["suspended"] == true)
    }

    /// Breaks a suspension off; false when it is too late.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn cancel_suspend(&self) -> Result<bool, CallError> {
        let answer: Value = self
            .call(Method::POST, "/suspend/cancel", &json!({}), SHORT)
            .await?;
        Ok(answer["cancelled"] == true)
    }

    /// What the volumes' file systems hold.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn usage(&self) -> Result<Vec<VolumeUsage>, CallError> {
        self.client.get("/usage").await
    }

    /// Replaces the names of the app network.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn names(&self, records: &[NameRecord]) -> Result<(), CallError> {
        self.call::<Value>(Method::PUT, "/names", &json!({"records": records}), SHORT)
            .await
            .map(drop)
    }
}
