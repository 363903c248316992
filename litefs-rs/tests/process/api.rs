//! What a node answers, word for word: peers and users of LiteFS go by it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use crate::node::Node;

/// Makes a request over HTTP/1.1 and returns the status with the header, and the body.
fn ask(node: &Node, method: &str, path: &str, headers: &str) -> (String, String) {
    let url = node.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[test]
fn refusals_have_the_status_and_the_words_that_peers_know() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let primary = Node::start(first.path());
    let replica = Node::follow(second.path(), &primary);
    // Then it knows its cluster.
    replica.wait_for("connected to the primary");
    for (node, method, path, status, body) in [
        (&primary, "GET", "/nothing", "404", "404 page not found\n"),
        (&primary, "PUT", "/info", "405", "method not allowed\n"),
        (&primary, "POST", "/stream", "426", "Upgrade to HTTP/2 required\n"),
        (
            &primary,
            "GET",
            "/export?name=nothing",
            "404",
            "database not found\n",
        ),
        (&primary, "GET", "/export", "400", "name required\n"),
        (&primary, "POST", "/import", "400", "name required\n"),
        (
            &primary,
            "POST",
            "/import?name=a",
            "400",
            "import: not a sqlite database\n",
        ),
        (&replica, "POST", "/import?name=a", "503", "lease expired\n"),
        (
            &replica,
            "POST",
            "/promote",
            "409",
            "not eligible to become primary\n",
        ),
        (&primary, "POST", "/promote", "200", ""),
        (
            &primary,
            "POST",
            "/handoff?nodeID=0000000000000001",
            "500",
            "cannot handoff: static lease does not support handoff\n",
        ),
    ] {
        let (head, said) = ask(node, method, path, "");
        assert!(
            head.starts_with(&format!("http/1.1 {status} ")),
            "{method} {path}: {head}"
        );
        assert_eq!(said, body, "{method} {path}");
        assert!(
            head.contains("litefs-id: ") && head.contains("litefs-cluster-id: lfsc"),
            "{head}"
        );
        if !matches!(status, "200") {
            assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        }
    }
}

#[test]
fn a_node_says_who_it_is_and_counts_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path());
    node.shell("a", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    let (head, info) = ask(&node, "GET", "/info", "");
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["isPrimary"], &info["candidate"]),
        (&true.into(), &true.into())
    );
    assert_eq!(info["primary"]["hostname"], "primary");
    assert!(info["clusterID"].as_str().unwrap().starts_with("LFSC"));
    let (head, metrics) = ask(&node, "GET", "/metrics", "");
    assert!(!head.contains("litefs-id"), "{head}");
    for line in [
        "litefs_db_count 1",
        "litefs_is_primary 1",
        "litefs_lag_seconds 0.000",
        "litefs_db_txid{db=\"a\"} 2",
        "litefs_db_ltx_count{db=\"a\"} 2",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} in {metrics}");
    }
}

#[test]
fn a_listener_is_told_of_every_transaction_in_its_order() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::start(root.path());
    let url = node.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut event = || -> serde_json::Value {
        let line = lines.find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let init = event();
    assert_eq!(
        (&init["type"], &init["data"]["isPrimary"]),
        (&"init".into(), &true.into())
    );
    node.shell("a", "CREATE TABLE t (v); INSERT INTO t VALUES (1)");
    for txid in 1..=2 {
        let told = event();
        assert_eq!(
            (&told["type"], &told["db"]),
            (&"tx".into(), &"a".into()),
            "{told}"
        );
        assert_eq!(told["data"]["txID"], format!("{txid:016x}"));
        assert_eq!(
            (&told["data"]["pageSize"], &told["data"]["commit"]),
            (&4096.into(), &2.into())
        );
    }
    assert_eq!(node.pos("a").txid.get(), 2);
}
