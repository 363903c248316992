//! The proxy in front of an application that uses a database of the mount.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use rusqlite::Connection;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use tokio::time::Instant;

use crate::node::{Node, PATIENCE};

/// An application: it counts rows, adds one, sends in parts, or becomes an echo.
struct App {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    parts: mpsc::Sender<&'static str>,
    /// Requests that are answered with an error of the server, whatever they ask for.
    fails: Arc<AtomicUsize>,
}

impl App {
    /// Starts one on a database that need not be there yet.
    fn start(database: PathBuf) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), database)
    }

    fn on(listener: TcpListener, database: PathBuf) -> Self {
        let address = listener.local_addr().unwrap();
        let (asked, fails) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let (parts, received) = mpsc::channel();
        let received = Arc::new(Mutex::new(received));
        let (seen, failing) = (Arc::clone(&asked), Arc::clone(&fails));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (database, seen) = (database.clone(), Arc::clone(&seen));
                let (received, failing) = (Arc::clone(&received), Arc::clone(&failing));
                std::thread::spawn(move || {
                    // A client that goes away in the midst of it is none of the application's.
                    let _gone = answer(stream, &database, &seen, &received, &failing);
                });
            }
        });
        Self {
            address,
            asked,
            parts,
            fails,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What stands in a node's configuration.
    fn keys(&self, more: &str) -> String {
        format!("target: \"{}\", db: a{more}", self.address)
    }
}

fn answer(
    stream: TcpStream,
    database: &std::path::Path,
    seen: &Mutex<Vec<String>>,
    parts: &Mutex<mpsc::Receiver<&'static str>>,
    failing: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        let len = lines
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
        reader.read_exact(&mut body)?;
        let line = lines[0].trim_end_matches(" http/1.1").to_owned();
        let host = lines.iter().find_map(|line| line.strip_prefix("host: "));
        seen.lock()
            .unwrap()
            .push(format!("{line} {}", host.unwrap_or("")));
        let run = |add: bool| -> rusqlite::Result<i64> {
            let connection = Connection::open(database)?;
            connection.busy_timeout(PATIENCE)?;
            if add {
                connection.execute("INSERT INTO t (v) VALUES (1)", [])?;
            }
            connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        };
        let (status, said) = match line.as_str() {
            "get /parts" => {
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for part in parts.lock().unwrap().iter() {
                    write!(stream, "{:x}\r\n{part}\r\n", part.len())?;
                    if part.is_empty() {
                        break;
                    }
                }
                continue;
            }
            "get /echo" => {
                write!(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                )?;
                std::io::copy(&mut reader, &mut stream)?;
                return Ok(());
            }
            line => match run(line.ends_with("/add")) {
                _ if failing.load(Ordering::SeqCst) > 0 => (500, "fails".to_owned()),
                Ok(count) => (200, count.to_string()),
                Err(error) => (500, error.to_string()),
            },
        };
        write!(
            stream,
            "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nKeep-Alive: timeout=5\r\n\r\n{said}",
            said.len()
        )?;
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The cookie as the next request sends it.
    fn cookie(&self) -> Option<String> {
        let line = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))?;
        let (cookie, rest) = line.split_once(';').unwrap();
        assert!(
            rest.starts_with(" Path=/; Expires=") && rest.ends_with(" GMT; HttpOnly"),
            "{line}"
        );
        Some(cookie.to_owned())
    }
}

/// Asks with HTTP/1.0, so that the answer ends with the connection.
fn ask(at: SocketAddr, line: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{line} HTTP/1.0\r\nHost: app.example\r\n{headers}\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split_whitespace().nth(1).unwrap().parse().unwrap(),
        head: head.replace("\r\n", "\n"),
        body: body.to_owned(),
    }
}

/// A primary and a replica with an application each.
struct Pair {
    primary: Node,
    primary_app: App,
    primary_at: SocketAddr,
    replica: Node,
    replica_app: App,
    replica_at: SocketAddr,
    _roots: [tempfile::TempDir; 2],
}

