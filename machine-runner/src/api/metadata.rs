//! Metadata: changed without a new version and without the guest noticing.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiJson};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Shared, allow, edit, find};
use crate::record::MachineRecord;

type Ids = Path<(String, String)>;

fn metadata_of(record: &MachineRecord) -> Map<String, Value> {
    record
        .config
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

fn set_metadata(record: &mut MachineRecord, metadata: Map<String, Value>) {
    if let Some(config) = record.config.as_object_mut() {
        config.insert("metadata".to_owned(), Value::Object(metadata));
    }
}

pub(super) async fn all(State(runner): Shared, Path((app, id)): Ids) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    Ok(Json(Value::Object(metadata_of(&handle.view().record))))
}

#[derive(Debug, Deserialize)]
pub(super) struct Body {
    metadata: BTreeMap<String, Option<String>>,
    machine_version: Option<String>,
}

/// Applies changes: null or "" removes a key. Pure.
fn merge(
    mut present: Map<String, Value>,
    changes: BTreeMap<String, Option<String>>,
) -> Result<Map<String, Value>, ApiError> {
    for (key, value) in changes {
        if key.is_empty() || key.len() > 256 {
            return Err(ApiError::bad_request(
                "metadata keys must have 1 to 256 characters",
            ));
        }
        match value.filter(|value| !value.is_empty()) {
            Some(value) => drop(present.insert(key, Value::String(value))),
            None => drop(present.remove(&key)),
        }
    }
    Ok(present)
}

async fn change(
    runner: &crate::runner::Runner,
    (app, id): (String, String),
    headers: &HeaderMap,
    version: Option<String>,
    change: impl FnOnce(Map<String, Value>) -> Result<Map<String, Value>, ApiError> + Send + 'static,
) -> Result<Value, ApiError> {
    let handle = find(runner, &app, &id)?;
    allow(runner, &handle, headers).await?;
    let outcome = edit(&handle, move |record| {
        if version.is_some_and(|version| !version.is_empty() && version != record.instance_id) {
            let sentence = format!(
                "failed_precondition: the machine's version is {}",
                record.instance_id
            );
            return Err(ApiError::precondition_failed(sentence));
        }
        let metadata = change(metadata_of(record))?;
        set_metadata(record, metadata);
        Ok(())
    })
    .await?;
    Ok(Value::Object(metadata_of(&outcome.record)))
}

pub(super) async fn replace(
    State(runner): Shared,
    Path(ids): Ids,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Body>,
) -> Result<Json<Value>, ApiError> {
    let replaced = change(&runner, ids, &headers, body.machine_version, |_| {
        merge(Map::new(), body.metadata)
    })
    .await?;
    Ok(Json(replaced))
}

pub(super) async fn patch(
    State(runner): Shared,
    Path(ids): Ids,
    headers: HeaderMap,
    ApiJson(body): ApiJson<Body>,
) -> Result<Json<Value>, ApiError> {
    let patched = change(&runner, ids, &headers, body.machine_version, |present| {
        merge(present, body.metadata)
    })
    .await?;
    Ok(Json(patched))
}

type KeyIds = Path<(String, String, String)>;

pub(super) async fn one(
    State(runner): Shared,
    Path((app, id, key)): KeyIds,
) -> Result<Json<Value>, ApiError> {
    let handle = find(&runner, &app, &id)?;
    match metadata_of(&handle.view().record).get(&key) {
        Some(value) => Ok(Json(json!({"value": value}))),
        None => Err(ApiError::not_found(format!("machine has no metadata {key:?}"))),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ValueBody {
    value: Option<String>,
}

pub(super) async fn set(
    State(runner): Shared,
    Path((app, id, key)): KeyIds,
    headers: HeaderMap,
    ApiJson(body): ApiJson<ValueBody>,
) -> Result<StatusCode, ApiError> {
    let changes = BTreeMap::from([(key, body.value)]);
    change(&runner, (app, id), &headers, None, |present| {
        merge(present, changes)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(runner): Shared,
    Path((app, id, key)): KeyIds,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let changes = BTreeMap::from([(key, None)]);
    change(&runner, (app, id), &headers, None, |present| {
        merge(present, changes)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests;
