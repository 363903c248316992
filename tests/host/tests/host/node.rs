//! volumed itself: a process of its own on real logical volumes and an S3 endpoint, spoken to over its socket, killed.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crashsafe::RealDisk;
use daemon::unix_http::{CallError, Client};
use host_tests::Guest;
use s3_endpoint::{Endpoint, EndpointConfig, Listener};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pool::prepare;

/// The first argument of this program when it is to be volumed.
pub(crate) const AS_VOLUMED: &str = "as-volumed";
const BUCKET: &str = "hangar";
/// How long anything may take that ends by itself.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs `volumed serve`, as its own program does.
pub(crate) fn serve(config: &Path) -> ExitCode {
    daemon::run("volumed", async |ctx| {
        let config = volumed::config::load(config)?;
        volumed::serve::serve(ctx, config).await
    })
}

/// Serves the bucket beside the test, which waits for commands in between.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A data directory, a bucket, and the volumed on them.
pub(crate) struct Node<'a> {
    guest: &'a Guest,
    dir: PathBuf,
    pub(crate) client: Client,
    child: Option<Child>,
    bucket: CancellationToken,
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.kill();
        self.bucket.cancel();
    }
}

impl<'a> Node<'a> {
    /// Serves a bucket in `dir` below the scratch directory, and starts volumed with these `[[pools]]`.
    pub(crate) async fn start(guest: &'a Guest, dir: &str, pools: &str) -> Node<'a> {
        let dir = guest.scratch().join(dir);
        fs::create_dir_all(&dir).unwrap();
        guest.must("ifconfig lo up; for p in mount umount; do ln -sf /busybox/$p /sbin/$p; done");
        let config = EndpointConfig::new(dir.join("s3"), BUCKET);
        let endpoint = Endpoint::open(config, Arc::new(RealDisk)).unwrap();
        let root = endpoint.credentials().root().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bucket = CancellationToken::new();
        let ends = bucket.clone();
        daemon::spawn("s3-endpoint", async move {
            endpoint.serve(Listener::Tcp(listener), ends).await
        });
        let text = format!(
            "socket = \"{at}/v.sock\"\ndata_dir = \"{at}/volumed\"\nregion = \"local\"\nzones = [\"a1b2\"]\n\
             [object_store]\nendpoint = \"{url}\"\nbucket = \"{BUCKET}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n\
             [schedule]\nsweep_interval_s = 5\ndestroy_grace_s = 0\nclock_settle_s = 0\n{pools}",
            root.access_key_id,
            root.secret_access_key,
            at = dir.display(),
        );
        crashsafe::write_atomic(
            &RealDisk,
            "tier:config",
            &dir.join("config.toml"),
            text.as_bytes(),
            0o600,
        )
        .unwrap();
        let mut node = Node {
            guest,
            client: Client::new(dir.join("v.sock")).with_timeout(PATIENCE),
            dir,
            child: None,
            bucket,
        };
        node.again().await;
        node
    }

    /// Starts volumed on what the last one left, and waits until it answers.
    pub(crate) async fn again(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("volumed.log"))
            .unwrap();
        let mut command = self.guest.command("/proc/self/exe");
        // Everything that it starts dies with the test's guest at the latest.
        command
            .arg(AS_VOLUMED)
            .arg(self.dir.join("config.toml"))
            .env("RUST_LOG", "info,volumed=debug")
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        self.child = Some(command.spawn().unwrap());
        let (begun, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
        while self.client.get::<Value>("/v1/health").await.is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "volumed does not answer ({ended:?}):\n{}",
                self.log()
            );
            ticks.tick().await;
        }
    }

    /// Ends it as the kernel does that has no memory left.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it said since its first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("volumed.log")).unwrap_or_default()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = match method {
            "GET" => self.client.get(path).await,
            "POST" => self.client.post(path, body).await,
            "PUT" => self.client.put(path, body).await,
            "DELETE" => self.client.delete(path).await,
            other => panic!("no request is called {other}"),
        };
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}\n{}", self.log()))
    }

    /// Makes a volume; none when its pool has no room for it.
    pub(crate) async fn create_if_there_is_room(&self, request: Value) -> Option<String> {
        match self.client.post::<Value>("/v1/volumes", &request).await {
            Ok(made) => Some(self.created(&made).await),
            Err(CallError::Status {
                status: 422, error, ..
            }) if error.contains("no room") => None,
            Err(error) => panic!("POST {request}: {error:?}\n{}", self.log()),
        }
    }

    /// Makes a volume larger; says whether its pool had room for that.
    pub(crate) async fn extend_if_there_is_room(&self, id: &str, size_gb: u64) -> bool {
        let path = format!("/v1/volumes/{id}/extend");
        match self
            .client
            .put::<Value>(&path, &json!({ "size_gb": size_gb }))
            .await
        {
            Ok(_) => true,
            Err(CallError::Status {
                status: 422, error, ..
            }) if error.contains("no room") => false,
            Err(error) => panic!("PUT {path}: {error:?}\n{}", self.log()),
        }
    }

    /// Asks until `holds` does.
    pub(crate) async fn until(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let (begun, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(50)));
        loop {
            let answer = self.call("GET", path, &Value::Null).await;
            if holds(&answer) {
                return answer;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{path} never {what}: {answer}\n{}",
                self.log()
            );
            ticks.tick().await;
        }
    }

    /// Makes a volume and waits until it is ready; returns its id.
    pub(crate) async fn create(&self, request: Value) -> String {
        let made = self.call("POST", "/v1/volumes", &request).await;
        self.created(&made).await
    }

    async fn created(&self, made: &Value) -> String {
        let id = made["id"].as_str().expect("an id").to_owned();
        self.until(&format!("/v1/volumes/{id}"), "is created", |v| {
            v["state"] == "created"
        })
        .await;
        id
    }

    /// Takes a snapshot and waits until it is in the bucket; returns its id.
    pub(crate) async fn snapshot(&self, volume: &str) -> String {
        let taken = self
            .call("POST", &format!("/v1/volumes/{volume}/snapshots"), &json!({}))
            .await;
        let id = taken["id"].as_str().expect("an id").to_owned();
        self.until(&format!("/v1/snapshots/{id}"), "is created", |s| {
            s["state"] == "created"
        })
        .await;
        id
    }

    pub(crate) async fn mount(&self, volume: &str, at: &Path) {
        let body = json!({ "host_path": at });
        self.call("PUT", &format!("/v1/volumes/{volume}/mount"), &body)
            .await;
    }

    pub(crate) async fn unmount(&self, volume: &str) {
        self.call("DELETE", &format!("/v1/volumes/{volume}/mount"), &Value::Null)
            .await;
    }
}

