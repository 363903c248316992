//! Leases.

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiJson, ApiQuery};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::requests::Pairs;
use super::{LeaseCallError, Shared, catalog_refusal, find, lease_refusal, nonce_of};
use crate::lease::{self, Acquire, Lease, LeaseError, TTL_SECONDS_DEFAULT};

type Ids = Path<(String, String)>;

fn envelope(lease: &Lease) -> Value {
    json!({"status": "success", "data": lease})
}

pub(super) async fn show(State(runner): Shared, Path((app, id)): Ids) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    let held = runner
        .catalog
        .lease(&handle.view().record.id)
        .await
        .map_err(|error| catalog_refusal(&error))?;
    match lease::live(held, daemon::wall_clock::now().as_second()) {
        Some(lease) => Ok(Json(envelope(&lease))),
        None => Err(lease_refusal(&LeaseError::None)),
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct AcquireBody {
    ttl: Option<i64>,
    description: Option<String>,
    owner: Option<String>,
}

pub(super) async fn acquire(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
    ApiQuery(pairs): ApiQuery<Vec<(String, String)>>,
    ApiJson(body): ApiJson<Option<AcquireBody>>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let handle = find(&runner, &app, &id)?;
    let body = body.unwrap_or_default();
    let asked =
        match Pairs(pairs).get("ttl").filter(|text| !text.is_empty()) {
            Some(text) => Some(text.trim_end_matches('s').parse::<i64>().map_err(|_| {
                ApiError::bad_request(format!("ttl must be a number of seconds, got {text:?}"))
            })?),
            None => body.ttl,
        };
    let ttl_seconds = match asked {
        None => TTL_SECONDS_DEFAULT,
        Some(ttl) => u64::try_from(ttl).map_err(|_| ApiError::bad_request("ttl must not be negative"))?,
    };
    let (nonce, now) = (nonce_of(&headers), daemon::wall_clock::now().as_second());
    let (record, description) = (handle.view().record.clone(), body.description.unwrap_or_default());
    let owner = body.owner.unwrap_or_else(|| "user".to_owned());
    let lease = runner
        .catalog
        .change_lease::<LeaseCallError, _>(&record.id, move |held| {
            let ask = Acquire {
                nonce: nonce.as_deref(),
                ttl_seconds,
                owner: &owner,
                description: &description,
                version: &record.instance_id,
                fresh_nonce: daemon::random::hex(8),
            };
            Ok(Some(lease::acquire(held, ask, now)?))
        })
        .await?;
    let lease = lease.ok_or_else(|| lease_refusal(&LeaseError::None))?;
    Ok((StatusCode::CREATED, Json(envelope(&lease))))
}

pub(super) async fn release(
    State(runner): Shared,
    Path((app, id)): Ids,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    let (nonce, now) = (nonce_of(&headers), daemon::wall_clock::now().as_second());
    let id = handle.view().record.id.clone();
    let destroyed = handle.view().record.state == crate::lifecycle::State::Destroyed;
    runner
        .catalog
        .change_lease::<LeaseCallError, _>(&id, move |held| {
            // A machine that is gone cannot be endangered by whoever releases it.
            if !destroyed {
                lease::release(held, nonce.as_deref(), now)?;
            }
            Ok(None)
        })
        .await?;
    Ok(Json(json!({"ok": true})))
}
