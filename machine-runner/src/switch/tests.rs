use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::address::{HostId, NetworkId, allocate, mac_of};
use super::*;

/// A running switch.
struct Running {
    open: watch::Receiver<BTreeSet<String>>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SwitchError>>,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let shutdown = CancellationToken::new();
        let driver = Driver::start(dir, shutdown.clone()).unwrap();
        let open = driver.open_ports();
        Self {
            open,
            shutdown,
            task: daemon::spawn("switch", driver.run()),
        }
    }

    async fn until(&mut self, names: &[&str]) {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.open.wait_for(|open| *open == wanted).await.unwrap();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Ends as `kill -9` does: sockets and files stay.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.shutdown.cancel();
    }
}

/// What QEMU is to the switch.
struct Guest {
    port: PortFile,
    socket: UnixDatagram,
}

fn port_of(dir: &Path, id: &str) -> PortFile {
    let address = allocate(NetworkId::of("org", "app"), HostId::of("node"), id, &|_| false);
    PortFile {
        mac: mac_of(id),
        addresses: vec![address],
        switch_socket: dir.join(format!("{id}.sw")),
        guest_socket: dir.join(format!("{id}.vm")),
    }
}

impl Guest {
    fn start(dir: &Path, id: &str) -> Self {
        let port = port_of(dir, id);
        add_port(dir, id, &port).unwrap();
        let socket = UnixDatagram::bind(&port.guest_socket).unwrap();
        Self { port, socket }
    }

    fn restart(self) -> Self {
        let Self { port, socket } = self;
        drop(socket);
        std::fs::remove_file(&port.guest_socket).unwrap();
        let socket = UnixDatagram::bind(&port.guest_socket).unwrap();
        Self { port, socket }
    }

    fn frame(&self, card: [u8; 6], text: &str) -> Vec<u8> {
        let len = u16::try_from(text.len()).unwrap().to_be_bytes();
        let source = self.port.addresses[0].octets();
        let header = [
            &card[..],
            &self.port.mac.bytes(),
            &[0x86, 0xdd, 0x60, 0, 0, 0],
            &len,
            &[17, 64],
        ]
        .concat();
        [&header[..], &source, &[0xfd; 16], text.as_bytes()].concat()
    }

    async fn send(&self, to: &Guest, text: &str) {
        let frame = self.frame(to.port.mac.bytes(), text);
        self.socket
            .send_to(&frame, &self.port.switch_socket)
            .await
            .unwrap();
    }

    async fn shout(&self, text: &str) {
        let frame = self.frame([0x33, 0x33, 0, 0, 0, 1], text);
        self.socket
            .send_to(&frame, &self.port.switch_socket)
            .await
            .unwrap();
    }

    /// The text of the next frame.
    async fn hear(&self) -> String {
        let mut buffer = vec![0; 10_000];
        let len = self.socket.recv(&mut buffer).await.unwrap();
        String::from_utf8(buffer[54..len].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn frames_go_to_their_receiver_and_multicast_to_everybody_else() {
    let dir = tempfile::tempdir().unwrap();
    let guests = ["a", "b", "c"].map(|id| Guest::start(dir.path(), id));
    let mut switch = Running::start(dir.path());
    switch.until(&["a", "b", "c"]).await;
    let [a, b, c] = &guests;
    a.send(b, "for b").await;
    assert_eq!(b.hear().await, "for b");
    b.send(a, "for a").await;
    assert_eq!(a.hear().await, "for a");
    a.shout("for all").await;
    assert_eq!(b.hear().await, "for all");
    // What c hears first is the multicast: it saw none of the frames between a and b.
    assert_eq!(c.hear().await, "for all");
    // And a did not hear itself.
    b.send(a, "last").await;
    assert_eq!(a.hear().await, "last");
    switch.stop().await;
}

#[tokio::test]
async fn ports_come_and_go_while_the_switch_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = Running::start(dir.path());
    let a = Guest::start(dir.path(), "a");
    let b = Guest::start(dir.path(), "b");
    let c = Guest::start(dir.path(), "c");
    switch.until(&["a", "b", "c"]).await;
    a.send(&b, "one").await;
    assert_eq!(b.hear().await, "one");
    remove_port(dir.path(), "b").unwrap();
    remove_port(dir.path(), "b").unwrap();
    switch.until(&["a", "c"]).await;
    assert!(!b.port.switch_socket.exists());
    a.send(&b, "lost").await;
    // Frames of one port are read in order: what c hears comes after "lost" was dropped.
    a.send(&c, "after").await;
    assert_eq!(c.hear().await, "after");
    add_port(dir.path(), "b", &b.port).unwrap();
    switch.until(&["a", "b", "c"]).await;
    a.send(&b, "two").await;
    assert_eq!(b.hear().await, "two");
    switch.stop().await;
}

#[tokio::test]
async fn a_killed_switch_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let a = Guest::start(dir.path(), "a");
    let b = Guest::start(dir.path(), "b");
    for round in ["first", "second", "third"] {
        let mut switch = Running::start(dir.path());
        switch.until(&["a", "b"]).await;
        a.send(&b, round).await;
        assert_eq!(b.hear().await, round);
        switch.kill().await;
        assert!(
            a.port.switch_socket.exists(),
            "a killed process leaves its sockets"
        );
    }
}

#[tokio::test]
async fn a_guest_that_starts_again_is_reached_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = Running::start(dir.path());
    let a = Guest::start(dir.path(), "a");
    let b = Guest::start(dir.path(), "b");
    switch.until(&["a", "b"]).await;
    a.send(&b, "before").await;
    assert_eq!(b.hear().await, "before");
    let b = b.restart();
    a.send(&b, "after").await;
    assert_eq!(b.hear().await, "after");
    switch.stop().await;
}

