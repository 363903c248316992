//! The shim's own API, for the daemon alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use bytes::Bytes;
use daemon::{ApiError, ApiJson, ApiQuery};
use guest_init::proto::message::{ErrorKind, Exec, VolumeUsage};
use guest_init::proto::{Reply, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::agent::AgentError;
use super::facts::{
    CopyRequest, ExecOutcome, ExecRequest, GrowRequest, Grown, SignalRequest, Status, StopRequest,
};
use super::run::{CALL_LIMIT, Shim, chain};
use super::suspend::Suspended;
use crate::vmm::{Vmm as _, VmmError};

/// Longest wait of `GET /status?after=`.
const STATUS_WAIT: Duration = Duration::from_secs(30);
/// Time beyond a command's own deadline in which the guest must have answered.
const EXEC_GRACE: Duration = Duration::from_secs(20);

type Answer<T> = Result<axum::Json<T>, ApiError>;

pub(super) fn router(shim: Arc<Shim>) -> Router {
    let router = Router::new()
        .route("/status", get(status))
        .route("/exec", post(exec))
        .route("/signal", post(signal))
        .route("/stop", post(stop))
        .route("/kill", post(kill))
        .route("/grow", post(grow))
        .route("/copy", post(copy))
        .route("/suspend", post(suspend))
        .route("/suspend/cancel", post(cancel_suspend))
        .route("/usage", get(usage))
        .route("/names", put(names))
        .layer(axum::extract::DefaultBodyLimit::max(32 << 20))
        .with_state(shim);
    daemon::api_error::with_json_fallbacks(router)
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

async fn status(State(shim): State<Arc<Shim>>, ApiQuery(After { after }): ApiQuery<After>) -> Answer<Status> {
    let mut watch = shim.board.watch();
    if let Some(after) = after {
        let changed = watch.wait_for(|status| status.seq > after);
        // Nothing new within the time, or until the run is over, is an answer too: the present status.
        tokio::select! {
            _ = tokio::time::timeout(STATUS_WAIT, changed) => {}
            () = shim.over.cancelled() => {}
        }
    }
    Ok(axum::Json(shim.board.status()))
}

fn agent_error(error: &AgentError) -> ApiError {
    match error {
        AgentError::Lost => ApiError::unavailable(error.to_string()),
        AgentError::Timeout { .. } => {
            ApiError::deadline_exceeded(format!("deadline_exceeded: timeout: {error}"))
        }
        AgentError::WrongReply => ApiError::internal(error.to_string()),
        AgentError::Refused { kind, .. } => match kind {
            ErrorKind::WrongPhase => ApiError::precondition_failed(error.to_string()),
            ErrorKind::NotFound | ErrorKind::NotExecutable | ErrorKind::Invalid => {
                ApiError::unprocessable(error.to_string())
            }
            ErrorKind::Timeout => ApiError::deadline_exceeded(error.to_string()),
            ErrorKind::Busy => ApiError::unavailable(error.to_string()),
            ErrorKind::Io => ApiError::internal(error.to_string()),
        },
    }
}

fn vmm_error(error: &VmmError) -> ApiError {
    let text = chain(error);
    match error {
        VmmError::UnknownDisk { .. } => ApiError::not_found(text),
        VmmError::Shrink { .. } => ApiError::unprocessable(text),
        VmmError::Timeout { .. } => ApiError::deadline_exceeded(text),
        VmmError::Control(_) | VmmError::Io { .. } | VmmError::Ended { .. } | VmmError::Job { .. } => {
            ApiError::internal(text)
        }
    }
}

async fn exec(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<ExecRequest>) -> Answer<ExecOutcome> {
    let exec = Exec {
        command: ask.command,
        timeout_ms: Some(ask.timeout_ms),
        ..Exec::default()
    };
    let limit = Duration::from_millis(ask.timeout_ms) + EXEC_GRACE;
    let outcome = shim.agent.exec(exec, ask.stdin.map(Bytes::from), limit).await;
    outcome.map(axum::Json).map_err(|error| agent_error(&error))
}

async fn signal(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<SignalRequest>) -> Answer<Value> {
    let request = Request::Signal { signal: ask.signal };
    shim.agent
        .call(request, CALL_LIMIT)
        .await
        .map_err(|error| agent_error(&error))?;
    Ok(axum::Json(json!({"ok": true})))
}

async fn stop(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<StopRequest>) -> Answer<Value> {
    shim.stop(ask);
    Ok(axum::Json(json!({"ok": true})))
}

async fn kill(State(shim): State<Arc<Shim>>) -> Answer<Value> {
    shim.note_requested();
    shim.kill().await;
    Ok(axum::Json(json!({"ok": true})))
}

fn not_up() -> ApiError {
    ApiError::unavailable("the virtual machine is not up yet; try again")
}

async fn grow(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<GrowRequest>) -> Answer<Grown> {
    let qemu = shim.qemu.get().ok_or_else(not_up)?;
    qemu.resize_disk(&ask.serial, ask.size_bytes)
        .await
        .map_err(|error| vmm_error(&error))?;
    let grown = shim
        .grow_fs(&ask.serial, ask.size_bytes)
        .await
        .map_err(|error| agent_error(&error))?;
    Ok(axum::Json(Grown {
        fs_bytes: grown.0,
        device_bytes: grown.1,
    }))
}

async fn copy(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<CopyRequest>) -> Answer<Value> {
    shim.qemu.get().ok_or_else(not_up)?;
    // In a task of its own: a caller that dies drops this call, and a copy dropped midway would leave its job running
    // and its file open.
    let given_up = CancellationToken::new();
    let _with_the_call = given_up.clone().drop_guard();
    let (answer, answered) = oneshot::channel();
    let task = {
        let shim = Arc::clone(&shim);
        async move {
            let Some(qemu) = shim.qemu.get() else { return };
            let copied = qemu
                .copy_disk(&ask.serial, &ask.target_path, &ask.copy_id, &given_up)
                .await;
            if let Err(Err(error)) = answer.send(copied) {
                tracing::info!(error = chain(&error), "a copy was given up by its caller");
            }
        }
    };
    shim.task("copy", task);
    let copied = answered
        .await
        .map_err(|_| ApiError::unavailable("the virtual machine has ended"))?;
    copied.map_err(|error| vmm_error(&error))?;
    Ok(axum::Json(json!({})))
}

async fn suspend(State(shim): State<Arc<Shim>>) -> Answer<Value> {
    if shim.is_saved() {
        return Ok(axum::Json(json!({"suspended": true})));
    }
    match shim.suspend().await.map_err(|error| vmm_error(&error))? {
        Suspended::Done => Ok(axum::Json(json!({"suspended": true}))),
        Suspended::Cancelled => Ok(axum::Json(json!({"suspended": false}))),
        Suspended::Busy => Err(ApiError::conflict(
            "a suspension is under way, or the machine is not up yet",
        )),
    }
}

async fn cancel_suspend(State(shim): State<Arc<Shim>>) -> Answer<Value> {
    Ok(axum::Json(json!({"cancelled": shim.suspend.cancel()})))
}

async fn usage(State(shim): State<Arc<Shim>>) -> Answer<Vec<VolumeUsage>> {
    match shim
        .agent
        .call(Request::Usage, CALL_LIMIT)
        .await
        .map_err(|error| agent_error(&error))?
    {
        Reply::Usage(usage) => Ok(axum::Json(usage)),
        _ => Err(agent_error(&AgentError::WrongReply)),
    }
}

#[derive(Deserialize)]
struct Names {
    records: Vec<guest_init::proto::config::NameRecord>,
}

async fn names(State(shim): State<Arc<Shim>>, ApiJson(ask): ApiJson<Names>) -> Answer<Value> {
    let request = Request::Names { records: ask.records };
    shim.agent
        .call(request, CALL_LIMIT)
        .await
        .map_err(|error| agent_error(&error))?;
    Ok(axum::Json(json!({})))
}
