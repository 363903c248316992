//! `POST /stream`: a replica follows.

use std::{collections::BTreeSet, sync::Arc, thread};

use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lease::Epoch;
use tokio::{runtime::Handle, sync::mpsc};

use super::{Answer, Api, Query, Refused, channel};
use crate::{
    name::DatabaseName,
    replication::{client::EPOCH, position_map, sender},
};

/// Opens the stream.
pub(super) async fn open(api: Arc<Api>, query: &Query, request: Request<Incoming>) -> Answer {
    if request.version() != Version::HTTP_2 {
        return Err(Refused::new(
            StatusCode::UPGRADE_REQUIRED,
            "Upgrade to HTTP/2 required",
        ));
    }
    let peer = request
        .headers()
        .get("Litefs-Id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or("");
    let peer = peer.to_owned();
    if peer.parse() == Ok(api.store.node().id) {
        return Err(Refused::bad("cannot connect to self"));
    }
    let expired = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "lease expired");
    let epoch = api.store.node().primacy.epoch().ok_or_else(expired)?;
    let seen = request.headers().get(EPOCH);
    let seen = seen
        .and_then(|epoch| epoch.to_str().ok()?.parse().ok())
        .map(Epoch);
    if seen.is_some_and(|seen| seen > epoch) {
        // There was a later primary than this node, which has not noticed.
        return Err(expired());
    }
    let body = request.into_body().collect().await;
    let body = body.map_err(|error| Refused::bad(error.to_string()))?.to_bytes();
    let replica = position_map::decode(&body).map_err(|error| Refused::bad(error.to_string()))?;
    let only: BTreeSet<DatabaseName> = query
        .get("filter")
        .into_iter()
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.parse().ok())
        .collect();
    // Listened to before names and positions are read.
    let changes = api.store.changes();
    let (parts, body) = mpsc::channel(sender::CHUNKS_WAITING);
    let runtime = Handle::current();
    let started = thread::Builder::new().name("stream".to_owned()).spawn(move || {
        tracing::info!(peer, "replica connected");
        let to = sender::Peer {
            replica,
            only,
            epoch,
            entry: api.streams.enter(peer.parse().ok()),
        };
        let sent = sender::send(&api.store, changes, to, &parts, &runtime, &api.stopping);
        match sent {
            Ok(()) | Err(sender::SendError::Gone) => tracing::info!(peer, "replica disconnected"),
            Err(error) => {
                tracing::warn!(peer, error = %crate::store::chain(&error), "stream to a replica was broken off");
                let _gone = parts.blocking_send(Err(std::io::Error::other(error)));
            }
        }
    });
    started.map_err(|error| Refused::internal(&error))?;
    let mut response = Response::new(channel(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if epoch != Epoch::NONE {
        response.headers_mut().insert(EPOCH, HeaderValue::from(epoch.0));
    }
    Ok(response)
}
