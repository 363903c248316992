//! Volumes that go from this node and come to it.

use axum::Json;
use axum::extract::{Path, State};
use daemon::ApiJson;
use serde::Serialize;

use super::{Answer, or_default, view, volume_id};
use crate::service::{ClaimRequest, Service, VolumeView};

#[derive(Debug, Serialize)]
pub(super) struct DrainAnswer {
    volume: VolumeView,
    /// Absent when it is drained.
    waits_for: Option<String>,
}

pub(super) async fn drain(State(service): State<Service>, Path(id): Path<String>) -> Answer<DrainAnswer> {
    let (volume, waits_for) = service.drain(&volume_id(&id)?).await?;
    let volume = view(&service, &volume).await?;
    Ok(Json(DrainAnswer { volume, waits_for }))
}

pub(super) async fn give_up(State(service): State<Service>, Path(id): Path<String>) -> Answer<VolumeView> {
    let volume = service.give_up_drain(&volume_id(&id)?).await?;
    Ok(Json(view(&service, &volume).await?))
}

pub(super) async fn claim(
    State(service): State<Service>,
    Path(id): Path<String>,
    ApiJson(request): ApiJson<Option<ClaimRequest>>,
) -> Answer<VolumeView> {
    let volume = service.claim(&volume_id(&id)?, &or_default(request)).await?;
    Ok(Json(view(&service, &volume).await?))
}
