//! The control socket: HTTP over `control.sock`.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use crashsafe::RealDisk;
use daemon::api_error::with_json_fallbacks;
use daemon::{ApiError, ApiJson};
use log_disk::{BLOCK_BYTES, Lag, Outcome, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, oneshot};

use super::driver::{Event, Gone, Order, Orders, Report};
use super::metrics::{Metrics, bytes};
use super::settings::{Changes, Settings, SettingsError};
use super::state::{Phase, State};

/// What the routes work with.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) state: Arc<State>,
    pub(super) metrics: Metrics,
    pub(super) registry: daemon::metrics::Metrics,
    pub(super) settings_file: PathBuf,
    /// One change of the settings at a time.
    pub(super) changing: Arc<Mutex<()>>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Where the process is.
    pub state: Phase,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The process.
    pub pid: u32,
    /// What it was told, with later changes.
    pub settings: Settings,
    /// Figures; absent unless it serves.
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// The figures of a disk that is served.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The epoch in which this process owns the disk.
    pub epoch: u32,
    /// Its size now.
    pub size_now_bytes: u64,
    /// The last record accepted.
    pub accepted_seq: u64,
    /// The last one known to be durable on this host.
    pub journaled_seq: u64,
    /// The last one that the store has, without a gap.
    pub durable_seq: u64,
    /// Age of the oldest that it does not have.
    pub lag_ms: u64,
    /// Bytes that it does not have.
    pub lag_bytes: u64,
    /// Thousandths of the ring in use.
    pub ring_fill_permille: u64,
    /// Bytes of blocks in objects, before compression.
    pub stored_bytes: u64,
    /// Those that are needed.
    pub live_bytes: u64,
    /// Those that are not.
    pub garbage_bytes: u64,
    /// Objects in the store.
    pub objects: u64,
    /// Snapshots kept.
    pub snapshots: u64,
    /// Connections to the export.
    pub clients: u64,
    /// Bytes of objects that guests wanted and that the cache had, since the process began.
    pub cache_hit_bytes: u64,
    /// Those that it had not.
    pub cache_miss_bytes: u64,
}