#[tokio::test]
async fn a_guest_that_does_not_listen_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = Running::start(dir.path());
    let [a, b, deaf] = ["a", "b", "deaf"].map(|id| Guest::start(dir.path(), id));
    switch.until(&["a", "b", "deaf"]).await;
    for i in 0..2_000 {
        a.send(&deaf, &i.to_string()).await;
    }
    a.send(&b, "through").await;
    assert_eq!(b.hear().await, "through");
    let client = daemon::unix_http::Client::new(dir.path().join("control.sock"));
    let ports: serde_json::Value = client.get("/v1/ports").await.unwrap();
    let deaf_port = ports
        .as_array()
        .unwrap()
        .iter()
        .find(|port| port["machine_id"] == "deaf")
        .unwrap();
    assert!(deaf_port["lost"].as_u64().unwrap() > 1_000, "{ports}");
    let a_port = ports
        .as_array()
        .unwrap()
        .iter()
        .find(|port| port["machine_id"] == "a")
        .unwrap();
    assert_eq!(a_port["forwarded"], 2_001, "{ports}");
    switch.stop().await;
}

#[tokio::test]
async fn spoofed_frames_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = Running::start(dir.path());
    let a = Guest::start(dir.path(), "a");
    let b = Guest::start(dir.path(), "b");
    switch.until(&["a", "b"]).await;
    let mut spoofed = a.frame(b.port.mac.bytes(), "spoofed");
    spoofed[22..38].copy_from_slice(&b.port.addresses[0].octets());
    a.socket.send_to(&spoofed, &a.port.switch_socket).await.unwrap();
    a.send(&b, "honest").await;
    assert_eq!(b.hear().await, "honest");
    let client = daemon::unix_http::Client::new(dir.path().join("control.sock"));
    let ports: serde_json::Value = client.get("/v1/ports").await.unwrap();
    assert_eq!(ports[0]["dropped"]["source_address"], 1, "{ports}");
    switch.stop().await;
}

#[tokio::test]
async fn a_bad_port_file_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut switch = Running::start(dir.path());
    let a = Guest::start(dir.path(), "a");
    let put = |name: &str, text: &str| {
        std::fs::File::create(dir.path().join("ports").join(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    put("torn.json", "{\"mac\":");
    put("notes.txt", "hello");
    // The card of a, on another port.
    add_port(
        dir.path(),
        "twin",
        &PortFile {
            switch_socket: dir.path().join("t.sw"),
            ..a.port.clone()
        },
    )
    .unwrap();
    let mut nowhere = port_of(dir.path(), "nowhere");
    nowhere.switch_socket = dir.path().join("absent/x.sw");
    add_port(dir.path(), "nowhere", &nowhere).unwrap();
    let b = Guest::start(dir.path(), "b");
    switch.until(&["a", "b"]).await;
    a.send(&b, "hello").await;
    assert_eq!(b.hear().await, "hello");
    switch.stop().await;
}

#[tokio::test]
async fn one_directory_has_one_switch() {
    let dir = tempfile::tempdir().unwrap();
    let switch = Running::start(dir.path());
    let second = Driver::start(dir.path(), CancellationToken::new()).unwrap_err();
    assert!(matches!(second, SwitchError::Lock(_)), "{second}");
    switch.stop().await;
}

#[tokio::test]
async fn a_switch_whose_directory_is_gone_ends() {
    let dir = tempfile::tempdir().unwrap();
    let switch = Running::start(dir.path());
    std::fs::remove_dir_all(dir.path()).unwrap();
    let error = switch.task.await.unwrap().unwrap_err();
    assert!(matches!(error, SwitchError::Io { .. }), "{error}");
}

#[test]
fn ports_that_could_not_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = port_of(dir.path(), "a");
    let long = PortFile {
        guest_socket: dir.path().join("x".repeat(108)),
        ..good.clone()
    };
    assert!(matches!(
        add_port(dir.path(), "a", &long),
        Err(SwitchError::SocketPath { .. })
    ));
    for name in ["", "../a", "a/b", "a.b", "."] {
        assert!(
            matches!(add_port(dir.path(), name, &good), Err(SwitchError::Name { .. })),
            "{name}"
        );
    }
}

#[tokio::test]
async fn qemu_takes_the_option_and_listens_where_the_port_says() {
    let dir = tempfile::tempdir().unwrap();
    // A comma, which QEMU's options are split at.
    let inside = dir.path().join("with,comma");
    std::fs::create_dir(&inside).unwrap();
    let port = port_of(&inside, "a");
    let program = Path::new("/usr/bin/qemu-system-x86_64");
    assert!(
        program.exists(),
        "QEMU is missing: apt-get install qemu-system-x86"
    );
    let mut qemu = Command::new(program)
        .args([
            "-M",
            "none",
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "stdio",
        ])
        .arg("-netdev")
        .arg(qemu_netdev("app0", &port))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut monitor = qemu.stdin.take().unwrap();
    let mut answers = BufReader::new(qemu.stdout.take().unwrap()).lines();
    let greeting = answers.next().and_then(Result::ok).unwrap_or_default();
    assert!(greeting.contains("QEMU"), "QEMU did not start: {greeting:?}");
    let listens = port.guest_socket.exists();
    monitor.write_all(b"info network\nquit\n").unwrap();
    let words: Vec<String> = answers.map_while(Result::ok).collect();
    assert!(qemu.wait().unwrap().success());
    assert!(
        words
            .iter()
            .any(|line| line.contains("app0") && line.contains("dgram")),
        "{words:?}"
    );
    assert!(listens);
}
