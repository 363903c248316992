//! A store that is far away: what passes to it and back waits as it would on a line to a region of a large provider.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// The middle of the time to an answer.
const MEDIAN_SECONDS: f64 = 0.020;
/// One answer in a hundred takes longer.
const P99_SECONDS: f64 = 0.150;
/// The normal distribution's own 99th percentile.
const P99_OF_NORMAL: f64 = 2.326;
/// What the line carries, both ways together.
pub(crate) const BYTES_PER_SECOND: f64 = 200.0 * 1024.0 * 1024.0;
/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// What all connections share.
#[derive(Debug)]
struct Line {
    rng: Mutex<ChaCha8Rng>,
    /// When what was sent last has passed.
    free_at: Mutex<Instant>,
}

impl Line {
    /// Draws the time to an answer: lognormal.
    fn latency(&self) -> Duration {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        // Box and Muller's way to a normal number.
        let (first, second): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random_range(0.0..1.0));
        let normal = (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos();
        let sigma = (P99_SECONDS / MEDIAN_SECONDS).ln() / P99_OF_NORMAL;
        Duration::from_secs_f64(MEDIAN_SECONDS * (sigma * normal).exp())
    }

    /// Waits until so many bytes have passed behind all others.
    async fn carry(&self, bytes: usize) {
        let passed = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let takes = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
            *free_at = Instant::now().max(*free_at) + takes;
            *free_at
        };
        tokio::time::sleep_until(passed).await;
    }
}

/// Opens a line to `store`; it lasts as long as the runtime.
pub(crate) async fn open(store: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = listener.local_addr()?;
    let line = Arc::new(Line {
        rng: Mutex::new(ChaCha8Rng::seed_from_u64(7)),
        free_at: Mutex::new(Instant::now()),
    });
    drop(daemon::spawn("line", async move {
        while let Ok((client, _)) = listener.accept().await {
            let line = Arc::clone(&line);
            drop(daemon::spawn("line-connection", async move {
                if let Ok(server) = TcpStream::connect(store).await {
                    // Either end may go away: then so does the other.
                    let _gone = pass(client, server, &line).await;
                }
            }));
        }
    }));
    Ok(here)
}

/// Passes requests and answers on, one after the other as HTTP/1.1 has them: the first byte of an answer waits for its
/// request's latency.
async fn pass(mut client: TcpStream, mut server: TcpStream, line: &Line) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut answer_at = Instant::now();
    let mut answering = true;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = read?;
                if bytes == 0 {
                    return Ok(());
                }
                if answering {
                    answering = false;
                    answer_at = Instant::now() + line.latency();
                }
                line.carry(bytes).await;
                server.write_all(&asked[..bytes]).await?;
            }
            read = server.read(&mut answered) => {
                let bytes = read?;
                if bytes == 0 {
                    return Ok(());
                }
                answering = true;
                tokio::time::sleep_until(answer_at).await;
                line.carry(bytes).await;
                client.write_all(&answered[..bytes]).await?;
            }
        }
    }
}