impl From<Report> for Figures {
    fn from(report: Report) -> Self {
        let Report {
            epoch,
            size_blocks,
            stats,
            cache,
            clients,
            snapshots,
        } = report;
        Self {
            epoch: epoch.0,
            size_now_bytes: bytes(size_blocks),
            accepted_seq: stats.accepted_seq.0,
            journaled_seq: stats.journaled_seq.0,
            durable_seq: stats.durable_seq.0,
            lag_ms: stats.lag.micros / 1000,
            lag_bytes: stats.lag.bytes,
            ring_fill_permille: stats.ring_permille,
            stored_bytes: bytes(stats.stored_blocks),
            live_bytes: bytes(stats.live_blocks),
            garbage_bytes: bytes(stats.stored_blocks.saturating_sub(stats.live_blocks)),
            objects: stats.objects,
            snapshots: snapshots as u64,
            clients: clients as u64,
            cache_hit_bytes: cache.hit_bytes,
            cache_miss_bytes: cache.miss_bytes,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    size_bytes: u64,
}

type Answer<T> = Result<Json<T>, ApiError>;

/// Returns every route.
pub(super) fn router(control: Control) -> Router {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/snapshots", post(snapshot))
        .route("/v1/snapshots/{name}", delete(remove_snapshot))
        .route("/v1/extend", post(extend))
        .route("/v1/settings", put(change))
        .route("/v1/drain", post(drain))
        .route("/metrics", get(metrics))
        .with_state(control);
    with_json_fallbacks(router)
}

async fn status(Shared(control): Shared<Control>) -> Json<Status> {
    let report = match control.state.orders() {
        Some(orders) => orders.report().await.ok(),
        None => None,
    };
    let (state, why) = control.state.phase();
    Json(Status {
        state,
        why,
        pid: std::process::id(),
        settings: control.state.settings(),
        figures: report.map(Figures::from),
    })
}

async fn metrics(Shared(control): Shared<Control>) -> axum::response::Response {
    if let Some(orders) = control.state.orders()
        && let Ok(report) = orders.report().await
    {
        control.metrics.show(&report);
    }
    control.registry.answer()
}

async fn snapshot(Shared(control): Shared<Control>, ApiJson(new): ApiJson<NewSnapshot>) -> Answer<Value> {
    if new.name.is_empty() || new.name.len() > 255 {
        return Err(ApiError::bad_request("a snapshot's name has 1 to 255 bytes"));
    }
    let name = new.name.clone();
    let refused = || {
        ApiError::conflict(format!(
            "there is a snapshot {name:?} already, or too many of them"
        ))
    };
    ask(&control, Request::Snapshot { name: new.name }, refused).await?;
    Ok(Json(json!({ "name": name })))
}

async fn remove_snapshot(Shared(control): Shared<Control>, Path(name): Path<String>) -> Answer<Value> {
    let refused = || ApiError::not_found(format!("there is no snapshot {name:?}"));
    ask(&control, Request::RemoveSnapshot { name: name.clone() }, refused).await?;
    Ok(Json(json!({})))
}

async fn extend(Shared(control): Shared<Control>, ApiJson(to): ApiJson<Extend>) -> Answer<Value> {
    let unit = BLOCK_BYTES as u64;
    if to.size_bytes % unit != 0 {
        return Err(ApiError::bad_request("size_bytes must be a multiple of 4096"));
    }
    let refused = || ApiError::unprocessable("a disk never shrinks");
    let request = Request::Grow {
        size_blocks: to.size_bytes / unit,
    };
    ask(&control, request, refused).await?;
    Ok(Json(json!({ "size_bytes": to.size_bytes })))
}

async fn change(Shared(control): Shared<Control>, ApiJson(changes): ApiJson<Changes>) -> Answer<Settings> {
    let orders = serving(&control)?;
    let _one = control.changing.lock().await;
    let settings = control.state.settings().with(&changes);
    settings
        .check()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    // What is on the disk first: a restart must not take back what was promised.
    let (saved, file) = (settings.clone(), control.settings_file.clone());
    let written = tokio::task::spawn_blocking(move || saved.save(&RealDisk, &file)).await;
    let written: Result<(), SettingsError> =
        written.map_err(|error| ApiError::internal(error.to_string()))?;
    written.map_err(|error| ApiError::internal(super::store::chain(&error)))?;
    let config = settings.engine();
    let order = Order::Change {
        durability: config.durability,
        on_outage: config.on_outage,
        lag: Lag {
            bytes: config.lag_bytes_max,
            micros: config.lag_us_max,
        },
    };
    orders.send(Event::Order(order)).await.map_err(gone)?;
    control.state.set_settings(settings.clone());
    Ok(Json(settings))
}

async fn drain(Shared(control): Shared<Control>) -> Answer<Value> {
    let orders = serving(&control)?;
    let (answer, answered) = oneshot::channel();
    let order = Order::Drain { answer };
    orders.send(Event::Order(order)).await.map_err(gone)?;
    match answered.await {
        Ok(Ok(epoch)) => Ok(Json(json!({ "released": true, "epoch": epoch.0 }))),
        Ok(Err(why)) => Err(ApiError::internal(why)),
        Err(_) => Err(gone(Gone)),
    }
}

/// Makes a request of the disk.
async fn ask(
    control: &Control,
    request: Request,
    refused: impl FnOnce() -> ApiError,
) -> Result<(), ApiError> {
    let orders = serving(control)?;
    match orders.request(request).await.map_err(gone)? {
        Outcome::Done => Ok(()),
        Outcome::Refused => Err(refused()),
        Outcome::Failed => Err(ApiError::internal(
            "the disk stopped meanwhile; nobody knows whether it was done",
        )),
    }
}

fn serving(control: &Control) -> Result<Orders, ApiError> {
    control.state.orders().ok_or_else(|| {
        let (phase, _) = control.state.phase();
        let code = if phase == Phase::Opening {
            "opening"
        } else {
            "stopped"
        };
        ApiError::unavailable("the disk is not served now").with_code(code)
    })
}

fn gone(gone: Gone) -> ApiError {
    ApiError::unavailable(gone.to_string()).with_code("stopped")
}