impl Pair {
    fn start(replica_keys: &str) -> Self {
        let roots = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let primary_app = App::start(roots[0].path().join("mnt/a"));
        let primary = Node::behind_proxy(roots[0].path(), None, &primary_app.keys(""));
        let primary_at = primary.proxy();
        primary.shell("a", "PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
        let replica_app = App::start(roots[1].path().join("mnt/a"));
        let keys = replica_app.keys(&format!(", primary-port: {}{replica_keys}", primary_at.port()));
        let replica = Node::behind_proxy(roots[1].path(), Some(&primary), &keys);
        let replica_at = replica.proxy();
        replica.catch_up("a", &primary);
        Self {
            primary,
            primary_app,
            primary_at,
            replica,
            replica_app,
            replica_at,
            _roots: roots,
        }
    }
}

#[test]
fn a_client_reads_what_it_wrote_on_whichever_node_it_comes_to() {
    let pair = Pair::start("");
    for count in 1..=30 {
        let written = ask(pair.replica_at, "POST /add", "Content-Length: 0\r\n");
        assert_eq!(
            (written.status, written.body.as_str()),
            (200, count.to_string().as_str())
        );
        let cookie = written.cookie().unwrap();
        assert_eq!(cookie, format!("__txid={}", pair.primary.pos("a").txid));
        let read = ask(
            pair.replica_at,
            "GET /count",
            &format!("Cookie: x=y; {cookie}\r\n"),
        );
        assert_eq!(read.body, count.to_string());
        assert_eq!(read.cookie(), None);
    }
    let asked = |app: &App, line: &str| app.asked().iter().filter(|asked| *asked == line).count();
    assert_eq!(
        asked(&pair.primary_app, "post /add app.example"),
        30,
        "with the client's own host"
    );
    assert_eq!(asked(&pair.replica_app, "get /count app.example"), 30);
    assert_eq!(pair.replica_app.asked().len(), 30);
    let here = ask(pair.primary_at, "POST /add", "Content-Length: 0\r\n");
    assert_eq!((here.body.as_str(), here.cookie().is_some()), ("31", true));
    assert!(!here.head.contains("keep-alive: timeout"), "{}", here.head);
}

#[test]
fn a_read_that_turns_out_to_write_is_made_at_the_primary() {
    let pair = Pair::start("");
    let written = ask(pair.replica_at, "GET /add", "");
    assert_eq!((written.status, written.body.as_str()), (200, "1"));
    assert_eq!(pair.replica_app.asked(), ["get /add app.example"]);
    assert_eq!(pair.primary_app.asked(), ["get /add app.example"]);
    // What fails everywhere fails once at each.
    pair.primary_app.fails.store(1, Ordering::SeqCst);
    let failed = ask(pair.replica_at, "GET /add", "");
    assert_eq!((failed.status, failed.body.as_str()), (500, "fails"));
    assert_eq!(pair.primary_app.asked().len(), 2);
    // With nobody to ask, what the application here said is the answer.
    let mut primary = pair.primary;
    assert_eq!(primary.stop(), Some(0));
    let alone = ask(pair.replica_at, "GET /add", "");
    assert!(alone.status == 500 && alone.body != "fails", "{alone:?}");
    let refused = ask(pair.replica_at, "POST /add", "Content-Length: 0\r\n");
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.body.starts_with("Proxy error: "), "{refused:?}");
}

#[test]
fn a_read_waits_for_what_its_client_wrote_and_not_for_ever() {
    let pair = Pair::start("");
    let ahead = pair.primary.pos("a").txid.get() + 1;
    let headers = format!("Cookie: __txid={ahead:016x}\r\n");
    let (at, sent) = (pair.replica_at, headers.clone());
    let waits = std::thread::spawn(move || ask(at, "GET /count", &sent));
    pair.primary.shell("a", "INSERT INTO t VALUES (7)");
    let waited = waits.join().unwrap();
    assert_eq!((waited.status, waited.body.as_str()), (200, "1"));
    let began = Instant::now();
    let headers = format!("Cookie: __txid={:016x}\r\n", ahead + 1);
    let refused = ask(pair.replica_at, "GET /count", &headers);
    assert_eq!((refused.status, refused.body.as_str()), (504, "Proxy timeout"));
    assert!(began.elapsed() >= Duration::from_secs(5));
    let passed = ask(pair.replica_at, "GET /count", "Cookie: __txid=nonsense\r\n");
    assert_eq!(passed.status, 200);
}

