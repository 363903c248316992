//! In front of an application: a client reads what it has written on whichever node it comes to, and writes go to the primary.
//!
//! As LiteFS has it, but for one thing: where no platform takes a request to another node because an answer says so, this node
//! does. Then the primary is asked at the port where this node's own proxy listens, unless the file says another; and a read that
//! the application of a replica fails with an error of the server is tried at the primary, as it may have been a write.

mod carry;
mod cookie;
mod rules;

pub use rules::{Rules, Way};

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, SET_COOKIE},
    uri::Authority,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use lease::{Keeper, Standing};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::carry::{Carrier, until};
use crate::{
    api,
    db::Role,
    http_client::{Body, whole},
    name::DatabaseName,
    replication::status::Status,
    store::{Store, chain},
};

/// How long a read waits for what its client has written.
const TXID_MAX: Duration = Duration::from_secs(5);
/// How long an application is waited for that does not listen yet.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// Between looks at a lease that is changing hands.
const LOOK: Duration = Duration::from_millis(5);
/// A request that another node's proxy has sent here: it goes no further.
const PROXIED: HeaderName = HeaderName::from_static("litefs-proxied");

/// How a write comes to the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// This node brings it there.
    Carry {
        /// Where the primary's proxy listens; nothing: where this node's does.
        port: Option<u16>,
    },
    /// An answer with this header has the platform bring it there.
    Replay {
        /// The header.
        header: HeaderName,
    },
}

/// What a proxy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The application's host and port.
    pub target: Authority,
    /// The database whose transactions count.
    pub database: DatabaseName,
    /// How far behind a healthy node may be; nothing: as far as it likes.
    pub max_lag: Option<Duration>,
    /// Paths with a way of their own.
    pub rules: Rules,
    /// How a write comes to the primary.
    pub redirect: Redirect,
    /// How long a write waits for a primary.
    pub redirect_timeout: Duration,
    /// What the cookie is called.
    pub cookie: String,
    /// How long a client keeps it.
    pub cookie_lasts: Duration,
    /// How long a request may take to be read; nothing: as long as it takes.
    pub read_timeout: Option<Duration>,
    /// How long its header may.
    pub read_header_timeout: Option<Duration>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<Duration>,
    /// How long an answer may take.
    pub write_timeout: Option<Duration>,
    /// Whether the log tells requests.
    pub debug: bool,
}

/// The proxy of a node.
#[derive(Debug)]
pub struct Proxy {
    settings: ProxySettings,
    /// Where it really listens.
    address: SocketAddr,
    store: Arc<Store>,
    status: Arc<Status>,
    keeper: Keeper,
    application: Carrier,
    nodes: Carrier,
}

/// Where the primary's proxy is.
struct There {
    hostname: String,
    authority: Authority,
}

/// An answer of the proxy's own.
struct Refused(StatusCode, String);

