//! Requests carried to an application and answers back, connections that become something else included.

use std::{io, pin::pin, time::Duration};

use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{body::Body as _, upgrade::OnUpgrade};
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};
use tower::util::BoxCloneSyncService;

use crate::http_client::Body;

/// An application that does not listen is asked again after so long.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a connection to another node may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Of one connection alone, as RFC 9110 has it.
const OF_ONE_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, io::Error>;

/// Carries requests over connections that are used again.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    client: Client<Connector, Body>,
}

impl Carrier {
    /// * `patience`: how long an application that does not listen yet is waited for.
    pub(super) fn new(patience: Duration) -> Self {
        let connect = move |uri: Uri| -> BoxFuture<'static, io::Result<TokioIo<TcpStream>>> {
            Box::pin(connect(uri, patience))
        };
        let connector = Connector::new(tower::service_fn(connect));
        let mut builder = Client::builder(TokioExecutor::new());
        // The client's own stays.
        builder.set_host(false);
        Self {
            client: builder.build(connector),
        }
    }

    /// Carries a request to `authority` and returns the answer, whose body is still coming.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn carry(
        &self,
        authority: &Authority,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let other = request.extensions_mut().remove::<OnUpgrade>();
        let changes = request.headers().contains_key(UPGRADE);
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.clone());
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_11;
        clean(request.headers_mut(), changes);
        let mut response = self.client.request(request).await?;
        let changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        clean(response.headers_mut(), changed);
        if changed && let Some(other) = other {
            let application = hyper::upgrade::on(&mut response);
            daemon::spawn("proxy-upgraded", join(other, application));
        }
        Ok(response.map(|body| body.map_err(io::Error::other).boxed()))
    }
}

/// Leaves out what is of the connection that it came over.
fn clean(headers: &mut HeaderMap, keeps_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    if keeps_upgrade {
        return;
    }
    for name in OF_ONE_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
}

/// Passes on what either side says, until one has hung up.
async fn join(client: OnUpgrade, application: OnUpgrade) {
    let both = tokio::try_join!(client, application);
    let passed = match both {
        Ok((client, application)) => {
            let (mut client, mut application) = (TokioIo::new(client), TokioIo::new(application));
            tokio::io::copy_bidirectional(&mut client, &mut application).await
        }
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = passed {
        tracing::debug!(%error, "upgraded connection ended");
    }
}

async fn connect(uri: Uri, patience: Duration) -> io::Result<TokioIo<TcpStream>> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let until = Instant::now() + patience;
    loop {
        let connecting = timeout(CONNECT_MAX, TcpStream::connect((host, port))).await;
        match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(stream));
            }
            // It starts.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < until => {
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A body that breaks off at a time.
pub(super) fn until(body: Body, deadline: Option<Instant>) -> Body {
    let Some(deadline) = deadline else {
        return body;
    };
    if body.is_end_stream() {
        return body;
    }
    let frames = futures_util::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        let next = {
            let frame = pin!(body.frame());
            timeout_at(deadline, frame).await
        };
        match next {
            Ok(None) => None,
            Ok(Some(frame)) => Some((frame, Some(body))),
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    });
    BoxBody::new(StreamBody::new(frames))
}