/// The pools of a test's disk: a thin one and a linear one.
pub(crate) fn pools(guest: &Guest) -> String {
    let pool = |name: &str, kind: &str, thin: &str| {
        format!(
            "[[pools]]\nname = \"{name}\"\nkind = \"{kind}\"\nreserve_bytes = 0\novercommit_ratio = 10.0\n\
             refuse_percent = 99\nwarn_percent = 98\n\
             [pools.lvm]\nvg = \"{}\"\ndevices = [\"{}\"]\nudev = false\n{thin}\n",
            guest.vg(),
            guest.disk().display()
        )
    };
    let thin = "thin_pool = \"pool\"\ncreate = true\ndata_bytes = 536870912\nmetadata_bytes = 8388608\nheadroom_bytes = 67108864\nfull_in_s = 1";
    format!(
        "{}{}",
        pool("thin", "lvm-thin", thin),
        pool("linear", "lvm-linear", "")
    )
}

/// Somebody who writes all the while, and syncs each write.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<std::io::Result<()>>,
}

const BLOCK: usize = 64 << 10;
/// The file is written over and over: what counts is that it goes on.
const FILE_BLOCKS: u64 = 256;

fn block(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK / 8)
}

impl Writer {
    fn start(path: PathBuf) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let file = File::create(path)?;
            while !stopped.load(Ordering::SeqCst) {
                let number = count.load(Ordering::SeqCst);
                let at = number % FILE_BLOCKS * BLOCK as u64;
                std::os::unix::fs::FileExt::write_all_at(&file, &block(number), at)?;
                file.sync_data()?;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self {
            stop,
            written,
            thread,
        }
    }

    /// Waits until it has written once more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while self.written.load(Ordering::SeqCst) == before {
            assert!(!self.thread.is_finished(), "the writer ended");
            ticks.tick().await;
        }
    }

    /// Ends it, and reads back what it wrote; returns how many blocks that was.
    fn end(self, path: &Path) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap().expect("no write and no sync failed");
        let written = self.written.load(Ordering::SeqCst);
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        for (place, found) in bytes.chunks_exact(BLOCK).enumerate() {
            let last = written - 1;
            let place = place as u64;
            let number = last - (last - place) % FILE_BLOCKS;
            assert_eq!(found, block(number), "block {place} of {}", path.display());
        }
        written
    }
}

fn fs_bytes(at: &Path) -> u64 {
    let stat = rustix::fs::statvfs(at).expect("it is mounted");
    stat.f_blocks * stat.f_frsize
}

/// Extends a mounted volume; returns how long it took from the request until `statfs` showed it.
async fn extend(node: &Node<'_>, volume: &str, at: &Path, gb: u64) -> Duration {
    let before = fs_bytes(at);
    let (path, body) = (format!("/v1/volumes/{volume}/extend"), json!({ "size_gb": gb }));
    let begun = Instant::now();
    let request = node.call("PUT", &path, &body);
    let shown = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while fs_bytes(at) < before + (900 << 20) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{volume} never has {gb} GB\n{}",
                node.log()
            );
            ticks.tick().await;
        }
        begun.elapsed()
    };
    let (answer, took) = tokio::join!(request, shown);
    assert_eq!(answer["needs_restart"], false, "{answer}");
    took
}

