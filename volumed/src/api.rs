//! The HTTP API on the Unix socket: routes to service calls, nothing else.

use std::path::PathBuf;

use axum::extract::{Path, State};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use daemon::api_error::with_json_fallbacks;
use daemon::{ApiError, ApiJson, ApiQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use crate::pool::SliceId;
use crate::service::{
    AttachmentView, CreateRequest, Service, SnapshotView, UpdateRequest, UsageReport, VolumeView,
};
use crate::volume::{SnapshotId, Volume, VolumeId};

mod moves;
mod node;

#[cfg(test)]
mod tests;

type Answer<T> = Result<Json<T>, ApiError>;

/// Returns every route of the daemon.
pub fn router(service: Service) -> Router {
    let router = Router::new()
        .route("/v1/health", get(node::health))
        .route("/v1/pools", get(node::pools))
        .route("/v1/inspection", get(node::inspection))
        .route("/v1/gc", post(node::gc))
        .route("/v1/scrub", post(node::scrub))
        .route("/v1/operations", get(node::operations))
        .route("/v1/events", get(node::events))
        .route("/v1/key", get(node::key))
        .route(
            "/v1/key/export",
            get(node::export_key).post(node::export_key_sealed),
        )
        .route("/v1/key/import", post(node::import_key))
        .route("/v1/volumes", get(list).post(create))
        .route("/v1/volumes/{id}", get(show).put(update).delete(destroy))
        .route("/v1/volumes/{id}/recover", post(recover))
        .route("/v1/volumes/{id}/purge", post(purge))
        .route("/v1/volumes/{id}/extend", put(extend))
        .route(
            "/v1/volumes/{id}/drain",
            post(moves::drain).delete(moves::give_up),
        )
        .route("/v1/volumes/{id}/claim", post(moves::claim))
        .route("/v1/volumes/{id}/attach", post(attach))
        .route("/v1/volumes/{id}/detach", post(detach))
        .route("/v1/volumes/{id}/report", post(report))
        .route("/v1/volumes/{id}/mount", put(mount).delete(unmount))
        .route("/v1/volumes/{id}/attachment", get(attachment))
        .route("/v1/volumes/{id}/snapshots", get(snapshots_of).post(snapshot))
        .route("/v1/snapshots", get(snapshots))
        .route("/v1/snapshots/{id}", get(show_snapshot).delete(delete_snapshot))
        .route("/v1/snapshots/{id}/verify", post(verify))
        .with_state(service.clone());
    with_json_fallbacks(router.merge(service.metrics().router()))
}

fn volume_id(text: &str) -> Result<VolumeId, ApiError> {
    // A text that cannot be an id names nothing that exists.
    VolumeId::parse(text).map_err(|_| ApiError::not_found("volume not found"))
}

fn snapshot_id(text: &str) -> Result<SnapshotId, ApiError> {
    SnapshotId::parse(text).map_err(|_| ApiError::not_found("snapshot not found"))
}

/// Reads a JSON body whose absence means "nothing given".
fn or_default<T: Default>(body: Option<T>) -> T {
    body.unwrap_or_default()
}

fn object<T>(body: Option<T>) -> Result<T, ApiError> {
    body.ok_or_else(|| ApiError::bad_request("the request needs a JSON object as its body"))
}

async fn view(service: &Service, volume: &Volume) -> Result<VolumeView, ApiError> {
    let running = service.running().await?;
    Ok(view_with(service, volume, &running))
}

fn view_with(
    service: &Service,
    volume: &Volume,
    running: &std::collections::HashMap<String, String>,
) -> VolumeView {
    let pool = service.context().pools.get(&volume.pool);
    let atomic = pool.is_some_and(|p| p.capabilities().atomic_snapshot);
    let mut view = VolumeView::new(volume, atomic, running.get(volume.id.as_str()).cloned());
    if pool.is_some_and(|pool| pool.is_bottomless()) {
        view.r#type = "bottomless";
    }
    view
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    app: Option<String>,
    #[serde(default)]
    include_destroyed: bool,
}

async fn list(
    State(service): State<Service>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Answer<Vec<VolumeView>> {
    let volumes = service.volumes(query.app, query.include_destroyed).await?;
    let running = service.running().await?;
    Ok(Json(
        volumes.iter().map(|v| view_with(&service, v, &running)).collect(),
    ))
}

async fn create(
    State(service): State<Service>,
    ApiJson(request): ApiJson<Option<CreateRequest>>,
) -> Answer<VolumeView> {
    let volume = service.create(object(request)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn show(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.volume(&volume_id(&id)?).await?;
    let mut view = view(&service, &volume).await?;
    if let Some(pool) = service.context().pools.get(&volume.pool) {
        view.disk = pool.figures(&SliceId::Volume(volume.id.clone())).await;
    }
    Ok(Json(view))
}

async fn update(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<Option<UpdateRequest>>,
) -> Answer<VolumeView> {
    let volume = service.update(&volume_id(&id)?, or_default(request)).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn destroy(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.destroy(&volume_id(&id)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn purge(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.purge(&volume_id(&id)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn recover(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.recover(&volume_id(&id)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

#[derive(Debug, Default, Deserialize)]
struct ExtendRequest {
    size_gb: Option<Number>,
}

#[derive(Debug, Serialize)]
struct ExtendAnswer {
    volume: VolumeView,
    needs_restart: bool,
}

async fn extend(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<Option<ExtendRequest>>,
) -> Answer<ExtendAnswer> {
    let id = volume_id(&id)?;
    let volume = service.extend(&id, object(request)?.size_gb.as_ref()).await?;
    Ok(Json(ExtendAnswer {
        needs_restart: volume.needs_restart,
        volume: view(&service, &volume).await?,
    }))
}

#[derive(Debug, Deserialize)]
struct AttachRequest {
    machine_id: String,
}

async fn attach(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<AttachRequest>,
) -> Answer<AttachmentView> {
    let (volume, device) = service.attach(&volume_id(&id)?, &request.machine_id).await?;
    let view = view(&service, &volume).await?;
    Ok(Json(AttachmentView::new(&volume, view, &device)))
}

async fn attachment(State(service): State<Service>, Path(id): Path<String>) -> Answer<AttachmentView> {
    let (volume, device) = service.attachment(&volume_id(&id)?).await?;
    let view = view(&service, &volume).await?;
    Ok(Json(AttachmentView::new(&volume, view, &device)))
}

#[derive(Debug, Deserialize)]
struct DetachRequest {
    machine_id: String,
    generation: u64,
}

async fn detach(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<DetachRequest>,
) -> Answer<VolumeView> {
    let volume = service
        .detach(&volume_id(&id)?, &request.machine_id, request.generation)
        .await?;
    Ok(Json(view(&service, &volume).await?))
}

#[derive(Debug, Deserialize)]
struct MountRequest {
    host_path: PathBuf,
}

async fn mount(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<MountRequest>,
) -> Answer<VolumeView> {
    let volume = service.mount(&volume_id(&id)?, &request.host_path).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn unmount(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.unmount(&volume_id(&id)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn report(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<UsageReport>,
) -> Answer<VolumeView> {
    let volume = service.report(&volume_id(&id)?, request).await?;
    Ok(Json(view(&service, &volume).await?))
}

async fn snapshot(State(service): State<Service>, Path(id): Path<String>) -> Answer<SnapshotView> {
    let snapshot = service.take_snapshot(&volume_id(&id)?).await?;
    Ok(Json(SnapshotView::from(&snapshot)))
}

async fn snapshots_of(State(service): State<Service>, Path(id): Path<String>) -> Answer<Vec<SnapshotView>> {
    let snapshots = service.snapshots_of(&volume_id(&id)?).await?;
    Ok(Json(snapshots.iter().map(SnapshotView::from).collect()))
}

#[derive(Debug, Default, Deserialize)]
struct AppQuery {
    app: Option<String>,
}

async fn snapshots(
    State(service): State<Service>,
    ApiQuery(query): ApiQuery<AppQuery>,
) -> Answer<Vec<SnapshotView>> {
    let snapshots = service.snapshots(query.app).await?;
    Ok(Json(snapshots.iter().map(SnapshotView::from).collect()))
}

async fn show_snapshot(State(service): State<Service>, Path(id): Path<String>) -> Answer<SnapshotView> {
    let snapshot = service.snapshot(&snapshot_id(&id)?).await?;
    Ok(Json(SnapshotView::from(&snapshot)))
}

async fn delete_snapshot(State(service): State<Service>, Path(id): Path<String>) -> Answer<SnapshotView> {
    let snapshot = service.delete_snapshot(&snapshot_id(&id)?).await?;
    Ok(Json(SnapshotView::from(&snapshot)))
}

async fn verify(State(service): State<Service>, Path(id): Path<String>) -> Answer<Value> {
    let report = service.verify(&snapshot_id(&id)?).await?;
    let errors: Vec<String> = report.damages.iter().map(ToString::to_string).collect();
    Ok(Json(
        json!({ "blocks": report.blocks, "bytes": report.bytes, "errors": errors }),
    ))
}
