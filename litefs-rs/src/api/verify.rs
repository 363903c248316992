//! `GET /verify`: is every database what its position says. LiteFS has no such thing.

use std::{sync::Arc, sync::atomic::Ordering};

use http::{HeaderValue, Response, header::CONTENT_TYPE};

use super::{Answer, Api, Refused, full};
use crate::verify::{Finding, files};

/// Looks at all databases, one after the other.
pub(super) async fn verify(api: Arc<Api>) -> Answer {
    let looking = tokio::task::spawn_blocking(move || {
        let give_up = || api.stopping.load(Ordering::Acquire) || api.store.is_stopped();
        let slots = api.store.all();
        let findings = slots.iter().map(|slot| files::served(slot, &give_up));
        findings.collect::<Vec<Finding>>()
    });
    let findings = looking.await.map_err(|error| Refused::internal(&error))?;
    let text = serde_json::to_string(&findings).map_err(|error| Refused::internal(&error))?;
    let mut response = Response::new(full(format!("{text}\n")));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