/// Pool, encryption, file system; the first three are the short set.
const CELLS: [(&str, bool, &str); 6] = [
    ("thin", false, "ext4"),
    ("linear", false, "xfs"),
    ("thin", true, "ext4"),
    ("thin", false, "xfs"),
    ("linear", false, "ext4"),
    ("thin", true, "xfs"),
];

/// Volumes of each kind on the host, extended under load.
pub(crate) fn a_volume_on_the_host_grows_under_load_by_one_request(guest: &Guest) {
    prepare(guest);
    let sizes: &[u64] = if guest.is_long() { &[2, 3, 4, 5, 6] } else { &[2] };
    runtime().block_on(async {
        let node = Node::start(guest, "node", &pools(guest)).await;
        let (mut all, mut text) = (Vec::new(), String::new());
        let few = if guest.is_long() { CELLS.len() } else { 3 };
        for (pool, encrypted, fstype) in &CELLS[..few] {
            let request = json!({
                "app": "shop", "name": "data", "size_gb": 1, "pool": pool, "encrypted": encrypted, "fstype": fstype,
                "auto_backup_enabled": false, "require_unique_zone": false,
            });
            let id = node.create(request).await;
            let at = guest.scratch().join(format!("{pool}-{encrypted}-{fstype}"));
            node.mount(&id, &at).await;
            let writer = Writer::start(at.join("file"));
            let mut seconds = Vec::new();
            for gb in sizes.iter().filter(|gb| *pool == "thin" || **gb <= 3) {
                writer.goes_on().await;
                seconds.push(extend(&node, &id, &at, *gb).await.as_secs_f64());
                writer.goes_on().await;
            }
            let blocks = writer.end(&at.join("file"));
            let kind = if *encrypted { "luks" } else { pool };
            text.push_str(&format!(
                "{kind} {fstype} {seconds:.3?} s, {blocks} blocks written meanwhile\n"
            ));
            all.extend(seconds);
            node.unmount(&id).await;
            node.call("DELETE", &format!("/v1/volumes/{id}"), &Value::Null).await;
        }
        all.sort_by(f64::total_cmp);
        text.push_str(&format!("p50 {:.3} s of {}\n", all[all.len() / 2], all.len()));
        guest.note(&text);
        guest.record("extend-from-api-to-statfs.txt", &text);
        guest.record("extend-volumed.log", &node.log());
    });
}

/// Killed while volumes are in use, then booted without them; snapshots are what the volume was.
pub(crate) fn volumes_on_the_host_outlive_volumed_and_come_back_after_a_boot(guest: &Guest) {
    prepare(guest);
    runtime().block_on(async {
        let mut node = Node::start(guest, "node", &pools(guest)).await;
        let pools = [("thin", true), ("linear", true)];
        for (pool, encrypted) in pools.into_iter().take(if guest.is_long() { 2 } else { 1 }) {
            let request = json!({
                "app": "shop", "name": "data", "size_gb": 1, "pool": pool, "encrypted": encrypted,
                "auto_backup_enabled": false, "require_unique_zone": false,
            });
            let id = node.create(request).await;
            let (at, back_at) = (guest.scratch().join(pool), guest.scratch().join(format!("{pool}-back")));
            node.mount(&id, &at).await;
            File::create(at.join("kept")).unwrap().write_all(&[7; 5 << 20]).unwrap();
            let snapshot = node.snapshot(&id).await;
            guest.must(&format!("rm {}/kept && echo later > {0}/later", at.display()));

            // A guest's writes do not need volumed.
            let writer = Writer::start(at.join("file"));
            node.kill();
            writer.goes_on().await;
            node.again().await;
            writer.goes_on().await;
            writer.end(&at.join("file"));
            // As after a boot: nothing is mounted, nothing is mapped.
            node.kill();
            guest.must(&format!("umount {}; dmsetup remove volumed-v--{id} || dmsetup remove volumed-v-{id}", at.display()));
            node.again().await;
            node.until(&format!("/v1/volumes/{id}"), "is mounted again", |_| at.join("later").exists())
                .await;

            let back = node
                .create(json!({
                    "app": "shop", "name": "back", "snapshot_id": snapshot, "pool": pool, "encrypted": encrypted,
                    "auto_backup_enabled": false, "require_unique_zone": false,
                }))
                .await;
            node.mount(&back, &back_at).await;
            assert_eq!(fs::read(back_at.join("kept")).unwrap(), [7; 5 << 20]);
            assert!(!back_at.join("later").exists());
            for (volume, at) in [(&id, &at), (&back, &back_at)] {
                node.unmount(volume).await;
                assert!(!at.join("kept").exists() && !at.join("later").exists(), "still mounted");
                node.call("DELETE", &format!("/v1/volumes/{volume}"), &Value::Null).await;
            }
        }
        node.until("/v1/volumes", "is empty", |volumes| volumes == &json!([])).await;
        let left = guest.must("lvs --noheadings -o lv_name -S lv_tags=volumed $vg");
        assert_eq!(left.split_whitespace().filter(|name| *name != "pool").count(), 0, "{left}");
    });
}
