//! `/hangar/v1`: what the operator's command needs beyond the Machines API.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use super::Api;
use super::body::JsonBody;
use super::query::QueryPairs;
use super::scope::NodeScope;
use crate::app_name;
use crate::ids::path_segment;
use crate::refusal::Refusal;
use crate::upstream::{Call, Upstream, relay};

/// A verification reads and compares a whole snapshot.
const VERIFY_PATIENCE: Duration = Duration::from_secs(3600);
/// The first line of an import's progress comes at once; the rest is a stream.
const IMPORT_PATIENCE: Duration = Duration::from_secs(60);

/// Lists snapshots of all volumes, those that only the bucket still knows included.
pub(super) async fn snapshots(
    State(api): State<Api>,
    _scope: NodeScope,
    query: QueryPairs,
) -> Result<Response, Refusal> {
    let path = match query.get("app") {
        None => "/v1/snapshots".to_owned(),
        // Not the catalog's app: a snapshot can outlive its app.
        Some(app) if app_name::is_valid(app) => format!("/v1/snapshots?app={app}"),
        Some(app) => return Err(Refusal::AppNotFound { name: app.to_owned() }),
    };
    Ok(relay(
        api.volumed
            .send(Call::new(Method::GET, &path).patience(IMPORT_PATIENCE))
            .await?,
    ))
}

/// Shows one snapshot.
pub(super) async fn snapshot(State(api): State<Api>, scope: NodeScope) -> Result<Response, Refusal> {
    let path = format!("/v1/snapshots/{}", scope.snapshot()?);
    Ok(relay(api.volumed.send(Call::new(Method::GET, &path)).await?))
}

/// Removes one snapshot.
pub(super) async fn delete_snapshot(State(api): State<Api>, scope: NodeScope) -> Result<Response, Refusal> {
    let path = format!("/v1/snapshots/{}", scope.snapshot()?);
    Ok(relay(api.volumed.send(Call::new(Method::DELETE, &path)).await?))
}

/// Reads a snapshot back from the bucket and compares it.
pub(super) async fn verify_snapshot(State(api): State<Api>, scope: NodeScope) -> Result<Response, Refusal> {
    let path = format!("/v1/snapshots/{}/verify", scope.snapshot()?);
    let body = json!({});
    Ok(relay(
        api.volumed
            .send(
                Call::new(Method::POST, &path)
                    .body(&body)
                    .patience(VERIFY_PATIENCE),
            )
            .await?,
    ))
}

/// Lists the image store.
pub(super) async fn images(State(api): State<Api>, _scope: NodeScope) -> Result<Response, Refusal> {
    Ok(relay(
        api.machine_runner
            .send(Call::new(Method::GET, "/v1/images"))
            .await?,
    ))
}

/// Imports an image; the answer is a stream of JSON lines.
pub(super) async fn import_image(
    State(api): State<Api>,
    _scope: NodeScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let body = Value::Object(body.into_object()?);
    let call = Call::new(Method::POST, "/v1/images")
        .body(&body)
        .patience(IMPORT_PATIENCE);
    api.machine_runner.stream(call).await
}

/// Removes an image by digest or reference.
pub(super) async fn remove_image(State(api): State<Api>, scope: NodeScope) -> Result<Response, Refusal> {
    let segments: Vec<String> = scope.param("image").split('/').map(path_segment).collect();
    let path = format!("/v1/images/{}", segments.join("/"));
    Ok(relay(
        api.machine_runner.send(Call::new(Method::DELETE, &path)).await?,
    ))
}

/// Writes the cluster key out as text.
pub(super) async fn export_key(
    State(api): State<Api>,
    _scope: NodeScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    key(&api, "/v1/key/export", body).await
}

/// Takes a cluster key in.
pub(super) async fn import_key(
    State(api): State<Api>,
    _scope: NodeScope,
    body: JsonBody,
) -> Result<Response, Refusal> {
    key(&api, "/v1/key/import", body).await
}

async fn key(api: &Api, path: &str, body: JsonBody) -> Result<Response, Refusal> {
    let body = Value::Object(body.into_object()?);
    Ok(relay(
        api.volumed
            .send(Call::new(Method::POST, path).body(&body))
            .await?,
    ))
}

/// Says how the node's daemons are, and what pools and accelerator they have.
pub(super) async fn node(State(api): State<Api>, _scope: NodeScope) -> Json<Value> {
    let (volumed, machine_runner) = (&api.volumed, &api.machine_runner);
    let (volumed_health, pools, runner_health, accelerator) = tokio::join!(
        part(volumed, "/v1/health"),
        part(volumed, "/v1/pools"),
        part(machine_runner, "/v1/health"),
        part(machine_runner, "/v1/doctor"),
    );
    Json(json!({
        "flaps": {"status": "ok", "version": env!("CARGO_PKG_VERSION")},
        "volumed": volumed_health,
        "pools": pools,
        "machine_runner": runner_health,
        "accelerator": accelerator,
    }))
}

async fn part(upstream: &Upstream, path: &str) -> Value {
    match upstream.get(path).await {
        Ok(value) => value,
        Err(refusal) => json!({"error": refusal.to_string()}),
    }
}
