//! A connection that breaks where a test wants it to.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What happens to one connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Harm {
    None,
    /// It breaks after so many bytes to the server.
    CutRequestAfter(u64),
    /// It breaks after so many bytes to the client.
    CutAnswerAfter(u64),
    /// It breaks when the server has answered, before the client hears of it.
    LoseAnswer,
}

/// Passes connections on to a server, each with its harm by number from 0.
pub(super) struct Proxy {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr, harm: impl Fn(usize) -> Harm + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = daemon::spawn("proxy", async move {
            let connections = TaskTracker::new();
            let mut number = 0;
            while let Some(Ok((client, _))) = token.run_until_cancelled(listener.accept()).await {
                let passing = pass(client, server, harm(number));
                let token = token.clone();
                let passing = async move { token.run_until_cancelled(passing).await };
                drop(daemon::spawn(
                    "proxy-connection",
                    connections.track_future(passing),
                ));
                number += 1;
            }
            connections.close();
            connections.wait().await;
        });
        Self {
            address,
            shutdown,
            task,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, harm: Harm) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (up, down) = match harm {
        Harm::None | Harm::LoseAnswer => (u64::MAX, u64::MAX),
        Harm::CutRequestAfter(bytes) => (bytes, u64::MAX),
        Harm::CutAnswerAfter(bytes) => (u64::MAX, bytes),
    };
    let answering = async {
        if matches!(harm, Harm::LoseAnswer) {
            read_answer(&mut from_server).await;
        } else {
            tokio::io::copy(&mut from_server.take(down), &mut to_client)
                .await
                .ok();
        }
    };
    let mut limited = from_client.take(up);
    // Whichever ends first breaks both directions off.
    tokio::select! {
        _ = tokio::io::copy(&mut limited, &mut to_server) => {}
        () = answering => {}
    }
    to_client.shutdown().await.ok();
}

/// Waits for the status line of an answer that is not a provisional one.
async fn read_answer(server: &mut (impl AsyncRead + Unpin)) {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        if server.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        answer.push(byte[0]);
        let text = String::from_utf8_lossy(&answer);
        if text.contains("HTTP/1.1 2") || text.contains("HTTP/1.1 4") {
            return;
        }
    }
}
