//! HTTP/2 without encryption, as nodes speak it with each other.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Bytes of a file that are sent in one go.
const CHUNK_BYTES: usize = 1 << 17;

/// A body that is sent.
pub type Body = BoxBody<Bytes, io::Error>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The URL is none that can be asked.
    #[error("'{0}' is no http url")]
    Url(String),
    /// Nobody is there.
    #[error("connect to {authority}")]
    Connect {
        /// Where.
        authority: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("ask {authority}")]
    Http {
        /// Whom.
        authority: String,
        /// What is wrong.
        source: hyper::Error,
    },
    /// No answer came in time.
    #[error("ask {authority}: no answer in time")]
    TimedOut {
        /// Whom.
        authority: String,
    },
    /// The answer is an error.
    #[error("invalid response: code={}: {said}", .status.as_u16())]
    Status {
        /// Which one.
        status: StatusCode,
        /// What the node said to it.
        said: String,
    },
}

/// A node that is asked several times over one connection, as long as that lasts.
#[derive(Debug)]
pub struct Connection {
    url: String,
    /// The last one, while nobody knows that it is broken.
    open: Mutex<Option<SendRequest<Body>>>,
}

impl Connection {
    /// Prepares one: it is made when something is asked.
    ///
    /// * `url`: of the node; its path is left out.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            open: Mutex::new(None),
        }
    }

    /// Returns the node's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a request and returns the answer, if that is a success. After an error that is no answer the next request makes another
    /// connection.
    ///
    /// * `path`: with the query.
    ///
    /// # Errors
    /// There is no answer, or it is an error.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>, RequestError> {
        let authority = authority(&self.url)?;
        // Whoever gives up on an answer leaves none: it would not come.
        let open = self.take();
        let mut sender = match open.filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => connect(&authority).await?,
        };
        let answered = send(&mut sender, &authority, method, path, headers, body).await;
        if matches!(answered, Ok(_) | Err(RequestError::Status { .. })) {
            *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
        answered
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Makes a request and returns the answer, if that is a success.
///
/// * `url`: of the node; its path is left out.
/// * `path`: with the query.
///
/// # Errors
/// There is no answer, or it is an error.
pub async fn request(
    method: Method,
    url: &str,
    path: &str,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Incoming>, RequestError> {
    Connection::new(url).request(method, path, headers, body).await
}

/// Returns where a node listens.
fn authority(url: &str) -> Result<String, RequestError> {
    let wrong = || RequestError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong());
    }
    let host = uri.host().ok_or_else(wrong)?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

async fn connect(authority: &str) -> Result<SendRequest<Body>, RequestError> {
    let connecting = timeout(CONNECT_MAX, TcpStream::connect(authority)).await;
    let connected = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = connected
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|source| RequestError::Connect {
            authority: authority.to_owned(),
            source,
        })?;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken(authority))?;
    daemon::spawn("http", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(sender)
}

fn broken(authority: &str) -> impl Fn(hyper::Error) -> RequestError {
    move |source| RequestError::Http {
        authority: authority.to_owned(),
        source,
    }
}

async fn send(
    sender: &mut SendRequest<Body>,
    authority: &str,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Incoming>, RequestError> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{authority}{path}"))
        .header(HOST, authority)
        .body(body)
        .map_err(|_| RequestError::Url(format!("http://{authority}{path}")))?;
    request.headers_mut().extend(headers);
    let response = sender.send_request(request).await.map_err(broken(authority))?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let status = response.status();
    let said = response.into_body().collect().await;
    let said = said.map_err(broken(authority))?.to_bytes();
    Err(RequestError::Status {
        status,
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Returns a body that is there as a whole.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Reads a file as a body, part by part.
pub fn body_of(file: File) -> Body {
    let parts = futures_util::stream::try_unfold((file, 0), async |(file, offset)| {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; CHUNK_BYTES];
            let read = file.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            Ok::<_, io::Error>((file, bytes))
        });
        let (file, bytes) = read.await.map_err(io::Error::other)??;
        let next = offset + bytes.len() as u64;
        Ok((!bytes.is_empty()).then(|| (bytes.into(), (file, next))))
    });
    BoxBody::new(StreamBody::new(parts.map_ok(Frame::data)))
}

/// What RFC 3986 calls unreserved stays as it is.
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Puts what a query cannot hold behind percent signs.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &RESERVED).to_string()
}
