//! `GET /events`: what happens, a JSON object a line, without end.

use std::{fs::File, sync::Arc};

use http::{HeaderValue, Response, header::CONTENT_TYPE};
use ltx::{HEADER_BYTES, Header, Version};
use serde_json::{Value, json};
use std::io::Read as _;
use tokio::sync::{broadcast::error::RecvError, mpsc};

use super::{Api, channel};
use crate::{
    http_client::Body,
    store::{Change, Store},
};

/// Lines that may wait for a listener.
const WAITING: usize = 16;

/// Begins to tell.
pub(super) fn listen(api: &Arc<Api>) -> Response<Body> {
    let mut changes = api.store.changes();
    let (parts, body) = mpsc::channel(WAITING);
    let api = Arc::clone(api);
    daemon::spawn("events", async move {
        let mut primaries = api.status.primaries();
        primaries.mark_unchanged();
        let mut line = json!({ "type": "init", "data": primary(&api) });
        loop {
            if parts.send(Ok(format!("{line}\n").into())).await.is_err() {
                return;
            }
            line = loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    Ok(()) = primaries.changed() => {
                        break json!({ "type": "primaryChange", "data": primary(&api) });
                    }
                    () = api.stop.cancelled() => return,
                    () = parts.closed() => return,
                };
                match change {
                    Ok(change) => {
                        if let Some(event) = transaction(&api.store, &change) {
                            break event;
                        }
                    }
                    // Who is too slow is cut off, and knows that it missed something.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                }
            };
        }
    });
    let mut response = Response::new(channel(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn primary(api: &Api) -> Value {
    let mut data = json!({ "isPrimary": api.is_primary() });
    let hostname = api.primary_hostname();
    if !hostname.is_empty() {
        data["hostname"] = hostname.into();
    }
    data
}

/// A transaction, as its file says; nothing if that is gone already.
fn transaction(store: &Store, change: &Change) -> Option<Value> {
    let slot = store.get(&change.database)?;
    let mut bytes = [0; HEADER_BYTES];
    let header = File::open(slot.ltx_file(change.pos.txid))
        .and_then(|mut file| file.read_exact(&mut bytes))
        .ok()
        .and_then(|()| Header::decode(&bytes, Version::V1).ok())?;
    let at = daemon::wall_clock::text_of_ms(header.timestamp_ms);
    Some(json!({
        "type": "tx",
        "db": change.database.as_str(),
        "data": {
            "txID": change.pos.txid.to_string(),
            "postApplyChecksum": change.pos.checksum.to_string(),
            "pageSize": header.page_size.bytes(),
            "commit": header.commit_pages,
            "timestamp": at,
        },
    }))
}
