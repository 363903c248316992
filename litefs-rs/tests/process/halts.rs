//! Applications on a replica that write.

use std::{
    fs::File,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use litefs_rs::{
    halt::{
        HALT_BYTE,
        wire::{Answer, LASTS_MS, RENEWS, halt_path, tx_path},
    },
    http_client::{Body, RequestError, request, whole},
    sys,
};
use ltx::{Checksum, Encoder, Flags, Header, NodeId, PageSize, Pgno};
use rusqlite::ErrorCode;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    modes::MODES,
    node::Node,
    replicas::{beside, pair},
};

/// As [`pair`], with a primary that lets nobody have a lock for longer without asking again.
fn pair_lasting(lasts: Duration) -> (tempfile::TempDir, Node, tempfile::TempDir, Node) {
    let first = tempfile::tempdir().unwrap();
    let primary = Node::start_lasting(first.path(), lasts);
    beside(first, primary)
}

/// Takes the write lock of a database, for as long as what is returned lives.
pub(crate) fn take(node: &Node, name: &str) -> File {
    let path = node.path(&format!("{name}-lock"));
    let file = File::options().read(true).write(true).open(path).unwrap();
    sys::lock_byte(&file, HALT_BYTE).unwrap();
    file
}

/// Tells whether a writer of a node has to wait.
fn waits(node: &Node, name: &str) -> bool {
    let connection = node.connect(name);
    connection.busy_timeout(Duration::ZERO).unwrap();
    match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy),
                "{error}"
            );
            true
        }
    }
}

fn rows(node: &Node, name: &str) -> i64 {
    let connection = node.connect(name);
    connection
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_replica_writes_in_every_journal_mode_while_the_primary_reads_and_its_writers_wait() {
    let (_first, primary, _second, replica) = pair();
    for mode in MODES {
        primary.shell(mode, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"));
        replica.catch_up(mode, &primary);
        // Open all the time, here and there.
        let (theirs, ours) = (primary.connect(mode), replica.connect(mode));
        let count = |connection: &rusqlite::Connection| -> i64 {
            connection
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .unwrap()
        };
        for round in 0..2 {
            let before = count(&theirs);
            let lock = take(&replica, mode);
            std::thread::scope(|scope| {
                let writer = primary.connect(mode);
                let waiting =
                    scope.spawn(move || writer.execute_batch("INSERT INTO t VALUES ('there')").unwrap());
                for row in 1..=5 {
                    assert!(waits(&primary, mode), "{mode}");
                    ours.execute("INSERT INTO t VALUES (randomblob(9000))", [])
                        .unwrap();
                    // When COMMIT has returned it is there.
                    assert_eq!(primary.pos(mode), replica.pos(mode), "{mode}");
                    assert_eq!(
                        (count(&theirs), rows(&primary, mode)),
                        (before + row, before + row)
                    );
                }
                ours.execute_batch(
                    "PRAGMA cache_size=1; BEGIN; INSERT INTO t SELECT randomblob(5000) FROM t; ROLLBACK",
                )
                .unwrap();
                replica.shell(
                    mode,
                    "UPDATE t SET v = randomblob(100); DELETE FROM t WHERE v = 'nothing'",
                );
                sys::unlock_byte(&lock, HALT_BYTE).unwrap();
                waiting.join().unwrap();
            });
            assert_eq!(count(&theirs), before + 6, "{mode} {round}");
            replica.catch_up(mode, &primary);
            primary.check(mode);
            assert!(ours.execute("INSERT INTO t VALUES (1)", []).is_err(), "{mode}");
        }
        replica.shell(mode, "SELECT count(*) FROM t");
    }
}

#[test]
fn of_replicas_and_a_primary_that_count_together_nobody_overwrites_another() {
    const ROUNDS: i64 = 8;
    let (_first, primary, _second, replica) = pair();
    let third = tempfile::tempdir().unwrap();
    let other = Node::follow(third.path(), &primary);
    for mode in ["DELETE", "WAL"] {
        primary.shell(
            mode,
            &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v); INSERT INTO t VALUES (0)"),
        );
        for node in [&replica, &other] {
            node.catch_up(mode, &primary);
        }
        let count = |connection: &rusqlite::Connection| -> i64 {
            connection
                .query_row("SELECT v FROM t", [], |row| row.get(0))
                .unwrap()
        };
        std::thread::scope(|scope| {
            for node in [&replica, &other] {
                let (connection, path) = (node.connect(mode), node.path(&format!("{mode}-lock")));
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let lock = File::options().read(true).write(true).open(&path).unwrap();
                        sys::lock_byte(&lock, HALT_BYTE).unwrap();
                        // Nothing but the lock keeps others out between the two.
                        let before = count(&connection);
                        connection.execute("UPDATE t SET v = ?", [before + 1]).unwrap();
                        sys::unlock_byte(&lock, HALT_BYTE).unwrap();
                    }
                });
            }
            let connection = primary.connect(mode);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    connection.execute("UPDATE t SET v = v + 1", []).unwrap();
                }
            });
        });
        assert_eq!(count(&primary.check(mode)), 3 * ROUNDS, "{mode}");
        for node in [&replica, &other] {
            node.catch_up(mode, &primary);
        }
    }
}

