//! The client: one connection a call, every call with a deadline.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

/// The deadline of the short-hand calls: above the minute that the longest answer of any daemon may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(75);

/// Why a call brought no answer, or not the one wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody listens on the socket; the message names it. Nothing was sent.
    #[error("connect: {0}")]
    Refused(std::io::Error),
    /// The deadline passed; the call may have taken effect.
    #[error("no answer from {} within {} ms", socket.display(), timeout.as_millis())]
    Timeout {
        /// The socket called.
        socket: PathBuf,
        /// The deadline.
        timeout: Duration,
    },
    /// The connection broke before the answer was complete; the call may have taken effect.
    #[error("connection broke: {0}")]
    Broken(#[source] hyper::Error),
    /// The daemon answered and refused.
    #[error("{error}")]
    Status {
        /// The HTTP status, outside 200–299.
        status: u16,
        /// The `error` sentence of the body, or the body itself where it has none.
        error: String,
        /// The whole body.
        body: Bytes,
    },
    /// The daemon answered something that the caller does not understand.
    #[error("decode answer: {0}")]
    Decode(#[source] serde_json::Error),
    /// The request could not be formed: a bad path, header or body.
    #[error("form request: {0}")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// Tells whether the daemon certainly never saw the call.
    pub fn never_sent(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Request(_))
    }

    /// Returns the HTTP status when the daemon answered.
    pub fn status(&self) -> Option<u16> {
        if let Self::Status { status, .. } = self {
            Some(*status)
        } else {
            None
        }
    }

    /// Returns the `status` word of the error body, where there is one.
    pub fn code(&self) -> Option<String> {
        let Self::Status { body, .. } = self else {
            return None;
        };
        serde_json::from_slice::<Value>(body)
            .ok()?
            .get("status")?
            .as_str()
            .map(str::to_owned)
    }
}

/// A complete answer, of whatever status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Turns a status outside 200–299 into [`CallError::Status`].
    ///
    /// # Errors
    /// That one.
    pub fn success(self) -> Result<Self, CallError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let error = serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|body| body.get("error")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| match String::from_utf8_lossy(&self.body).trim() {
                "" => self.status.to_string(),
                text => text.to_owned(),
            });
        Err(CallError::Status {
            status: self.status.as_u16(),
            error,
            body: self.body,
        })
    }

    /// Parses the body as JSON; an empty body counts as `null`.
    ///
    /// # Errors
    /// [`CallError::Decode`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body).map_err(CallError::Decode)
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct ReplyStream {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    _connection: Connection,
}

impl ReplyStream {
    /// Reads the rest of the body.
    ///
    /// # Errors
    /// [`CallError::Broken`].
    pub async fn collect(self) -> Result<Reply, CallError> {
        let Self {
            status,
            headers,
            body,
            _connection,
        } = self;
        let body = body.collect().await.map_err(CallError::Broken)?.to_bytes();
        Ok(Reply {
            status,
            headers,
            body,
        })
    }
}

impl Stream for ReplyStream {
    type Item = Result<Bytes, CallError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        let body = &mut self.get_mut().body;
        loop {
            match std::task::ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(CallError::Broken(error)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}

/// Ends the connection's task with the answer, however the answer ends.
#[derive(Debug)]
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls the daemon behind one Unix socket. Cheap to create and to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Creates a client of the daemon at `socket`. Short-hand calls get 75 seconds each.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Changes the deadline of the short-hand calls.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the socket called.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`, parsed as JSON.
    ///
    /// # Errors
    /// [`CallError`]; a status outside 200–299 is one.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body, parsed as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(to_value(body)?)).await
    }

    /// `PUT path` with a JSON body, parsed as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.call(Method::PUT, path, Some(to_value(body)?)).await
    }

    /// `DELETE path`, parsed as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, CallError> {
        self.request(method, path, body.as_ref(), HeaderMap::new(), self.timeout)
            .await?
            .success()?
            .json()
    }

    /// Sends a request and returns the whole answer, of whatever status.
    ///
    /// * `path`: with its query, already percent-encoded.
    /// * `timeout`: from the connect to the last byte of the body.
    ///
    /// # Errors
    /// [`CallError`], except `Status` and `Decode`.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let request = form(method, path, body, headers)?;
        self.within(timeout, async { self.send(request).await?.collect().await })
            .await
    }

    /// Sends a request and returns as soon as the headers are there; the body is a stream of its pieces.
    ///
    /// * `timeout`: from the connect to the end of the headers. The body has none: drop the stream to end the call.
    ///
    /// # Errors
    /// [`CallError`], except `Status` and `Decode`.
    pub async fn request_stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<ReplyStream, CallError> {
        let request = form(method, path, body, headers)?;
        self.within(timeout, self.send(request)).await
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
            Err(CallError::Timeout {
                socket: self.socket.clone(),
                timeout,
            })
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<ReplyStream, CallError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let message = format!("{}: {error}", self.socket.display());
            CallError::Refused(std::io::Error::new(error.kind(), message))
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(CallError::Broken)?;
        // Its errors also reach the request's own future, which reports them.
        let task = crate::spawn("unix_http_connection", async { drop(connection.await) });
        let connection = Connection(task.abort_handle());
        let response: Response<Incoming> = sender.send_request(request).await.map_err(CallError::Broken)?;
        let (parts, body) = response.into_parts();
        Ok(ReplyStream {
            status: parts.status,
            headers: parts.headers,
            body,
            _connection: connection,
        })
    }
}

fn to_value(body: &impl Serialize) -> Result<Value, CallError> {
    serde_json::to_value(body).map_err(|error| CallError::Request(error.into()))
}

fn form(
    method: Method,
    path: &str,
    body: Option<&Value>,
    headers: HeaderMap,
) -> Result<Request<Full<Bytes>>, CallError> {
    if !path.starts_with('/') {
        return Err(CallError::Request(
            format!("path {path:?} does not begin with a slash").into(),
        ));
    }
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(bytes))
        .map_err(|error| CallError::Request(error.into()))?;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    // Headers of a request that is passed on describe its old connection and its old body.
    for stale in [
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::CONNECTION,
    ] {
        headers.remove(stale);
    }
    headers.insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
    if body.is_some() {
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
    }
    Ok(request)
}