impl Proxy {
    /// Makes the proxy of a node that listens already.
    #[must_use]
    pub fn new(
        settings: ProxySettings,
        address: SocketAddr,
        store: Arc<Store>,
        status: Arc<Status>,
        keeper: Keeper,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            address,
            store,
            status,
            keeper,
            application: Carrier::new(STARTS_WITHIN),
            nodes: Carrier::new(Duration::ZERO),
        })
    }

    /// Answers until the node stops.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        api::accept("proxy", listener, &stop, |stream| {
            let proxy = Arc::clone(&self);
            async move {
                // One limit for both: the wait for a request counts as reading it.
                let limits = [proxy.settings.read_header_timeout, proxy.settings.idle_timeout];
                let limit = limits[0].zip(limits[1]).map(|(header, idle)| header.max(idle));
                let service = hyper::service::service_fn(move |request| {
                    let proxy = Arc::clone(&proxy);
                    async move { Ok::<_, Infallible>(proxy.answer(request).await) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(limit);
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "connection ended");
                }
            }
        })
        .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let after = |limit: Option<Duration>| limit.map(|limit| began + limit);
        let read_until = after(self.settings.read_timeout);
        let request = request.map(|body| until(body.map_err(std::io::Error::other).boxed(), read_until));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let way = self.settings.rules.way(&method, &path);
        let write_until = after(self.settings.write_timeout);
        let routed = self.route(way, request);
        let answered = match write_until {
            Some(deadline) => timeout_at(deadline, routed)
                .await
                .unwrap_or_else(|_| Err(Refused(StatusCode::GATEWAY_TIMEOUT, "Proxy timeout".to_owned()))),
            None => routed.await,
        };
        let response = answered.unwrap_or_else(|Refused(status, said)| {
            tracing::debug!(%method, path, status = status.as_u16(), said, "proxy refuses");
            text(status, said)
        });
        if self.settings.debug {
            let status = response.status().as_u16();
            tracing::info!(%method, path, ?way, status, "proxy");
        }
        response.map(|body| until(body, write_until))
    }

    async fn route(&self, way: Way, request: Request<Body>) -> Result<Response<Body>, Refused> {
        match way {
            Way::PassThrough => self.ask_application(request).await,
            Way::Health => Ok(self.health()),
            Way::Read => self.read(request).await,
            Way::Write => self.write(request).await,
        }
    }

    fn health(&self) -> Response<Body> {
        // LiteFS calls a node healthy that never was in sync.
        let lag_ms = self
            .status
            .lag_ms()
            .map(|lag_ms| u128::try_from(lag_ms).unwrap_or(0));
        let behind = self
            .settings
            .max_lag
            .is_some_and(|max| lag_ms.is_none_or(|lag_ms| lag_ms > max.as_millis()));
        if behind {
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                "Replication lag exceeded".to_owned(),
            )
        } else {
            text(StatusCode::OK, "OK\n".to_owned())
        }
    }

    async fn read(&self, request: Request<Body>) -> Result<Response<Body>, Refused> {
        self.wait_for(cookie::read(request.headers(), &self.settings.cookie))
            .await?;
        let again = self
            .copy(&request)
            .filter(|_| self.status.role() == Role::Replica);
        let response = self.ask_application(request).await?;
        let Some(again) = again.filter(|_| response.status().is_server_error()) else {
            return Ok(response);
        };
        let standing = self.keeper.standing().borrow().clone();
        let Standing::Replica { primary, .. } = standing else {
            return Ok(response);
        };
        // What the application here said is better than nothing.
        match self.primary(&primary) {
            Ok(there) => Ok(self.redirect(again, there).await.unwrap_or(response)),
            Err(_) => Ok(response),
        }
    }

    /// Copies a request that can be made once more: it has no body, and was not made once more already.
    fn copy(&self, request: &Request<Body>) -> Option<Request<Body>> {
        if !request.body().is_end_stream() || request.headers().contains_key(&PROXIED) {
            return None;
        }
        let mut copy = Request::new(whole(""));
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }

    /// Waits until the database here is as far as `txid`.
    async fn wait_for(&self, txid: Option<ltx::Txid>) -> Result<(), Refused> {
        let Some((txid, slot)) = txid.zip(self.store.get(&self.settings.database)) else {
            return Ok(());
        };
        let mut changes = self.store.changes();
        let waited = timeout(TXID_MAX, async {
            while slot.noted().pos.txid < txid {
                // Whoever hears too little looks again.
                let _news = changes.recv().await;
            }
        });
        waited
            .await
            .map_err(|_| Refused(StatusCode::GATEWAY_TIMEOUT, "Proxy timeout".to_owned()))
    }

    async fn write(&self, request: Request<Body>) -> Result<Response<Body>, Refused> {
        let brought = request.headers().contains_key(&PROXIED);
        match self.where_to(brought).await? {
            Some(there) => self.redirect(request, there).await,
            None => {
                let reads = rules::is_read(request.method()) && !brought;
                let mut response = self.ask_application(request).await?;
                if let Some(slot) = self.store.get(&self.settings.database).filter(|_| !reads) {
                    self.set_cookie(&mut response, slot.noted().pos.txid);
                }
                Ok(response)
            }
        }
    }

    fn set_cookie(&self, response: &mut Response<Body>, txid: ltx::Txid) {
        let now = daemon::wall_clock::now();
        let expires = now + self.settings.cookie_lasts;
        let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let line = cookie::written(&self.settings.cookie, txid, &expires);
        if let Ok(line) = HeaderValue::from_str(&line) {
            response.headers_mut().append(SET_COOKIE, line);
        }
    }

    /// Waits until somebody is primary; nothing if it is this node.
    ///
    /// * `brought`: another node thinks that this one is: it goes no further.
    async fn where_to(&self, brought: bool) -> Result<Option<There>, Refused> {
        let until = Instant::now() + self.settings.redirect_timeout;
        loop {
            if self.status.role() == Role::Primary {
                return Ok(None);
            }
            let standing = self.keeper.standing().borrow().clone();
            if let Standing::Replica { primary, .. } = standing
                && !brought
            {
                return self.primary(&primary).map(Some);
            }
            if Instant::now() >= until {
                let said = "Proxy error: no primary available".to_owned();
                return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, said));
            }
            // It has the lease before its databases are ready.
            sleep(LOOK).await;
        }
    }

    fn primary(&self, holder: &lease::Holder) -> Result<There, Refused> {
        let port = match self.settings.redirect {
            Redirect::Carry { port: Some(port) } => port,
            Redirect::Carry { port: None } | Redirect::Replay { .. } => self.address.port(),
        };
        let uri: Option<http::Uri> = holder.url.parse().ok();
        let host = uri.as_ref().and_then(http::Uri::host);
        let authority = host.and_then(|host| format!("{host}:{port}").parse().ok());
        let Some(authority) = authority else {
            let said = format!("Proxy error: the primary's url '{}' names no host", holder.url);
            return Err(Refused(StatusCode::BAD_GATEWAY, said));
        };
        Ok(There {
            hostname: self.status.primary().unwrap_or_else(|| holder.hostname.clone()),
            authority,
        })
    }

    async fn redirect(&self, mut request: Request<Body>, there: There) -> Result<Response<Body>, Refused> {
        let There { hostname, authority } = there;
        match &self.settings.redirect {
            Redirect::Replay { header } => {
                let mut response = Response::new(whole(""));
                let instance = HeaderValue::from_str(&format!("instance={hostname}"));
                let instance = instance.map_err(|_| {
                    let said = format!("Proxy error: the primary's name '{hostname}' fits no header");
                    Refused(StatusCode::BAD_GATEWAY, said)
                })?;
                response.headers_mut().insert(header, instance);
                Ok(response)
            }
            Redirect::Carry { .. } => {
                request
                    .headers_mut()
                    .insert(PROXIED, HeaderValue::from_static("1"));
                let asked = self.nodes.carry(&authority, request).await;
                asked.map_err(|error| failed(&error))
            }
        }
    }

    async fn ask_application(&self, mut request: Request<Body>) -> Result<Response<Body>, Refused> {
        request.headers_mut().remove(&PROXIED);
        let asked = self.application.carry(&self.settings.target, request).await;
        asked.map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::error::Error) -> Refused {
    Refused(StatusCode::BAD_GATEWAY, format!("Proxy error: {}", chain(error)))
}

fn text(status: StatusCode, said: String) -> Response<Body> {
    let mut response = Response::new(whole(said));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
