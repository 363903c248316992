//! Images: list, import, remove.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use daemon::{ApiError, ApiJson};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use crate::images::{Digest, Image, Progress, Removed};
use crate::runner::Runner;

/// Progress lines that a slow reader may be behind; more are dropped, the result never is.
const LINES_QUEUED: usize = 256;

pub(super) async fn list(State(runner): Shared) -> Json<Vec<Image>> {
    Json(runner.images.list())
}

#[derive(Debug, Deserialize)]
pub(super) struct ImportBody {
    path: Option<PathBuf>,
    reference: Option<String>,
    name: Option<String>,
}

/// Imports from a path (the reference is then the image's name) or pulls a reference. Answers with JSON lines:
/// progress, then `{"step": "result", "images": […]}` or `{"step": "error", "error": …, "http_status": …}`.
pub(super) async fn import(
    State(runner): Shared,
    ApiJson(body): ApiJson<ImportBody>,
) -> Result<Response, ApiError> {
    let name = body.reference.or(body.name).filter(|name| !name.is_empty());
    if let Some(path) = &body.path
        && !path.is_absolute()
    {
        return Err(ApiError::bad_request(format!(
            "path must be absolute, got {}",
            path.display()
        )));
    }
    if body.path.is_none() && name.is_none() {
        return Err(ApiError::bad_request(
            "send path (of an OCI layout or docker-archive) or reference",
        ));
    }
    let (lines, queue) = mpsc::channel::<Value>(LINES_QUEUED);
    daemon::spawn("import", import_all(runner, body.path, name, lines));
    let stream = futures_util::stream::unfold(queue, |mut queue| async move {
        let line = queue.recv().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from(format!("{line}\n"))), queue))
    });
    Ok((
        [(http::header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(stream),
    )
        .into_response())
}

async fn import_all(
    runner: Arc<Runner>,
    path: Option<PathBuf>,
    name: Option<String>,
    lines: mpsc::Sender<Value>,
) {
    let progress_lines = lines.clone();
    let progress: Progress = Arc::new(move |event| {
        // A full queue or a gone reader costs progress lines, nothing else.
        let _dropped = progress_lines.try_send(json!(event));
    });
    let result = match (path, name) {
        (Some(path), name) => runner.images.import_path(&path, name.as_deref(), progress).await,
        (None, name) => {
            let pulled = runner.images.pull(&name.unwrap_or_default(), progress).await;
            pulled.map(|image| vec![image])
        }
    };
    let last = match result {
        Ok(images) => json!({"step": "result", "images": images}),
        Err(error) => {
            let status = error.status().as_u16();
            json!({"step": "error", "error": error.with_causes(), "http_status": status})
        }
    };
    let _gone = lines.send(last).await;
}

pub(super) async fn remove(
    State(runner): Shared,
    Path(name): Path<String>,
) -> Result<Json<Removed>, ApiError> {
    let in_use = runner.images_in_use();
    let in_use = |digest: &Digest| in_use.contains(&digest.to_string());
    match runner.images.remove(&name, &in_use) {
        Ok(removed) => Ok(Json(removed)),
        Err(error) => Err(ApiError::new(error.status(), error.to_string())),
    }
}
