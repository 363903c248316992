//! What concerns the node and not one volume.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use daemon::{ApiError, ApiJson, ApiQuery};
use jiff::Timestamp;
use objstore::Purpose;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Answer;
use crate::catalog::Event;
use crate::ops::chain;
use crate::service::{Inspection, ScrubReport, ScrubRequest, Service};
use crate::sweep::Collected;

const STORE_WAIT: Duration = Duration::from_secs(3);

pub(super) async fn health(State(service): State<Service>) -> Answer<Value> {
    let ctx = service.context();
    let running = service.running().await?.len();
    let listed = ctx.store.list("backup/", None, 1, Purpose("health"));
    let object_store = match tokio::time::timeout(STORE_WAIT, listed).await {
        Ok(Ok(_)) => "ok".to_owned(),
        Ok(Err(error)) => format!("unreachable: {}", chain(&error)),
        Err(_) => format!("unreachable: no answer within {} s", STORE_WAIT.as_secs()),
    };
    let pools: Vec<&str> = ctx.pools.all().map(|p| p.name()).collect();
    let exported = service.key_exported_at().await?;
    Ok(Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "region": ctx.settings.region,
        "zones": ctx.settings.zones,
        "cluster_key_id": ctx.keys.get().id().to_string(),
        "key_exported": exported.is_some(),
        "other_keys": service.other_keys(),
        "pools": pools,
        "object_store": object_store,
        "running_operations": running,
    })))
}

pub(super) async fn pools(State(service): State<Service>) -> Answer<Vec<Value>> {
    let mut answer = Vec::new();
    for pool in service.context().pools.all() {
        let (can, rules) = (pool.capabilities(), pool.capacity());
        let promised = service.promised(pool.name()).await?;
        let usage = pool.usage().await;
        let mut row = json!({
            "name": pool.name(),
            "kind": pool.kind(),
            "reflink": can.reflink,
            "atomic_snapshot": can.atomic_snapshot,
            "encryption": can.encryption,
            "promised_bytes": promised.bytes(!can.reflink),
            "deleted_bytes": promised.deleted_bytes,
            "largest_volume_bytes": promised.largest_bytes,
            "reserve_bytes": rules.reserve_bytes,
            "overcommit_ratio": rules.overcommit_ratio,
            "total_bytes": 0,
            "free_bytes": 0,
            "allocated_bytes": 0,
            "promisable_bytes": 0,
            "state": "ok",
            "reason": null,
            "unknown_slices": service.unknown_slices(pool.name()),
        });
        match usage {
            Ok(usage) => {
                row["total_bytes"] = usage.total_bytes.into();
                row["free_bytes"] = usage.free_bytes.into();
                row["allocated_bytes"] = usage.allocated_bytes.into();
                row["promisable_bytes"] = rules.promisable_bytes(&usage).into();
            }
            Err(error) => {
                row["state"] = "unusable".into();
                row["reason"] = chain(&error).into();
            }
        }
        if let Ok(verdict) = service.judge_pool(&**pool).await {
            row["state"] = verdict.state.into();
            row["reason"] = verdict.reason.into();
        }
        answer.push(row);
    }
    Ok(Json(answer))
}

pub(super) async fn inspection(State(service): State<Service>) -> Answer<Inspection> {
    Ok(Json(service.inspect().await?))
}

pub(super) async fn gc(State(service): State<Service>) -> Answer<Collected> {
    Ok(Json(service.collect_garbage().await))
}

pub(super) async fn scrub(
    State(service): State<Service>,
    ApiJson(request): ApiJson<Option<ScrubRequest>>,
) -> Answer<ScrubReport> {
    Ok(Json(service.scrub(&request.unwrap_or_default()).await?))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct OperationsQuery {
    subject: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct OperationView {
    id: String,
    subject: String,
    kind: String,
    status: &'static str,
    why: Option<String>,
    step: usize,
    steps: Vec<&'static str>,
    attempts: u32,
    last_error: Option<String>,
    at: Timestamp,
}

pub(super) async fn operations(
    State(service): State<Service>,
    ApiQuery(query): ApiQuery<OperationsQuery>,
) -> Answer<Vec<OperationView>> {
    let rows = service.operations(query.subject).await?;
    let view = |row: crate::catalog::OperationRow| {
        let record = row.record;
        let known = crate::ops::KINDS.iter().find(|(kind, _)| *kind == record.kind);
        let why = match &record.status {
            operation::Status::Undoing { why, .. } | operation::Status::Aborted { why, .. } => {
                Some(why.clone())
            }
            operation::Status::Handoff { to } => Some(format!("handed to {to}")),
            operation::Status::Running | operation::Status::Done => None,
        };
        OperationView {
            id: record.id.to_string(),
            subject: record.subject,
            status: record.status.name(),
            why,
            step: record.next,
            steps: known
                .map(|(_, steps)| steps.iter().map(|s| s.name).collect())
                .unwrap_or_default(),
            kind: record.kind,
            attempts: record.attempts,
            last_error: record.last_error,
            at: row.at,
        }
    };
    Ok(Json(rows.into_iter().map(view).collect()))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    after: i64,
}

pub(super) async fn events(
    State(service): State<Service>,
    ApiQuery(query): ApiQuery<EventsQuery>,
) -> Answer<Vec<Event>> {
    Ok(Json(service.events(query.after).await?))
}

pub(super) async fn key(State(service): State<Service>) -> Answer<Value> {
    let exported_at = service.key_exported_at().await?;
    Ok(Json(
        json!({ "id": service.context().keys.get().id().to_string(), "exported_at": exported_at }),
    ))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ExportRequest {
    passphrase: Option<String>,
}

pub(super) async fn export_key(State(service): State<Service>) -> Answer<Value> {
    exported(&service, None).await
}

pub(super) async fn export_key_sealed(
    State(service): State<Service>,
    ApiJson(request): ApiJson<Option<ExportRequest>>,
) -> Answer<Value> {
    exported(&service, request.unwrap_or_default().passphrase.as_deref()).await
}

async fn exported(service: &Service, passphrase: Option<&str>) -> Answer<Value> {
    let text = service.export_key(passphrase).await?;
    Ok(Json(
        json!({ "id": service.context().keys.get().id().to_string(), "text": text.as_str() }),
    ))
}

#[derive(Deserialize)]
pub(super) struct ImportRequest {
    text: String,
    passphrase: Option<String>,
}

pub(super) async fn import_key(
    State(service): State<Service>,
    ApiJson(request): ApiJson<ImportRequest>,
) -> Answer<Value> {
    let id = service
        .import_key(&request.text, request.passphrase.as_deref())
        .await
        .map_err(ApiError::from)?;
    // What the bucket holds under this key can be listed now.
    if let Err(why) = service.adopt(STORE_WAIT).await {
        tracing::warn!(why, "bucket not listed after the key import");
    }
    Ok(Json(json!({ "id": id })))
}
