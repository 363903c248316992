//! Volumes: volumed's API, cut to what belongs to the app.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Method;
use serde_json::{Map, Value};

use super::Api;
use super::body::{self, JsonBody};
use super::scope::AppScope;
use crate::refusal::Refusal;
use crate::store::AppRow;
use crate::upstream::{Call, relay};

/// Sent to volumed when the request names no size and no source to take it from.
const DEFAULT_SIZE_GB: u64 = 3;
/// An extend answers after at most 60 s.
const EXTEND_PATIENCE: Duration = Duration::from_secs(90);
/// Creation prepares space; a busy disk may take its time.
const CREATE_PATIENCE: Duration = Duration::from_secs(120);
/// A claim waits for the former owner's time and reads the disk's map; a drain uploads what there is.
const MOVE_PATIENCE: Duration = Duration::from_secs(120);
/// The fields of a create request that mean something to volumed; placement hints for other hosts do not.
const CREATE_FIELDS: [&str; 18] = [
    "name",
    "region",
    "zone",
    "size_gb",
    "encrypted",
    "fstype",
    "snapshot_retention",
    "snapshot_retention_hourly",
    "snapshot_retention_daily",
    "snapshot_retention_weekly",
    "auto_backup_enabled",
    "snapshot_id",
    "source_volume_id",
    "require_unique_zone",
    "unique_zone_app_wide",
    "type",
    "pool",
    "idempotency_key",
];

/// Lists the app's volumes, those in their grace period included.
pub(super) async fn list(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    let path = format!("/v1/volumes?app={}&include_destroyed=true", scope.app.name);
    Ok(relay(api.volumed.send(Call::new(Method::GET, &path)).await?))
}

/// Makes a volume: empty, from a snapshot, or as a fork.
pub(super) async fn create(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let request = create_request(&api, &scope, body.into_object()?).await?;
    let call = Call::new(Method::POST, "/v1/volumes")
        .body(&request)
        .patience(CREATE_PATIENCE);
    Ok(relay(api.volumed.send(call).await?))
}

async fn create_request(api: &Api, scope: &AppScope, body: Map<String, Value>) -> Result<Value, Refusal> {
    if let Some(region) = body::text(&body, "region")? {
        api.check_region(region)?;
    }
    check_compute(&body)?;
    let source = body::text(&body, "source_volume_id")?;
    let snapshot = body::text(&body, "snapshot_id")?;
    if let Some(source) = source {
        owned(api, scope, source).await?;
    }
    if let Some(snapshot) = snapshot
        && !scope.is_root()
    {
        check_snapshot(api, &scope.app, snapshot).await?;
    }
    let sized_by_source = source.is_some() || snapshot.is_some();
    let mut request: Map<String, Value> = body
        .iter()
        .filter(|(field, value)| {
            CREATE_FIELDS.contains(&field.as_str()) && (*value != "" || *field == "name")
        })
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    request.insert("app".to_owned(), Value::String(scope.app.name.clone()));
    if !sized_by_source {
        request.entry("size_gb").or_insert(Value::from(DEFAULT_SIZE_GB));
        request
            .entry("region")
            .or_insert(Value::String(api.default_region().code.clone()));
    }
    Ok(Value::Object(request))
}

/// The hint where to place a volume means nothing on one node, but is not taken for sense when it is none.
fn check_compute(body: &Map<String, Value>) -> Result<(), Refusal> {
    let hint = match body.get("compute") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(hint)) => hint,
        Some(_) => {
            return Err(Refusal::BadField {
                field: "compute",
                expected: "an object",
            });
        }
    };
    for field in ["compute.cpus", "compute.memory_mb"] {
        let name = field.trim_start_matches("compute.");
        match hint.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) if number.as_u64().is_some() => {}
            Some(_) => {
                return Err(Refusal::OutOfRange {
                    field,
                    expected: "a whole number, 0 or more",
                });
            }
        }
    }
    Ok(())
}

async fn check_snapshot(api: &Api, app: &AppRow, snapshot: &str) -> Result<(), Refusal> {
    if !crate::ids::is_snapshot(snapshot) {
        return Err(Refusal::SnapshotNotFound);
    }
    let found: Value = api.volumed.get(&format!("/v1/snapshots/{snapshot}")).await?;
    if found["app"] == app.name.as_str() {
        Ok(())
    } else {
        Err(Refusal::SnapshotNotFound)
    }
}

