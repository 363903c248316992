//! A node in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use ltx::{Checksum, PageSize, Pgno, Pos};
use rusqlite::Connection;
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

const SERVES: &str = "serves databases";
/// How often something is looked at that nothing tells of.
pub(crate) const LOOK: Duration = Duration::from_millis(2);
/// Far more than any start takes: a node that says nothing is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a machine stands still that has other things to do.
const HALT_LASTS: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    root: PathBuf,
    child: Option<Child>,
    /// Where its API is, once it has started.
    address: Option<String>,
    /// The primary's, of a replica.
    primary: Option<String>,
    /// Who is primary, where that changes: the keys of the file.
    lease: Option<String>,
    /// How long a replica has the write lock of a database of its.
    halt_lasts: Duration,
    /// The keys of its proxy in the file.
    proxy: Option<String>,
    /// What it says.
    lines: Option<mpsc::Receiver<String>>,
}

impl Node {
    /// Starts a primary on `root`, and waits until it serves.
    pub(crate) fn start(root: &Path) -> Self {
        Self::start_lasting(root, HALT_LASTS)
    }

    /// Starts a primary on `root` that lets nobody have a write lock for longer without asking again.
    pub(crate) fn start_lasting(root: &Path, halt_lasts: Duration) -> Self {
        Self::with(root, None, halt_lasts)
    }

    /// Starts a replica on `root`.
    pub(crate) fn follow(root: &Path, primary: &Self) -> Self {
        Self::with(root, Some(primary.url()), HALT_LASTS)
    }

    /// Starts a replica on `root` whose primary is there.
    pub(crate) fn follow_url(root: &Path, primary: &str) -> Self {
        Self::with(root, Some(primary.to_owned()), HALT_LASTS)
    }

    fn with(root: &Path, primary: Option<String>, halt_lasts: Duration) -> Self {
        let mut node = Self {
            root: root.to_path_buf(),
            child: None,
            address: None,
            primary,
            lease: None,
            halt_lasts,
            proxy: None,
            lines: None,
        };
        node.start_again();
        node
    }

    /// Starts a node with a proxy in front of its application.
    ///
    /// * `keys`: of the proxy, but where it listens.
    pub(crate) fn behind_proxy(root: &Path, primary: Option<&Self>, keys: &str) -> Self {
        let mut node = Self::under(root, "");
        node.lease = None;
        node.proxy = Some(keys.to_owned());
        node.primary = primary.map(Self::url);
        node.start_again();
        node
    }

    /// Returns where its proxy listens.
    pub(crate) fn proxy(&self) -> std::net::SocketAddr {
        let line = self.wait_for("proxy listens");
        let address = line.split("address=").nth(1).unwrap();
        address.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Prepares a node whose lease is as those keys of the file say.
    pub(crate) fn under(root: &Path, lease: &str) -> Self {
        Self {
            root: root.to_path_buf(),
            child: None,
            address: None,
            primary: None,
            lease: Some(lease.to_owned()),
            halt_lasts: HALT_LASTS,
            proxy: None,
            lines: None,
        }
    }

    /// Returns the number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Returns where its API is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address.as_deref().unwrap())
    }

    fn configure(&self) {
        let fixed = format!(
            "type: \"static\", hostname: \"primary\", advertise-url: \"{}\", candidate: {}",
            self.primary.as_deref().unwrap_or("http://127.0.0.1:1"),
            self.primary.is_none(),
        );
        let lease = self.lease.as_deref().unwrap_or(&fixed);
        let config = format!(
            "fuse: {{ dir: \"{root}/mnt\" }}\ndata: {{ dir: \"{root}/data\" }}\nhttp: {{ addr: \"{address}\" }}\n\
             skip-sync: true\nlease: {{ {lease}, reconnect-delay: 20ms, halt-lock-ttl: {halt_ms}ms }}\n{proxy}",
            proxy = self.proxy.as_ref().map_or_else(String::new, |keys| format!(
                "proxy: {{ addr: \"127.0.0.1:0\", {keys} }}\n"
            )),
            halt_ms = self.halt_lasts.as_millis(),
            root = self.root.display(),
            address = self.address.as_deref().unwrap_or("127.0.0.1:0"),
        );
        #[allow(clippy::disallowed_methods, reason = "a test's file")]
        std::fs::write(self.root.join("litefs.yml"), config).unwrap();
    }

