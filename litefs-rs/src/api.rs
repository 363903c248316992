//! The HTTP API of a node, with HTTP/1.1 and HTTP/2 on one port, neither encrypted nor authenticated: as LiteFS has it.

mod events;
mod halt;
mod import;
mod metrics;
mod roles;
mod stream;
mod transfer;
mod verify;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use lease::Keeper;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    db::Role,
    http_client::Body,
    replication::{sender::Part, status::Status, streams::Streams},
    store::{ClusterId, Store},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// What the API answers from.
#[derive(Debug)]
pub struct Api {
    /// The databases.
    pub store: Arc<Store>,
    /// The other nodes.
    pub status: Arc<Status>,
    /// The host name of this node.
    pub hostname: String,
    /// Whether it may become primary.
    pub candidate: bool,
    /// Its lease.
    pub keeper: Keeper,
    /// The replicas that are connected to it.
    pub streams: Arc<Streams>,
    /// How long a replica has the write lock of a database, unless it asks again.
    pub halt_lasts: Duration,
    /// Where the databases are mounted.
    pub mount: String,
    /// Set when the node stops.
    pub stopping: Arc<AtomicBool>,
    /// Cancelled then.
    pub stop: CancellationToken,
}

/// Why a request gets no answer but this.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, crate::store::chain(error))
    }
}

type Answer = Result<Response<Body>, Refused>;

/// Listens.
///
/// # Errors
/// The address is taken, or is none of ours.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Takes connections until `stop`, each in a task of its own that ends then, too.
pub(crate) async fn accept<F>(
    name: &'static str,
    listener: TcpListener,
    stop: &CancellationToken,
    mut serve: impl FnMut(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection collects its packets");
        }
        let (served, stop) = (serve(stream), stop.clone());
        daemon::spawn(name, async move {
            tokio::select! {
                () = served => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Answers until the node stops.
pub async fn serve(listener: TcpListener, api: Arc<Api>) {
    let stop = api.stop.clone();
    accept("api", listener, &stop, |stream| {
        let api = Arc::clone(&api);
        async move {
            let service = hyper::service::service_fn(move |request| {
                let api = Arc::clone(&api);
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection ended");
            }
        }
    })
    .await;
}

impl Api {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let with_ids = !path.starts_with("/metrics") && !path.starts_with("/debug");
        let answered = Arc::clone(&self).route(&method, &path, request).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(refused) => {
                tracing::debug!(%method, path, status = refused.status.as_u16(), message = refused.message, "refused");
                let mut response = Response::new(full(format!("{}\n", refused.message)));
                *response.status_mut() = refused.status;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
                headers.insert("X-Content-Type-Options", HeaderValue::from_static("nosniff"));
                response
            }
        };
        if with_ids {
            self.identify(response.headers_mut());
        }
        response
    }

    fn identify(&self, headers: &mut HeaderMap) {
        let node = self.store.node();
        if let Ok(id) = HeaderValue::from_str(&node.id.to_string()) {
            headers.insert("Litefs-Id", id);
        }
        if let Some(id) = self.cluster_id().and_then(|id| HeaderValue::from_str(&id).ok()) {
            headers.insert("Litefs-Cluster-Id", id);
        }
    }

    fn cluster_id(&self) -> Option<String> {
        let read = ClusterId::read(&*self.store.node().disk, self.store.root());
        read.ok().flatten().map(|id| id.to_string())
    }

    async fn route(self: Arc<Self>, method: &Method, path: &str, request: Request<Incoming>) -> Answer {
        let query = Query::of(&request);
        let (get, post) = (method == Method::GET, method == Method::POST);
        match path {
            "/stream" if post => stream::open(self, &query, request).await,
            "/import" if post => import::take(self, &query, request).await,
            "/export" if get => transfer::export(&self, &query).await,
            "/events" if get => Ok(events::listen(&self)),
            "/info" if get => self.info(),
            "/metrics" if get => Ok(metrics::show(&self.store, &self.status, &self.streams)),
            "/promote" if post => roles::promote(&self).await,
            "/handoff" if post => roles::hand_off(&self, &query).await,
            "/halt" if post => halt::acquire(self, &query, &request).await,
            "/halt" if *method == Method::DELETE => halt::release(self, &query).await,
            "/verify" if get => verify::verify(self).await,
            "/tx" if post => halt::take(self, &query, request).await,
            "/stream" | "/import" | "/export" | "/events" | "/info" | "/metrics" | "/promote"
            | "/handoff" | "/halt" | "/tx" | "/verify" => {
                Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
            }
            _ => Err(Refused::new(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }

    fn is_primary(&self) -> bool {
        self.store.role() == Role::Primary
    }

    /// The host name of the primary; empty when nobody knows it.
    fn primary_hostname(&self) -> String {
        if self.is_primary() {
            return self.hostname.clone();
        }
        self.status.primary().unwrap_or_default()
    }

    fn info(&self) -> Answer {
        let mut info = serde_json::Map::new();
        if let Some(id) = self.cluster_id() {
            info.insert("clusterID".to_owned(), id.into());
        }
        info.insert("isPrimary".to_owned(), self.is_primary().into());
        info.insert("candidate".to_owned(), self.candidate.into());
        info.insert("path".to_owned(), self.mount.clone().into());
        info.insert(
            "primary".to_owned(),
            serde_json::json!({ "hostname": self.primary_hostname() }),
        );
        let text = serde_json::to_string_pretty(&info).map_err(|error| Refused::internal(&error))?;
        let mut response = Response::new(full(format!("{text}\n")));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
        Ok(response)
    }
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or("");
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Takes percent signs and pluses out of a part of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |pair: &[u8]| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        };
        rest = match (first, after) {
            (b'%', [a, b, tail @ ..]) if hex(&[*a, *b]).is_some() => {
                bytes.extend(hex(&[*a, *b]));
                tail
            }
            (b'+', _) => {
                bytes.push(b' ');
                after
            }
            (byte, _) => {
                bytes.push(*byte);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of what comes through a channel; an error breaks the answer off.
fn channel(parts: mpsc::Receiver<Part>) -> Body {
    let stream = futures_util::stream::unfold(parts, async |mut parts| {
        let part = parts.recv().await?;
        Some((part.map(Frame::data), parts))
    });
    http_body_util::combinators::BoxBody::new(StreamBody::new(stream))
}
