//! Bottomless disks as processes: hosts that serve them, a store that can be paused, a client that remembers what it was told.

mod client;
mod writer;

pub use client::{NbdClient, NbdError};
pub use writer::Writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crashsafe::RealDisk;
use daemon::unix_http::Client;
use objstore::{Key, ObjectStore as _, Purpose, S3Config, S3Store};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::node::programs;
use crate::volumed::Bucket;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
const BUCKET: &str = "hangar";

/// An object store of a process of its own: it can be paused, as a network can.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    store: Child,
    config: S3Config,
}

impl Site {
    /// Starts the store.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("hd").tempdir_in("/tmp")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let store = Command::new(programs().join("hangar"))
            .arg("s3-serve")
            .args(["--directory".as_ref(), dir.path().join("s3").as_os_str()])
            .args(["--listen", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("s3.err"))?)
            .spawn()?;
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            ticks.tick().await;
            if tokio::time::Instant::now() > deadline {
                bail!("the store does not listen on {address}");
            }
        }
        let credentials = s3_endpoint::Credentials::open(
            std::sync::Arc::new(RealDisk),
            &dir.path().join("s3/credentials.toml"),
        )?;
        let root = credentials.root().context("the store's own credential")?;
        let url = format!("http://{address}");
        let config = S3Config::new(&url, BUCKET, &root.access_key_id, &root.secret_access_key);
        Ok(Self { dir, store, config })
    }

    /// Returns where the store is.
    #[must_use]
    pub fn address(&self) -> Bucket {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Bucket {
            url: text(&self.config.endpoint),
            name: BUCKET,
            access_key_id: text(&self.config.access_key_id),
            secret_access_key: text(&self.config.secret_access_key),
        }
    }

    /// Returns a path of the site's own.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has hosts that are prepared from now on reach the store at `address`, which passes everything on to where it is.
    pub fn behind(&mut self, address: std::net::SocketAddr) {
        self.config.endpoint = Some(format!("http://{address}"));
    }

    /// Lets the store answer nothing until it is [let go on](Self::resume).
    ///
    /// # Errors
    /// When the signal is refused.
    pub fn pause(&self) -> Result<()> {
        signal(&self.store, Signal::STOP)
    }

    /// Lets the store go on.
    ///
    /// # Errors
    /// When the signal is refused.
    pub fn resume(&self) -> Result<()> {
        signal(&self.store, Signal::CONT)
    }

    /// Prepares a host that may serve `volume`, whose disk of `size_bytes` is made if it is not there. Hosts have one cluster key.
    ///
    /// # Errors
    /// When the disk is not made.
    pub fn host(&self, name: &str, volume: &str, size_bytes: u64, ring_bytes: u64) -> Result<Host> {
        let data_dir = self.dir.path().join(name);
        std::fs::create_dir_all(&data_dir)?;
        let key = self.dir.path().join("cluster.key");
        if key.exists() {
            std::fs::copy(&key, data_dir.join("cluster.key"))?;
        }
        let file = self.path(&format!("{name}.toml"));
        let text = format!(
            "socket = \"{data}/v.sock\"\ndata_dir = \"{data}\"\nregion = \"local\"\nzones = [\"a1b2\"]\n\
             [object_store]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
            self.config.endpoint.as_deref().unwrap_or_default(),
            self.config.access_key_id.as_deref().unwrap_or_default(),
            self.config.secret_access_key.as_deref().unwrap_or_default(),
            data = data_dir.display(),
        );
        crashsafe::write_atomic(&RealDisk, "it:config", &file, text.as_bytes(), 0o600)?;
        let made = Command::new(programs().join("volumed"))
            .args(["disk-create", volume, "--config"])
            .arg(&file)
            .args([
                "--size-bytes",
                &size_bytes.to_string(),
                "--ring-bytes",
                &ring_bytes.to_string(),
            ])
            .output()?;
        if !made.status.success() {
            bail!("the disk was not made: {}", String::from_utf8_lossy(&made.stderr));
        }
        std::fs::copy(data_dir.join("cluster.key"), &key)?;
        Ok(Host {
            config: file,
            dir: data_dir.join("disks").join(volume),
            volume: volume.to_owned(),
        })
    }

    /// Returns a client of the bucket.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub async fn bucket(&self) -> Result<S3Store> {
        Ok(S3Store::connect(self.config.clone(), objstore::Metrics::unregistered()).await?)
    }

    /// Returns the keys of all objects of disks.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        let page = self
            .bucket()
            .await?
            .list("disk/", None, 1000, Purpose("it"))
            .await?;
        Ok(page.entries.into_iter().map(|entry| entry.key).collect())
    }

    /// Changes a bit of the bytes at `at` of an object, in the store's own file.
    ///
    /// # Errors
    /// When no file holds the key.
    pub fn flip(&self, key: &Key, at: u64) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let objects = self.dir.path().join("s3/buckets").join(BUCKET).join("objects");
        for file in std::fs::read_dir(objects)? {
            let path = file?.path();
            let bytes = std::fs::read(&path)?;
            let name = key.as_str().as_bytes();
            // The key stands in the record behind the data.
            if bytes.windows(name.len()).any(|window| window == name) {
                let file = File::options().write(true).open(path)?;
                let old = bytes[usize::try_from(at)?];
                file.write_all_at(&[old ^ 4], at)?;
                return Ok(());
            }
        }
        bail!("no file holds {key}")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A paused process dies of this one, too.
        let _gone = self.store.kill();
        let _gone = self.store.wait();
    }
}

