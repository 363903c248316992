//! The daemons behind us: how they are called and how their answers are passed on.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use daemon::unix_http::{CallError, Client, Reply};
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::refusal::{Refusal, known_code};

/// One daemon behind its Unix socket.
#[derive(Debug, Clone)]
pub struct Upstream {
    daemon: &'static str,
    client: Client,
    timeout: Duration,
}

impl Upstream {
    /// Describes the daemon called `daemon` at `socket`; nothing is opened until the first call.
    pub fn new(daemon: &'static str, socket: PathBuf, timeout: Duration) -> Self {
        Self {
            daemon,
            client: Client::new(socket),
            timeout,
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        self.daemon
    }

    /// Sends a request and passes the whole answer on, of whatever status.
    ///
    /// # Errors
    /// [`Refusal::DaemonAway`], [`Refusal::DaemonSilent`] when there is no answer.
    pub async fn send(&self, call: Call<'_>) -> Result<Reply, Refusal> {
        let timeout = call.patience.unwrap_or(self.timeout);
        self.client
            .request(call.method, call.path, call.body, call.headers, timeout)
            .await
            .map_err(|error| self.refusal(&error))
    }

    /// `GET path`, parsed.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Refusal::Passed`] for an answer outside 200–299.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.parsed(Call::new(Method::GET, path)).await
    }

    /// Sends a request and parses its answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn parsed<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Refusal> {
        let reply = self.send(call).await?;
        if !reply.status.is_success() {
            return Err(passed(&reply));
        }
        reply.json().map_err(|error| self.refusal(&error))
    }

    /// Sends a request and hands its answer out piece by piece.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn stream(&self, call: Call<'_>) -> Result<Response, Refusal> {
        let timeout = call.patience.unwrap_or(self.timeout);
        let stream = self
            .client
            .request_stream(call.method, call.path, call.body, call.headers, timeout)
            .await
            .map_err(|error| self.refusal(&error))?;
        if !stream.status.is_success() {
            return Err(passed(
                &stream.collect().await.map_err(|error| self.refusal(&error))?,
            ));
        }
        let status = stream.status;
        let kind = content_type(&stream.headers);
        Ok((status, [(header::CONTENT_TYPE, kind)], Body::from_stream(stream)).into_response())
    }

    fn refusal(&self, error: &CallError) -> Refusal {
        let daemon = self.daemon;
        match error {
            CallError::Refused(_) => {
                tracing::warn!(daemon, error = %error, "daemon was not reachable");
                Refusal::DaemonAway { daemon }
            }
            CallError::Timeout { .. } | CallError::Broken(_) => {
                tracing::warn!(daemon, error = %error, "daemon did not answer");
                Refusal::DaemonSilent { daemon }
            }
            _ => {
                tracing::error!(daemon, error = %error, "daemon answered something unreadable");
                Refusal::DaemonGarbled { daemon }
            }
        }
    }
}

/// One request to a daemon.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: &'a str,
    /// JSON body.
    pub body: Option<&'a Value>,
    /// Headers to pass.
    pub headers: HeaderMap,
    /// Longest wait, when it is not the configured one.
    pub patience: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A call without body or headers.
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            body: None,
            headers: HeaderMap::new(),
            patience: None,
        }
    }

    /// Adds a body.
    #[must_use]
    pub fn body(self, body: &'a Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// Adds a header map.
    #[must_use]
    pub fn headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// Changes the longest wait.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self
        }
    }
}

/// Hands a daemon's answer on as it is; an error that is not JSON is put into our shape.
pub fn relay(reply: Reply) -> Response {
    let is_error = !reply.status.is_success();
    if is_error && error_text(&reply).is_none() {
        return passed(&reply).into_response();
    }
    let kind = content_type(&reply.headers);
    (reply.status, [(header::CONTENT_TYPE, kind)], reply.body).into_response()
}

/// Turns a daemon's error answer into ours.
pub fn passed(reply: &Reply) -> Refusal {
    let (error, code) = error_text(reply).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&reply.body).trim().to_owned();
        (
            if text.is_empty() {
                reply.status.to_string()
            } else {
                text
            },
            None,
        )
    });
    // A daemon has no business redirecting us; anything that is not an error status is its defect.
    let status = if reply.status.is_client_error() || reply.status.is_server_error() {
        reply.status
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Refusal::Passed { status, error, code }
}

fn error_text(reply: &Reply) -> Option<(String, Option<&'static str>)> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let code = body.get("status").and_then(Value::as_str).and_then(known_code);
    Some((body.get("error")?.as_str()?.to_owned(), code))
}

fn content_type(headers: &HeaderMap) -> http::HeaderValue {
    headers
        .get(header::CONTENT_TYPE)
        .cloned()
        .unwrap_or(http::HeaderValue::from_static("application/json"))
}