#[test]
fn a_child_that_was_forked_and_closes_the_lock_does_not_give_it_back() {
    let (_first, primary, _second, replica) = pair();
    primary.shell("a", "CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let lock = take(&replica, "a");
    for _ in 0..3 {
        assert!(Command::new("true").status().unwrap().success());
        assert!(waits(&primary, "a"));
        replica.shell("a", "INSERT INTO t VALUES (1)");
    }
    drop(lock);
    primary.shell("a", "INSERT INTO t VALUES (1)");
    assert_eq!(rows(&primary, "a"), 4);
}

#[test]
fn a_command_runs_with_the_lock_which_ends_with_it_however_that_ends() {
    let (_first, primary, _second, replica) = pair();
    primary.shell("a", "PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let path = replica.path("a");
    let path = path.to_str().unwrap();
    let done = replica.litefs(
        "run",
        &[
            "-with-halt-lock-on",
            path,
            "--",
            "sqlite3",
            path,
            "INSERT INTO t VALUES (1)",
        ],
    );
    assert!(done.status.success(), "{done:?}");
    assert_eq!((primary.pos("a"), rows(&primary, "a")), (replica.pos("a"), 1));
    let mut run = Command::new(env!("CARGO_BIN_EXE_litefs"))
        .args([
            "run",
            "-with-halt-lock-on",
            path,
            "--",
            "sh",
            "-c",
            "echo $$; cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = String::new();
    let mut output = std::io::BufReader::new(run.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut begun).unwrap();
    // Otherwise waiting for its parent closes it, and the command ends.
    let input = run.stdin.take();
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(waits(&primary, "a"), "the command goes on with the lock");
    let shell = Pid::from_raw(begun.trim().parse().unwrap()).unwrap();
    kill_process(shell, Signal::KILL).unwrap();
    drop(input);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    primary.shell("a", "INSERT INTO t VALUES (2)");
    replica.catch_up("a", &primary);
}

#[test]
fn writers_go_on_when_the_replica_that_held_the_lock_is_dead_and_it_goes_on_with_what_counts() {
    let (_first, primary, _second, mut replica) = pair_lasting(Duration::from_secs(6));
    for mode in ["DELETE", "WAL"] {
        primary.shell(mode, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t (v)"));
        replica.catch_up(mode, &primary);
        let lock = take(&replica, mode);
        replica.shell(mode, "INSERT INTO t VALUES (1)");
        let open = replica.connect(mode);
        open.execute_batch(
            "PRAGMA cache_size=1; BEGIN; INSERT INTO t SELECT randomblob(5000) FROM (VALUES (1),(2),(3))",
        )
        .unwrap();
        replica.kill();
        drop((open, lock));
        primary.shell(mode, "INSERT INTO t VALUES (2)");
        assert_eq!(rows(&primary, mode), 2, "{mode}");
        replica.start_again();
        replica.catch_up(mode, &primary);
    }
}

#[test]
fn a_lock_is_renewed_while_it_is_held_and_lost_when_the_primary_is_gone() {
    let lasts = Duration::from_secs(9);
    let (_first, mut primary, _second, replica) = pair_lasting(lasts);
    primary.shell("a", "CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let lock = take(&replica, "a");
    let began = tokio::time::Instant::now();
    // Longer than it lasts.
    while began.elapsed() <= lasts {
        replica.shell("a", "INSERT INTO t VALUES (1)");
    }
    assert!(waits(&primary, "a"));
    primary.kill();
    let open = replica.connect("a");
    let refused = open.execute("INSERT INTO t VALUES (2)", []).unwrap_err();
    assert!(refused.sqlite_error_code().is_some(), "{refused}");
    primary.start_again();
    drop((open, lock));
    primary.shell("a", "INSERT INTO t VALUES (3)");
    replica.catch_up("a", &primary);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Asks as a node of LiteFS does, and returns the status and the body.
fn ask(node: &Node, method: Method, path: &str, body: Vec<u8>) -> (u16, String) {
    runtime().block_on(async {
        let mut headers = HeaderMap::new();
        headers.insert("Litefs-Id", "00000000000000AB".parse().unwrap());
        match request(method, &node.url(), path, headers, whole(body)).await {
            Ok(response) => {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (200, String::from_utf8(body.to_vec()).unwrap())
            }
            Err(RequestError::Status { status, said }) => (status.as_u16(), said),
            Err(error) => panic!("{error}"),
        }
    })
}

/// The transaction after `pos` that writes the user's version into the first page.
fn transaction(node: &Node, name: &str, version: u8) -> Vec<u8> {
    let pos = node.pos(name);
    let database = node.check(name).serialize("main").unwrap().to_vec();
    let mut page = database[..4096].to_vec();
    let before = Checksum::of_page(Pgno::FIRST, &page);
    page[63] = version;
    let after = pos
        .checksum
        .toggle(before)
        .toggle(Checksum::of_page(Pgno::FIRST, &page));
    let header = Header {
        flags: Flags::NONE,
        page_size: PageSize::new(4096).unwrap(),
        commit_pages: u32::try_from(database.len() / 4096).unwrap(),
        min_txid: pos.txid.next().unwrap(),
        max_txid: pos.txid.next().unwrap(),
        timestamp_ms: 1,
        pre_apply: pos.checksum,
        wal: None,
        node: NodeId::new(0xab),
    };
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    encoder.page(Pgno::FIRST, &page).unwrap();
    encoder.finish(after).unwrap().output
}

#[test]
fn a_node_of_litefs_takes_the_lock_brings_transactions_and_gives_it_back_and_nobody_else_does() {
    let (_first, primary, _second, replica) = pair();
    primary.shell("a", "CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let halt = |id: i64| ask(&primary, Method::POST, &halt_path("a", id), Vec::new());
    let release = |id: i64| ask(&primary, Method::DELETE, &halt_path("a", id), Vec::new());
    let bring = |id: i64, bytes: Vec<u8>| ask(&primary, Method::POST, &tx_path("a", id), bytes);
    let tx = transaction(&primary, "a", 5);
    assert_eq!(bring(77, tx.clone()), (500, "halt lock is not held".to_owned()));
    assert_eq!(halt(0).0, 500);
    for (path, expected) in [
        ("/halt?name=a&id=abc", (400, "invalid id: \"abc\"")),
        ("/halt?id=1", (400, "name required")),
    ] {
        let (status, said) = ask(&primary, Method::POST, path, Vec::new());
        assert_eq!((status, said.as_str()), expected, "{path}");
    }
    let on_replica = ask(&replica, Method::POST, &halt_path("a", 1), Vec::new());
    assert_eq!(on_replica, (503, "lease expired".to_owned()));
    let (status, said) = halt(77);
    let answer = Answer::decode(said.as_bytes()).unwrap();
    assert_eq!((status, answer.id, answer.pos), (200, 77, primary.pos("a")));
    assert!(
        answer.expires.ends_with('Z') && said.starts_with("{\"id\":77,\"pos\":{\"TXID\":\""),
        "{said}"
    );
    assert_eq!(
        Answer::decode(halt(77).1.as_bytes()).unwrap().pos,
        answer.pos,
        "it is the same"
    );
    assert!(waits(&primary, "a"));
    assert_eq!(bring(78, tx.clone()).0, 500, "another's");
    assert!(bring(77, tx[..50].to_vec()).1.starts_with("ltx validation error"));
    assert_eq!(bring(77, tx.clone()), (200, String::new()));
    assert_eq!(bring(77, tx.clone()).0, 200, "who was not answered asks again");
    let version = |node: &Node| node.shell("a", "PRAGMA user_version");
    assert_eq!(version(&primary), "5");
    let late = transaction(&primary, "a", 6);
    let mut other = transaction(&primary, "a", 7);
    assert_eq!(bring(77, other.clone()).0, 200);
    assert!(bring(77, late).1.contains("non-sequential"), "it does not follow");
    assert_eq!(release(78).0, 200, "also what is not held");
    assert!(waits(&primary, "a"));
    assert_eq!(release(77), (200, String::new()));
    primary.shell("a", "INSERT INTO t VALUES (1)");
    other = transaction(&primary, "a", 8);
    assert_eq!(
        bring(77, other.clone()),
        (500, "halt lock is not held".to_owned())
    );
    assert_eq!(
        ask(&primary, Method::DELETE, &halt_path("b", 77), Vec::new()).0,
        404
    );
    assert_eq!(version(&primary), "7");
    replica.catch_up("a", &primary);
}

#[test]
fn a_lock_that_nobody_gives_back_ends_and_a_transaction_that_comes_late_is_refused() {
    let (_first, primary, _second, replica) = pair_lasting(Duration::from_secs(2));
    primary.shell("a", "CREATE TABLE t (v)");
    assert_eq!(
        ask(&primary, Method::POST, &halt_path("a", 79), Vec::new()).0,
        200
    );
    let last = transaction(&primary, "a", 9);
    primary.shell("a", "INSERT INTO t VALUES (2)");
    let refused = ask(&primary, Method::POST, &tx_path("a", 79), last);
    assert_eq!(refused, (500, "halt lock is not held".to_owned()));
    replica.catch_up("a", &primary);
    assert_eq!(rows(&replica, "a"), 1);
}

/// What comes between a replica and its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Nothing that LiteFS does not know comes through, either way.
    Litefs,
    /// The answer to the first transaction is lost.
    LosesOneAnswer,
    /// The lock is granted; of all that is asked later the primary hears, and the replica does not hear of it.
    LosesAnswers,
    /// The answer to the first transaction is lost, and when it is brought again the lock is unknown.
    BeganAnew,
}

/// Passes requests on.
struct Proxy {
    _runtime: tokio::runtime::Runtime,
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    fn before(node: &Node, between: Between) -> Self {
        let (runtime, to, asked) = (runtime(), node.url(), Arc::new(Mutex::new(Vec::new())));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, counted) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&counted);
        runtime.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (to, seen) = (to.clone(), Arc::clone(&seen));
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let (to, seen) = (to.clone(), Arc::clone(&seen));
                        async move { pass(between, &to, &seen, request).await }
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            _runtime: runtime,
            url,
            asked,
            connections: counted,
        }
    }

    /// What was asked, streams apart.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap().clone();
        asked.into_iter().filter(|line| line != "POST /stream").collect()
    }
}

/// Passes a request on; an error breaks it off.
async fn pass(
    between: Between,
    to: &str,
    seen: &Mutex<Vec<String>>,
    request_in: Request<Incoming>,
) -> std::io::Result<Response<Body>> {
    let path = request_in.uri().path_and_query().unwrap().to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in request_in.headers() {
        let known = ["litefs-id", "host", "content-length"].contains(&name.as_str());
        if between == Between::Litefs && !known {
            seen.lock().unwrap().push(format!("header {name}"));
        }
        if name.as_str().starts_with("litefs-") {
            headers.insert(name, value.clone());
        }
    }
    let method = request_in.method().clone();
    let line = format!("{method} {}", request_in.uri().path());
    let again = {
        let mut seen = seen.lock().unwrap();
        let again = seen.contains(&line);
        seen.push(line.clone());
        again
    };
    let body = request_in.into_body().map_err(std::io::Error::other).boxed();
    let answered = request(method, to, &path, headers, body).await;
    let with_status = |status, said: String| {
        let mut response = Response::new(whole(said));
        *response.status_mut() = status;
        response
    };
    match (between, line.as_str()) {
        (Between::LosesOneAnswer | Between::BeganAnew, "POST /tx") if !again => {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        (Between::BeganAnew, "POST /tx") => {
            let said = "halt lock is not held".to_owned();
            return Ok(with_status(StatusCode::INTERNAL_SERVER_ERROR, said));
        }
        (Between::LosesAnswers, "POST /tx") => {
            return Ok(with_status(StatusCode::BAD_GATEWAY, "lost".to_owned()));
        }
        (Between::LosesAnswers, "POST /halt") if again => {
            return Ok(with_status(StatusCode::BAD_GATEWAY, "lost".to_owned()));
        }
        _ => {}
    }
    Ok(match answered {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            if between == Between::Litefs {
                parts.headers.remove(LASTS_MS);
                parts.headers.remove("litefs-epoch");
            }
            Response::from_parts(parts, body.map_err(std::io::Error::other).boxed())
        }
        Err(RequestError::Status { status, said }) => with_status(status, said),
        Err(error) => with_status(StatusCode::BAD_GATEWAY, error.to_string()),
    })
}

fn pair_with(between: Between) -> (tempfile::TempDir, Node, tempfile::TempDir, Node, Proxy) {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let primary = Node::start(first.path());
    let proxy = Proxy::before(&primary, between);
    let replica = Node::follow_url(second.path(), &proxy.url);
    (first, primary, second, replica, proxy)
}

#[test]
fn a_primary_that_says_what_litefs_says_is_asked_for_nothing_else() {
    let (_first, primary, _second, replica, proxy) = pair_with(Between::Litefs);
    primary.shell("a", "PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let lock = take(&replica, "a");
    replica.shell("a", "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)");
    sys::unlock_byte(&lock, HALT_BYTE).unwrap();
    assert_eq!((primary.pos("a"), rows(&primary, "a")), (replica.pos("a"), 2));
    assert_eq!(
        proxy.asked(),
        ["POST /halt", "POST /tx", "POST /tx", "DELETE /halt"],
        "no {RENEWS}"
    );
    // One for the stream, one for the rest.
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_transaction_whose_answer_was_lost_is_brought_again_and_counts_once() {
    let (_first, primary, _second, replica, proxy) = pair_with(Between::LosesOneAnswer);
    primary.shell("a", "PRAGMA journal_mode=WAL; CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let lock = take(&replica, "a");
    replica.shell("a", "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)");
    drop(lock);
    assert_eq!(primary.pos("a"), replica.pos("a"));
    assert_eq!((rows(&primary, "a"), rows(&replica, "a")), (2, 2));
    let brought = proxy.asked().iter().filter(|line| *line == "POST /tx").count();
    assert_eq!(brought, 3);
}

#[test]
fn a_transaction_of_which_nobody_says_whether_it_counts_fails_and_comes_back_with_the_stream() {
    fails_and_comes_back(Between::LosesAnswers);
}

#[test]
fn a_transaction_of_a_lock_that_a_primary_forgot_fails_and_comes_back_with_the_stream() {
    fails_and_comes_back(Between::BeganAnew);
}

fn fails_and_comes_back(between: Between) {
    let (_first, primary, _second, replica, _proxy) = pair_with(between);
    primary.shell("a", "CREATE TABLE t (v)");
    replica.catch_up("a", &primary);
    let lock = take(&replica, "a");
    let open = replica.connect("a");
    let refused = open.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
    assert!(refused.sqlite_error_code().is_some(), "{refused}");
    drop((open, lock));
    replica.catch_up("a", &primary);
    assert_eq!((rows(&primary, "a"), rows(&replica, "a")), (1, 1));
    primary.shell("a", "INSERT INTO t VALUES (2)");
    replica.catch_up("a", &primary);
}