/// A host that may serve a disk.
#[derive(Debug, Clone)]
pub struct Host {
    config: PathBuf,
    dir: PathBuf,
    volume: String,
}

impl Host {
    /// Returns the disk's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes `settings.json` while nobody serves the disk.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn set(&self, field: &str, value: Value) -> Result<()> {
        let path = self.dir.join("settings.json");
        let mut settings: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        settings[field] = value;
        let text = serde_json::to_vec(&settings)?;
        Ok(crashsafe::write_atomic(
            &RealDisk,
            "it:settings",
            &path,
            &text,
            0o600,
        )?)
    }

    /// Gives a slice that is not made yet a read cache; returns the byte at which it lies.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_cache(&self, cache_bytes: u64) -> Result<u64> {
        let settings: Value = serde_json::from_slice(&std::fs::read(self.dir.join("settings.json"))?)?;
        let mut slice = settings["slice"].clone();
        slice["cache_bytes"] = cache_bytes.into();
        let bytes = |field: &str| slice[field].as_u64().context("a size");
        let at = 2 * 4096 + bytes("ring_bytes")? + bytes("map_bytes")?;
        self.set("slice", slice.clone())?;
        Ok(at)
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When the system does not start it.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Served> {
        let errors = self.dir.join("stderr");
        let child = Command::new(programs().join("volumed"))
            .args(["disk", &self.volume, "--config"])
            .arg(&self.config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?)
            .spawn()?;
        Ok(Served {
            child,
            dir: self.dir.clone(),
            errors,
        })
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// When it ends or does not serve in time; its words are in the error.
    pub async fn serve(&self, arguments: &[&str]) -> Result<Served> {
        let mut served = self.spawn(arguments)?;
        served.serving().await?;
        Ok(served)
    }
}

/// A process that serves a disk; dropping it kills it.
#[derive(Debug)]
pub struct Served {
    child: Child,
    dir: PathBuf,
    errors: PathBuf,
}

impl Served {
    /// Waits until it serves.
    ///
    /// # Errors
    /// As [`Host::serve`].
    pub async fn serving(&mut self) -> Result<()> {
        let client = self.control();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            ticks.tick().await;
            if let Ok(status) = client.get::<Value>("/v1/status").await
                && status["state"] == "serving"
            {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || tokio::time::Instant::now() > deadline {
                bail!("the disk is not served ({ended:?}):\n{}", self.words());
            }
        }
    }

    /// Returns what it wrote to standard error.
    #[must_use]
    pub fn words(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// Returns a client of its control socket.
    #[must_use]
    pub fn control(&self) -> Client {
        Client::new(self.dir.join("control.sock"))
    }

    /// Returns its status.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.control().get("/v1/status").await?)
    }

    /// Returns the sum of the lines of a metric, whatever their labels.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counted(&self, metric: &str) -> Result<f64> {
        let (method, none) = (http::Method::GET, http::HeaderMap::new());
        let reply = self
            .control()
            .request(method, "/metrics", None, none, PATIENCE)
            .await?;
        let text = String::from_utf8(reply.success()?.body.to_vec())?;
        let of_it = |line: &&str| line.split(['{', ' ']).next() == Some(metric);
        let values = text
            .lines()
            .filter(of_it)
            .map(|line| line.rsplit(' ').next().unwrap_or_default());
        let values: Vec<f64> = values.map(str::parse).collect::<Result<_, _>>()?;
        if values.is_empty() {
            bail!("there is no metric {metric}");
        }
        Ok(values.iter().sum())
    }

    /// Waits until the status is as wanted.
    ///
    /// # Errors
    /// When it never is; the last one is in the error.
    pub async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            ticks.tick().await;
            let status = self.status().await?;
            if wanted(&status) {
                return Ok(status);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the disk never came to be as wanted: {status}\n{}", self.words());
            }
        }
    }

    /// Connects to the export.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(&self) -> Result<NbdClient> {
        Ok(NbdClient::connect(&self.dir.join("nbd.sock"))?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is refused.
    pub fn signal(&self, which: Signal) -> Result<()> {
        signal(&self.child, which)
    }

    /// Kills it and waits for its death.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            ticks.tick().await;
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the disk's process does not end:\n{}", self.words());
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already, mostly.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn signal(child: &Child, which: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id")?;
    Ok(kill_process(pid, which)?)
}