    /// Starts the node again that has ended.
    pub(crate) fn start_again(&mut self) {
        self.configure();
        // A long run keeps its program while another is built.
        let program = std::env::var_os("LITEFS_PROGRAM");
        let mut child = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_litefs").into()))
            .arg("mount")
            .arg("-config")
            .arg(self.root.join("litefs.yml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        let (serves, wait) = mpsc::channel();
        let (says, lines) = mpsc::channel();
        self.lines = Some(lines);
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in said.lines().map_while(Result::ok) {
                if line.contains(SERVES) {
                    let address = line.rsplit("address=").next().unwrap_or("").to_owned();
                    let _gone = serves.send(Ok(address));
                }
                let _gone = says.send(line.clone());
                lines.push(line);
            }
            let _served = serves.send(Err(lines));
        });
        match wait.recv_timeout(PATIENCE) {
            Ok(Ok(address)) => self.address = Some(address),
            Ok(Err(lines)) => panic!("the node ended: {lines:#?}"),
            Err(error) => panic!("the node did not start: {error}"),
        }
    }

    /// Kills the node as nothing can be caught.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the node to stop, and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        child.wait().unwrap().code()
    }

    pub(crate) fn mount(&self) -> PathBuf {
        self.root.join("mnt")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mount().join(name)
    }

    /// Returns the epoch of the last primary of whom the node had everything, or its own.
    pub(crate) fn epoch(&self) -> u64 {
        let text = std::fs::read_to_string(self.root.join("data/epoch")).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Returns the directory that holds a database.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join("data/dbs").join(name)
    }

    pub(crate) fn connect(&self, name: &str) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection
    }

    /// Runs statements in a `sqlite3` of its own and returns what it says.
    pub(crate) fn shell(&self, name: &str, sql: &str) -> String {
        let output = Command::new("sqlite3")
            .arg("-bail")
            .arg("-cmd")
            .arg(".timeout 30000")
            .arg(self.path(name))
            .arg(sql)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns the position that applications read.
    pub(crate) fn pos(&self, name: &str) -> Pos {
        let text = std::fs::read_to_string(self.path(&format!("{name}-pos"))).unwrap();
        text.trim().parse().unwrap()
    }

    /// Waits until a database is where it is on another node, and checks that it is the same.
    pub(crate) fn catch_up(&self, name: &str, primary: &Self) {
        let began = tokio::time::Instant::now();
        let theirs = primary.pos(name);
        while self.try_pos(name) != Some(theirs) {
            let waited = began.elapsed();
            assert!(
                waited < PATIENCE,
                "{name}: {:?} and not {theirs}",
                self.try_pos(name)
            );
            // Nothing tells a reader of the file when it changes.
            std::thread::park_timeout(LOOK);
        }
        self.check(name);
    }

    /// Waits until the node says something, and returns the line.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let lines = self.lines.as_ref().unwrap();
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Returns the position, if the database is there.
    pub(crate) fn try_pos(&self, name: &str) -> Option<Pos> {
        let text = std::fs::read_to_string(self.path(&format!("{name}-pos"))).ok()?;
        text.trim().parse().ok()
    }

    /// Runs another command of the program on this node.
    pub(crate) fn litefs(&self, command: &str, args: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_litefs"))
            .args([command, "-url", &self.url()])
            .args(args)
            .output()
            .unwrap()
    }

    /// Checks that a database is sound, and is what its position says.
    pub(crate) fn check(&self, name: &str) -> Connection {
        let mut connection = self.connect(name);
        let said: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(said, "ok", "{name}");
        connection.execute_batch("BEGIN").unwrap();
        let _locked: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        let pos = self.pos(name);
        let page_bytes: u32 = connection
            .query_row("PRAGMA page_size", [], |row| row.get(0))
            .unwrap();
        let bytes = connection.serialize("main").unwrap().to_vec();
        assert_eq!(pos.checksum, checksum(page_bytes, &bytes), "{name}");
        connection.execute_batch("COMMIT").unwrap();
        connection
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        while unmount(self.mount(), UnmountFlags::DETACH).is_ok() {}
    }
}

/// What the pages of a database add up to.
fn checksum(page_bytes: u32, bytes: &[u8]) -> Checksum {
    let page_size = PageSize::new(page_bytes).unwrap();
    let pages = bytes.chunks(page_size.as_usize()).zip(1..);
    pages.fold(Checksum::EMPTY_DATABASE, |sum, (page, number)| {
        let pgno = Pgno::new(number).unwrap();
        if pgno == page_size.lock_page() {
            sum
        } else {
            sum.toggle(Checksum::of_page(pgno, page))
        }
    })
}
