//! The guest's name server: answers `.internal` from what the host told, forwards the rest.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use guest_init::proto::config::Network;

use zone::{Answer, Zone};

pub(crate) mod zone;

const PORT: u16 = 53;

/// Time for the name server beyond to answer.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the next question on a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Questions that are forwarded at once; more wait in the socket's buffer.
const FORWARDS_MAX: usize = 128;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;

/// Largest message over UDP that is passed on, in bytes.
const UDP_BYTES_MAX: usize = 4096;

/// The name server.
#[derive(Debug)]
pub(crate) struct Server {
    zone: Rc<Zone>,
    upstream: Option<SocketAddr>,
    forwards: Arc<Semaphore>,
}

impl Server {
    /// Returns a server for `zone` that forwards to `upstream`, if there is one.
    pub(crate) fn new(zone: Rc<Zone>, upstream: Option<Ipv4Addr>) -> Rc<Self> {
        let upstream = upstream.map(|address| SocketAddr::from((address, PORT)));
        Rc::new(Self {
            zone,
            upstream,
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
        })
    }

    /// Listens at [`Network::RESOLVER`], which must be an address of the guest, and serves in the background.
    pub(crate) async fn start(self: Rc<Self>) -> io::Result<()> {
        let address = SocketAddr::from((Network::RESOLVER, PORT));
        let socket = Rc::new(UdpSocket::bind(address).await?);
        let listener = TcpListener::bind(address).await?;
        spawn_local(Rc::clone(&self).serve_udp(socket));
        spawn_local(self.serve_tcp(listener));
        Ok(())
    }

    async fn serve_udp(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = [0; UDP_BYTES_MAX];
        loop {
            // An error here belongs to some earlier answer, such as a client that went away.
            let Ok((count, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let question = &buffer[..count];
            match self.zone.answer(question, zone::Transport::Udp) {
                Answer::Ready(reply) => {
                    let _ = socket.send_to(&reply, client).await;
                }
                Answer::Forward => {
                    let Ok(permit) = Arc::clone(&self.forwards).acquire_owned().await else {
                        return;
                    };
                    let (server, socket, question) =
                        (Rc::clone(&self), Rc::clone(&socket), question.to_vec());
                    spawn_local(async move {
                        let reply = server.ask_udp(&question).await;
                        let reply = reply.unwrap_or_else(|_| zone::refusal(&question));
                        let _ = socket.send_to(&reply, client).await;
                        drop(permit);
                    });
                }
                Answer::Nothing => {}
            }
        }
    }

    async fn ask_udp(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let upstream = self.upstream.ok_or(io::ErrorKind::NetworkUnreachable)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(upstream).await?;
        socket.send(question).await?;
        let mut buffer = vec![0; UDP_BYTES_MAX];
        let exchange = async {
            loop {
                let count = socket.recv(&mut buffer).await?;
                // Another id is the answer to nothing we asked.
                if count >= 2 && buffer[..2] == question[..2] {
                    return Ok::<usize, io::Error>(count);
                }
            }
        };
        let count = timeout(UPSTREAM_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        buffer.truncate(count);
        Ok(buffer)
    }

    async fn serve_tcp(self: Rc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let server = Rc::clone(&self);
            spawn_local(async move {
                // A client that breaks off has no use for an error.
                let _ = server.serve_connection(stream).await;
                drop(permit);
            });
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = timeout(IDLE_TIMEOUT, read_message(&mut stream)).await??;
            let reply = match self.zone.answer(&question, zone::Transport::Tcp) {
                Answer::Ready(reply) => reply,
                Answer::Forward => self
                    .ask_tcp(&question)
                    .await
                    .unwrap_or_else(|_| zone::refusal(&question)),
                Answer::Nothing => return Ok(()),
            };
            write_message(&mut stream, &reply).await?;
        }
    }

    async fn ask_tcp(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let upstream = self.upstream.ok_or(io::ErrorKind::NetworkUnreachable)?;
        let exchange = async {
            let mut stream = TcpStream::connect(upstream).await?;
            write_message(&mut stream, question).await?;
            read_message(&mut stream).await
        };
        timeout(UPSTREAM_TIMEOUT, exchange).await?
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream
        .write_u16(u16::try_from(message.len()).map_err(io::Error::other)?)
        .await?;
    stream.write_all(message).await
}
