//! `POST /promote`, `POST /handoff`: another node becomes primary.

use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode};
use lease::{HandOffError, Standing};
use ltx::NodeId;

use super::{Answer, Api, Query, Refused, full};
use crate::http_client::{RequestError, request, whole};

fn internal(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// Has this node become primary.
pub(super) async fn promote(api: &Arc<Api>) -> Answer {
    if api.is_primary() {
        return Ok(Response::new(full("")));
    }
    if !api.candidate {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "not eligible to become primary",
        ));
    }
    let standing = api.keeper.standing().borrow().clone();
    let Standing::Replica { primary, .. } = standing else {
        return Err(internal("no primary"));
    };
    let path = format!("/handoff?nodeID={}", api.store.node().id);
    let mut headers = HeaderMap::new();
    api.identify(&mut headers);
    match request(Method::POST, &primary.url, &path, headers, whole("")).await {
        Ok(_) => Ok(Response::new(full(""))),
        Err(RequestError::Status { said, .. }) => Err(internal(format!("handoff failed: {said}"))),
        Err(error) => Err(internal(format!(
            "handoff failed: {}",
            crate::store::chain(&error)
        ))),
    }
}

/// Hands the lease to a replica that is connected.
pub(super) async fn hand_off(api: &Arc<Api>, query: &Query) -> Answer {
    let id = query.get("nodeID").filter(|id| id.len() == 16);
    let id: NodeId = id
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Refused::bad("invalid node id"))?;
    let refused = |why: &dyn std::fmt::Display| internal(format!("cannot handoff: {why}"));
    if api.keeper.is_fixed() {
        return Err(refused(&HandOffError::Fixed));
    }
    if !api.is_primary() {
        return Err(refused(&HandOffError::NotPrimary));
    }
    if !api.streams.has(id) {
        return Err(refused(&"target node is not currently connected"));
    }
    let handed = api.keeper.hand_off(lease::NodeId(id.to_string())).await;
    handed.map_err(|error| refused(&error))?;
    Ok(Response::new(full("")))
}