/// Reads a volume that must belong to the app.
pub(super) async fn owned(api: &Api, scope: &AppScope, volume: &str) -> Result<Value, Refusal> {
    if !crate::ids::is_volume(volume) {
        return Err(Refusal::VolumeNotFound);
    }
    let found: Value = api
        .volumed
        .get(&format!("/v1/volumes/{volume}"))
        .await
        .map_err(|refusal| match refusal {
            Refusal::Passed { status, .. } if status == http::StatusCode::NOT_FOUND => {
                Refusal::VolumeNotFound
            }
            other => other,
        })?;
    if found["app"] == scope.app.name.as_str() {
        Ok(found)
    } else {
        Err(Refusal::VolumeNotFound)
    }
}

/// Shows one volume.
pub(super) async fn show(State(api): State<Api>, scope: AppScope) -> Result<Json<Value>, Refusal> {
    owned(&api, &scope, scope.volume()?).await.map(Json)
}

/// Changes retention and schedule; null leaves a setting alone.
pub(super) async fn update(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let mut body = body.into_object()?;
    body.retain(|field, _| field.starts_with("snapshot_retention") || field == "auto_backup_enabled");
    act(&api, &scope, Method::PUT, "", Some(Value::Object(body)), None).await
}

/// Begins the volume's destruction; it can be recovered until its grace period ends.
pub(super) async fn destroy(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(&api, &scope, Method::DELETE, "", None, None).await
}

/// Makes the volume larger.
pub(super) async fn extend(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let mut body = body.into_object()?;
    if !body.contains_key("size_gb") {
        return Err(Refusal::MissingField { field: "size_gb" });
    }
    body.retain(|field, _| field == "size_gb");
    act(
        &api,
        &scope,
        Method::PUT,
        "/extend",
        Some(Value::Object(body)),
        Some(EXTEND_PATIENCE),
    )
    .await
}

/// Lists the volume's snapshots, oldest first, whether or not the volume still lives.
pub(super) async fn snapshots(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(&api, &scope, Method::GET, "/snapshots", None, None).await
}

/// Takes a snapshot. The body is ignored, as clients send anything or nothing.
pub(super) async fn snapshot(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(
        &api,
        &scope,
        Method::POST,
        "/snapshots",
        None,
        Some(CREATE_PATIENCE),
    )
    .await
}

/// Removes a volume at once: it cannot be recovered.
pub(super) async fn purge(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(&api, &scope, Method::POST, "/purge", None, Some(CREATE_PATIENCE)).await
}

/// Brings a volume back that is in its grace period.
pub(super) async fn recover(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(
        &api,
        &scope,
        Method::POST,
        "/recover",
        None,
        Some(CREATE_PATIENCE),
    )
    .await
}

/// Gives a bottomless volume up, so that another node may claim it.
pub(super) async fn drain(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(&api, &scope, Method::POST, "/drain", None, Some(MOVE_PATIENCE)).await
}

/// Keeps a volume that is being drained.
pub(super) async fn give_up_drain(State(api): State<Api>, scope: AppScope) -> Result<Response, Refusal> {
    act(&api, &scope, Method::DELETE, "/drain", None, Some(MOVE_PATIENCE)).await
}

/// Takes a bottomless volume up from the bucket. Whether it is the app's, volumed reads there.
pub(super) async fn claim(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let volume = scope.volume()?;
    if !crate::ids::is_volume(volume) {
        return Err(Refusal::VolumeNotFound);
    }
    let mut body = body.into_object()?;
    body.retain(|field, _| field == "force");
    body.insert("app".to_owned(), Value::String(scope.app.name.clone()));
    let (path, body) = (format!("/v1/volumes/{volume}/claim"), Value::Object(body));
    let call = Call::new(Method::POST, &path).body(&body).patience(MOVE_PATIENCE);
    Ok(relay(api.volumed.send(call).await?))
}

async fn act(
    api: &Api,
    scope: &AppScope,
    method: Method,
    suffix: &str,
    body: Option<Value>,
    patience: Option<Duration>,
) -> Result<Response, Refusal> {
    let volume = scope.volume()?;
    owned(api, scope, volume).await?;
    let path = format!("/v1/volumes/{volume}{suffix}");
    // volumed reads an object where it reads a body at all.
    let body = body.or_else(|| (method == Method::POST).then(|| Value::Object(Map::new())));
    let mut call = Call::new(method, &path);
    call.body = body.as_ref();
    call.patience = patience;
    Ok(relay(api.volumed.send(call).await?))
}