#[test]
fn a_platform_that_brings_requests_to_nodes_is_told_the_node_and_paths_go_their_own_ways() {
    let more = ", redirect: replay, passthrough: ['*.png'], always-forward: ['/admin/*'], cookie-name: seen, \
                primary-redirect-timeout: 50ms";
    let pair = Pair::start(more);
    for line in ["POST /add", "GET /admin/x"] {
        let told = ask(pair.replica_at, line, "Content-Length: 0\r\n");
        assert_eq!((told.status, told.body.as_str()), (200, ""));
        assert!(
            told.head.contains("\nfly-replay: instance=primary"),
            "{}",
            told.head
        );
    }
    // Another node took this one for the primary: nobody carries it in a circle.
    let brought = "Content-Length: 0\r\nLitefs-Proxied: 1\r\n";
    let refused = ask(pair.replica_at, "POST /add", brought);
    let said = "Proxy error: no primary available";
    assert_eq!((refused.status, refused.body.as_str()), (503, said));
    let passed = ask(pair.replica_at, "POST /x.png", "Content-Length: 0\r\n");
    assert_eq!((passed.status, passed.cookie()), (200, None));
    let ahead = "Cookie: __txid=00000000000fffff\r\n";
    assert_eq!(
        ask(pair.replica_at, "GET /count", ahead).status,
        200,
        "another cookie"
    );
    assert_eq!(
        pair.replica_app.asked(),
        ["post /x.png app.example", "get /count app.example"]
    );
    let health = ask(pair.replica_at, "GET /litefs/health", "");
    assert_eq!((health.status, health.body.as_str()), (200, "OK\n"));
    assert!(pair.primary_app.asked().is_empty());
    drop(pair.replica);
}

#[test]
fn parts_are_passed_on_as_they_come_and_a_connection_becomes_what_it_wants_to_be() {
    let pair = Pair::start("");
    let open = |at: SocketAddr, request: &str| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let until = |reader: &mut BufReader<TcpStream>, part: &str| {
        let mut said = String::new();
        while !said.contains(part) {
            assert!(reader.read_line(&mut said).unwrap() > 0, "{part} in {said:?}");
        }
    };
    let mut parts = open(pair.replica_at, "GET /parts HTTP/1.1\r\nHost: x\r\n\r\n");
    for part in ["one\n", "two\n"] {
        // The next is not even made before this has come.
        pair.replica_app.parts.send(part).unwrap();
        until(&mut parts, part);
    }
    pair.replica_app.parts.send("").unwrap();
    until(&mut parts, "0\r\n");
    for at in [pair.replica_at, pair.primary_at] {
        let mut echo = open(
            at,
            "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        until(&mut echo, "101 Switching Protocols");
        until(&mut echo, "\r\n\r\n");
        for word in ["hello\n", "again\n"] {
            echo.get_mut().write_all(word.as_bytes()).unwrap();
            until(&mut echo, word);
        }
    }
}

#[test]
fn an_application_that_starts_later_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    // Bound, so that nobody else gets the port, and not listened at: whoever connects is refused.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let node = Node::behind_proxy(root.path(), None, &format!("target: \"{address}\", db: a"));
    node.shell("a", "CREATE TABLE t (v)");
    let mut asks = TcpStream::connect(node.proxy()).unwrap();
    asks.write_all(b"GET /count HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    asks.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let nothing = asks.read(&mut [0; 64]).unwrap_err();
    assert_eq!(
        nothing.kind(),
        std::io::ErrorKind::WouldBlock,
        "no answer without the application"
    );
    listen(&listener, 16).unwrap();
    let app = App::on(listener, node.path("a"));
    asks.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    asks.read_to_string(&mut said).unwrap();
    assert!(said.contains(" 200 ") && said.ends_with("\r\n\r\n0"), "{said}");
    assert_eq!(app.asked().len(), 1);
}
