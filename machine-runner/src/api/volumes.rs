//! What volumed asks about volumes that guests hold.

use axum::Json;
use axum::extract::{Path, State};
use daemon::{ApiError, ApiJson};
use serde_json::{Value, json};

use super::Shared;
use crate::runner::{CopyCall, GrowCall, GrowResult};

pub(super) async fn grow(
    State(runner): Shared,
    Path(volume): Path<String>,
    ApiJson(call): ApiJson<GrowCall>,
) -> Result<Json<GrowResult>, ApiError> {
    runner.grow_volume(&volume, &call).await.map(Json)
}

pub(super) async fn copy(
    State(runner): Shared,
    Path(volume): Path<String>,
    ApiJson(call): ApiJson<CopyCall>,
) -> Result<Json<Value>, ApiError> {
    let copied = runner.copy_volume(&volume, call).await?;
    Ok(Json(if copied {
        json!({})
    } else {
        json!({"detached_guest": true})
    }))
}
