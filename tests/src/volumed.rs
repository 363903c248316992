//! volumed alone, on an S3 endpoint of this process: for tests that kill it often.

use crate::node::programs;
use anyhow::{Context, Result, bail, ensure};
use crashsafe::{LockError, LockFile, RealDisk};
use daemon::unix_http::Client;
use objstore::{Entry, ObjectStore, Purpose, S3Config, S3Store};
use rustix::{
    mount::UnmountFlags,
    process::{Pid, Signal, kill_process},
};
use s3_endpoint::{Endpoint, EndpointConfig, Listener};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const BUCKET: &str = "hangar";

/// A data directory, a bucket, and the means to start volumed on them.
#[derive(Debug)]
pub struct Volumed {
    dir: TempDir,
    store: S3Store,
    bucket: Bucket,
    shutdown: CancellationToken,
}

/// Where the bucket is, for another program that shall write to it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// `http://…`, without the bucket's name.
    pub url: String,
    /// Its name.
    pub name: &'static str,
    /// Of a credential that may do everything.
    pub access_key_id: String,
    /// The same credential's secret.
    pub secret_access_key: String,
}

/// A running volumed; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Volumed {
    /// Prepares the directory and serves the bucket until the value is dropped.
    ///
    /// # Errors
    /// When the endpoint cannot be opened.
    pub async fn new() -> Result<Self> {
        Self::new_in(tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?).await
    }

    /// Prepares `dir`, which may be a mount point, and serves the bucket in it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn new_in(dir: TempDir) -> Result<Self> {
        let endpoint = Endpoint::open(
            EndpointConfig::new(dir.path().join("s3"), BUCKET),
            Arc::new(RealDisk),
        )?;
        let root = endpoint
            .credentials()
            .root()
            .context("the endpoint's own credential")?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let ends = shutdown.clone();
        daemon::spawn("s3-endpoint", async move {
            endpoint.serve(Listener::Tcp(listener), ends).await
        });
        let bucket = Bucket {
            url,
            name: BUCKET,
            access_key_id: root.access_key_id,
            secret_access_key: root.secret_access_key,
        };
        Self::on(dir, bucket, shutdown).await
    }

    /// Prepares another node on the same bucket. It has the same cluster key if this one has started before.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn beside(&self) -> Result<Self> {
        let other = self.stranger().await?;
        std::fs::create_dir_all(other.path("volumed"))?;
        std::fs::copy(
            self.path("volumed/cluster.key"),
            other.path("volumed/cluster.key"),
        )?;
        Ok(other)
    }

    /// Prepares another node on the same bucket, with a cluster key of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn stranger(&self) -> Result<Self> {
        Self::at(self.bucket.clone()).await
    }

    /// Prepares a node on a bucket that somebody else serves.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn at(bucket: Bucket) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("hg").tempdir_in("/tmp")?;
        Self::on(dir, bucket, CancellationToken::new()).await
    }

    async fn on(dir: TempDir, bucket: Bucket, shutdown: CancellationToken) -> Result<Self> {
        let file = dir.path().join("config.toml");
        let text = format!(
            "socket = \"{dir}/v.sock\"\ndata_dir = \"{dir}/volumed\"\nregion = \"local\"\nzones = [\"a1b2\", \"c3d4\", \"e5f6\"]\n\
             [object_store]\nendpoint = \"{url}\"\nbucket = \"{BUCKET}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n\
             [[pools]]\nname = \"default\"\nkind = \"file\"\npath = \"{dir}/volumed/pool\"\nallocation = \"sparse\"\novercommit_ratio = 100.0\n\
             [bottomless]\nring_bytes = 16777216\ncache_bytes = 0\nreserve_bytes = 0\n",
            bucket.access_key_id,
            bucket.secret_access_key,
            url = bucket.url,
            dir = dir.path().display(),
        );
        crashsafe::write_atomic(&RealDisk, "it:config", &file, text.as_bytes(), 0o600)?;
        let config = S3Config {
            endpoint: Some(bucket.url.clone()),
            region: "us-east-1".into(),
            bucket: BUCKET.into(),
            prefix: String::new(),
            access_key_id: Some(bucket.access_key_id.clone()),
            secret_access_key: Some(bucket.secret_access_key.clone()),
            session_token: None,
            path_style: Some(true),
            timeouts: objstore::Timeouts::default(),
            retries: objstore::Retries::default(),
        };
        let store = S3Store::connect(config, objstore::Metrics::unregistered()).await?;
        Ok(Self {
            dir,
            store,
            bucket,
            shutdown,
        })
    }

    /// Kills the processes of bottomless volumes.
    pub fn kill_disks(&self) {
        let disks = std::fs::read_dir(self.path("volumed/disks"));
        for disk in disks.into_iter().flatten().flatten() {
            // Nor may its file on the host outlive them: not mounted is as good.
            let _ = rustix::mount::unmount(disk.path().join("file"), UnmountFlags::DETACH);
            if let Err(LockError::Held { pid: Some(pid), .. }) = LockFile::acquire(disk.path().join("lock"))
                && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
            {
                let _gone_already = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Returns where the bucket is.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Returns a path below the data directory.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer within 30 seconds; its words are in the error.
    pub async fn start(&mut self) -> Result<Running> {
        self.start_until("").await
    }

    /// Starts the daemon, which kills itself at a step of an operation: `kind/step/moment`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_until(&mut self, kill_at: &str) -> Result<Running> {
        let errors = self.dir.path().join("volumed.err");
        let mut command = Command::new(programs().join("volumed"));
        command
            .args(["serve", "--config"])
            .arg(self.dir.path().join("config.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?);
        if !kill_at.is_empty() {
            command.env("VOLUMED_KILL_AT", kill_at);
        }
        let mut running = Running {
            child: command.spawn()?,
        };
        let client = self.client();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            ticks.tick().await;
            if client.get::<Value>("/v1/health").await.is_ok() {
                return Ok(running);
            }
            let ended = running.child.try_wait()?;
            if ended.is_some() || tokio::time::Instant::now() > deadline {
                bail!(
                    "volumed does not answer ({ended:?}):\n{}",
                    std::fs::read_to_string(&errors)?
                );
            }
        }
    }

    /// Runs `volumed scrub` to its end.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn scrub(&self) -> Output {
        let mut command = Command::new(programs().join("volumed"));
        command.args(["scrub", "--config"]).arg(self.path("config.toml"));
        command.output().expect("volumed is there")
    }

    /// Returns a client of its socket.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.dir.path().join("v.sock"))
    }

    /// Waits until no operation runs.
    ///
    /// # Errors
    /// After two minutes, with the operations that still run.
    pub async fn rest(&self, client: &Client) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            ticks.tick().await;
            let operations: Vec<Value> = client.get("/v1/operations").await?;
            let running: Vec<&Value> = operations
                .iter()
                .filter(|o| matches!(o["status"].as_str(), Some("running" | "undoing")))
                .collect();
            if running.is_empty() {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "operations do not end: {running:?}"
            );
        }
    }

    /// Creates a volume as `body` says, of app `shop` and 1 GiB unless it says otherwise, and waits until it can be used.
    ///
    /// # Errors
    /// What volumed said, or five minutes without the state `created`.
    pub async fn create(&self, client: &Client, body: &Value) -> Result<String> {
        let mut whole = json!({"app": "shop", "region": "local", "size_gb": 1, "require_unique_zone": false});
        let (all, more) = (
            whole.as_object_mut().context("an object")?,
            body.as_object().context("a body")?,
        );
        all.extend(more.clone());
        let volume: Value = client.post("/v1/volumes", &whole).await?;
        let id = volume["id"].as_str().context("a volume's id")?.to_owned();
        settled(client, &format!("/v1/volumes/{id}"), "state").await?;
        Ok(id)
    }

    /// Takes a snapshot and waits until it is in the bucket.
    ///
    /// # Errors
    /// What volumed said, or five minutes without the status `created`.
    pub async fn snapshot(&self, client: &Client, volume: &str) -> Result<String> {
        let path = format!("/v1/volumes/{volume}/snapshots");
        let snapshot: Value = client.post(&path, &json!({})).await?;
        let id = snapshot["id"].as_str().context("a snapshot's id")?.to_owned();
        settled(client, &format!("/v1/snapshots/{id}"), "status").await?;
        Ok(id)
    }

    /// Returns the names of all files in the pool but its marker, relative to it.
    ///
    /// # Errors
    /// When the pool cannot be listed.
    pub fn pool_files(&self) -> Result<Vec<String>> {
        let pool = self.dir.path().join("volumed/pool");
        let mut folders = vec![pool.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path: PathBuf = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with(".hangar-pool") {
                    files.push(path.strip_prefix(&pool)?.display().to_string());
                }
            }
        }
        Ok(files)
    }

    /// Returns the ids of all snapshots that have a manifest in the bucket.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn manifests(&self) -> Result<BTreeSet<String>> {
        let entries = self.backups().await?;
        let ids = entries
            .iter()
            .filter_map(|entry| entry.key.as_str().split_once("/m/"));
        Ok(ids.map(|(_, snapshot)| snapshot.to_owned()).collect())
    }

    /// Returns how many bytes the backups take in the bucket.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn stored_bytes(&self) -> Result<u64> {
        Ok(self.backups().await?.iter().map(|entry| entry.size_bytes).sum())
    }

    /// Flips a bit on the disk of the first object of the backups with `part` in its key, and returns the key.
    ///
    /// # Errors
    /// When there is no such object, or its file cannot be changed.
    pub async fn flip_a_bit(&self, part: &str) -> Result<String> {
        let (key, path) = self.object_file(part).await?;
        let first = std::fs::read(&path)?[0];
        File::options()
            .write(true)
            .open(path)?
            .write_all_at(&[first ^ 4], 0)?;
        Ok(key)
    }

    /// Removes from the disk the first object of the backups with `part` in its key, and returns the key.
    ///
    /// # Errors
    /// When there is no such object, or its file cannot be removed.
    pub async fn remove_an_object(&self, part: &str) -> Result<String> {
        let (key, path) = self.object_file(part).await?;
        std::fs::remove_file(path)?;
        Ok(key)
    }

    async fn object_file(&self, part: &str) -> Result<(String, PathBuf)> {
        let entries = self.backups().await?;
        let entry = entries.iter().find(|entry| entry.key.as_str().contains(part));
        let key = entry.context("an object to damage")?.key.as_str();
        let objects = self.dir.path().join("s3/buckets").join(BUCKET).join("objects");
        for file in std::fs::read_dir(objects)? {
            let path = file?.path();
            let bytes = std::fs::read(&path)?;
            // The key stands in the record behind the data.
            if bytes.windows(key.len()).any(|window| window == key.as_bytes()) {
                return Ok((key.to_owned(), path));
            }
        }
        bail!("no file holds {key}")
    }

    /// Returns the keys below `prefix` in the bucket.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let entries = self.listed(prefix).await?;
        Ok(entries
            .iter()
            .map(|entry| entry.key.as_str().to_owned())
            .collect())
    }

    async fn backups(&self) -> Result<Vec<Entry>> {
        self.listed("backup/").await
    }

    async fn listed(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.key.as_str().to_owned());
            let page = self
                .store
                .list(prefix, after.as_deref(), 1000, Purpose("it"))
                .await?;
            entries.extend(page.entries);
            if !page.more {
                return Ok(entries);
            }
        }
    }
}

/// Waits until the thing at `path` is `created`.
async fn settled(client: &Client, path: &str, field: &str) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    loop {
        ticks.tick().await;
        let shown: Value = client.get(path).await?;
        if shown[field] == "created" {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{path} does not settle: {shown}"
        );
    }
}

impl Drop for Volumed {
    fn drop(&mut self) {
        // Disks' processes outlive volumed; none may outlive a test that failed.
        self.kill_disks();
        self.shutdown.cancel();
    }
}

impl Running {
    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub async fn ended(&mut self) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            ticks.tick().await;
            ensure!(tokio::time::Instant::now() < deadline, "volumed does not end");
        }
        Ok(())
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill_hard(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.kill_hard();
    }
}
