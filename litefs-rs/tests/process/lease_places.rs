//! Where leases are kept: a bucket of this process, or etcd.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    time::Duration,
};

use crashsafe::RealDisk;
use lease::{EtcdConfig, Gateway as _, HttpGateway};
use s3_endpoint::{Endpoint, EndpointConfig, Listener};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::node::{Node, PATIENCE};

/// Where leases are kept, for as long as this lives.
pub(crate) trait Place {
    /// Returns the keys of the file.
    fn keys(&self) -> String;

    /// Nobody answers any more.
    fn stop(&mut self);

    /// Somebody answers again, and knows what was written.
    fn start(&mut self);

    /// Starts a node whose lease is kept there.
    fn node(&self, root: &Path) -> Node {
        self.node_with(root, "")
    }

    /// Starts a node whose lease is kept there.
    ///
    /// * `more`: keys of its lease.
    fn node_with(&self, root: &Path, more: &str) -> Node {
        let keys = format!("hostname: \"127.0.0.1\", {more} {}", self.keys());
        let mut node = Node::under(root, &keys);
        node.start_again();
        node
    }
}

/// A bucket of this process.
pub(crate) struct Bucket {
    runtime: Option<Runtime>,
    root: tempfile::TempDir,
    address: SocketAddr,
    ttl: Duration,
    credentials: [String; 2],
}

impl Bucket {
    pub(crate) fn new(ttl: Duration) -> Self {
        let mut bucket = Self {
            runtime: None,
            root: tempfile::tempdir().unwrap(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ttl,
            credentials: [String::new(), String::new()],
        };
        bucket.start();
        bucket
    }
}

impl Place for Bucket {
    fn keys(&self) -> String {
        let [id, secret] = &self.credentials;
        format!(
            "type: object, object: {{ endpoint: \"http://{}\", bucket: leases, ttl: {}ms, access-key-id: \"{id}\", \
             secret-access-key: \"{secret}\" }}",
            self.address,
            self.ttl.as_millis(),
        )
    }

    fn stop(&mut self) {
        self.runtime = None;
    }

    fn start(&mut self) {
        let config = EndpointConfig::new(self.root.path(), "leases");
        let endpoint = Endpoint::open(config, Arc::new(RealDisk)).unwrap();
        let credential = endpoint.credentials().root().unwrap();
        self.credentials = [credential.access_key_id, credential.secret_access_key];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(self.address))
            .unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            endpoint
                .serve(Listener::Tcp(listener), CancellationToken::new())
                .await
        });
        self.runtime = Some(runtime);
    }
}

/// An etcd of one member.
pub(crate) struct Etcd {
    root: tempfile::TempDir,
    address: SocketAddr,
    encrypts: bool,
    child: Option<Child>,
    ttl: Duration,
}

impl Etcd {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self::with(ttl, false)
    }

    /// Starts one that encrypts, with a certificate that it makes itself.
    pub(crate) fn encrypting(ttl: Duration) -> Self {
        Self::with(ttl, true)
    }

    fn with(ttl: Duration, encrypts: bool) -> Self {
        let mut etcd = Self {
            root: tempfile::tempdir().unwrap(),
            address: free_address(),
            encrypts,
            child: None,
            ttl,
        };
        etcd.start();
        etcd
    }

    /// Returns where it is.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.encrypts { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns the certificate that it made.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.root.path().join("data/fixtures/client/cert.pem")
    }

    /// From now on it wants to know who asks, and lets one user beside `root` write everything.
    pub(crate) fn demand(&self, user: &str, password: &str) {
        let mut config = EtcdConfig::new(&[self.url()], "lease", self.ttl).unwrap();
        config.tls.ca = self.encrypts.then(|| self.certificate());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let gateway = HttpGateway::new(&config).unwrap();
            // From the first byte to the end of all keys.
            let everything = json!({ "permType": "READWRITE", "key": "AA==", "range_end": "AA==" });
            for (path, question) in [
                ("/v3/auth/user/add", json!({ "name": "root", "password": "root" })),
                ("/v3/auth/role/add", json!({ "name": "root" })),
                ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
                ("/v3/auth/user/add", json!({ "name": user, "password": password })),
                ("/v3/auth/role/add", json!({ "name": user })),
                ("/v3/auth/role/grant", json!({ "name": user, "perm": everything })),
                ("/v3/auth/user/grant", json!({ "user": user, "role": user })),
                ("/v3/auth/enable", json!({})),
            ] {
                let body = question.to_string().into();
                let (status, answer) = gateway.post(0, path, None, body).await.unwrap();
                assert_eq!(status, 200, "{path}: {answer:?}");
            }
        });
    }
}

impl Place for Etcd {
    fn keys(&self) -> String {
        let (url, ttl_ms) = (self.url(), self.ttl.as_millis());
        format!("type: etcd, etcd: {{ endpoints: [\"{url}\"], ttl: {ttl_ms}ms }}")
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn start(&mut self) {
        // Nobody but itself is a peer: a socket in its directory.
        let peers = "unix://peers:1";
        let mut command = Command::new("etcd");
        command.current_dir(self.root.path()).args([
            "--name=alone",
            "--data-dir=data",
            "--logger=zap",
            "--log-outputs=stderr",
            &format!("--listen-client-urls={}", self.url()),
            &format!("--advertise-client-urls={}", self.url()),
            &format!("--listen-peer-urls={peers}"),
            &format!("--initial-advertise-peer-urls={peers}"),
            &format!("--initial-cluster=alone={peers}"),
        ]);
        if self.encrypts {
            command.arg("--auto-tls");
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        let (serves, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            // To its end: nobody writes into a pipe that is full.
            for line in said.lines().map_while(Result::ok) {
                if line.contains("serving client traffic") {
                    let _gone = serves.send(Ok(()));
                }
                lines.push(line);
            }
            let _served = serves.send(Err(lines));
        });
        match wait.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(lines)) => panic!("etcd ended: {lines:#?}"),
            Err(error) => panic!("etcd did not start: {error}"),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds a port on an address that is this process's alone, so that nobody takes it before it is used. Etcd's own gateway cannot do
/// with a port that the system chooses.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}
