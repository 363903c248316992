//! Machines: machine-runner's API below an app, with what only flaps knows added on the way in.

use std::time::Duration;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::Api;
use super::body::{self, JsonBody};
use super::query::QueryPairs;
use super::scope::AppScope;
use crate::refusal::Refusal;
use crate::upstream::{Call, relay};
use crate::{duration_text, ids, network};

/// Proves that the caller holds the machine's lease.
pub(super) const LEASE_NONCE: HeaderName = HeaderName::from_static("fly-machine-lease-nonce");
/// Tells machine-runner which private network a machine joins.
const NETWORK: HeaderName = HeaderName::from_static("x-hangar-network");

/// A create or update may first have to fetch an image and build its root file system.
const CHANGE_PATIENCE: Duration = Duration::from_secs(900);
/// Other changes wait at most for a guest to stop (300 s) and a little more.
const CALL_PATIENCE: Duration = Duration::from_secs(330);
/// What a waiting call gets beyond its own timeout before we call machine-runner silent.
const MARGIN: Duration = Duration::from_secs(15);
/// Used where a waiting call names no timeout.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// Passes a request on as it is.
pub(super) async fn forward(
    State(api): State<Api>,
    scope: AppScope,
    query: QueryPairs,
    request: Request,
) -> Result<Response, Refusal> {
    scope.check_machine()?;
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let headers = passed_headers(request.headers());
    let JsonBody(body) = JsonBody::from_request(request, &api).await?;
    let patience = patience(&method, uri.path(), &query, body.as_ref());
    let path = upstream_path(&uri);
    let mut call = Call::new(method, &path).headers(headers).patience(patience);
    call.body = body.as_ref();
    Ok(relay(api.machine_runner.send(call).await?))
}

/// Makes a machine.
pub(super) async fn create(
    State(api): State<Api>,
    scope: AppScope,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let path = format!("/v1/apps/{}/machines", scope.app.name);
    change(&api, &scope, &path, &headers, body).await
}

/// Gives a machine a new configuration.
pub(super) async fn update(
    State(api): State<Api>,
    scope: AppScope,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    scope.check_machine()?;
    let path = format!("/v1/apps/{}/machines/{}", scope.app.name, scope.param("machine"));
    change(&api, &scope, &path, &headers, body).await
}

async fn change(
    api: &Api,
    scope: &AppScope,
    path: &str,
    headers: &HeaderMap,
    body: JsonBody,
) -> Result<Response, Refusal> {
    let mut body = body.into_object()?;
    check_change(api, scope, &body).await?;
    let secrets = if body::flag(&body, "skip_secrets")?.unwrap_or(false) {
        Map::new()
    } else {
        let rows = api.store.secrets(scope.app.id).await?;
        rows.into_iter()
            .map(|row| (row.name, Value::String(row.value)))
            .collect()
    };
    let network = network::name(&scope.app.name, &scope.app.network);
    let hangar = json!({"org": scope.app.organization.slug, "network": network, "secrets": secrets});
    body.insert("hangar".to_owned(), hangar);
    if body.get("region").is_some_and(|region| region == "") {
        body.remove("region");
    }
    let mut headers = passed_headers(headers);
    if let Ok(value) = HeaderValue::from_str(&network) {
        headers.insert(NETWORK, value);
    }
    let body = Value::Object(body);
    let call = Call::new(Method::POST, path)
        .body(&body)
        .headers(headers)
        .patience(CHANGE_PATIENCE);
    Ok(relay(api.machine_runner.send(call).await?))
}

async fn check_change(api: &Api, scope: &AppScope, body: &Map<String, Value>) -> Result<(), Refusal> {
    if let Some(region) = body::text(body, "region")? {
        api.check_region(region)?;
    }
    if let Some(wanted) =
        body::number(body, "min_secrets_version")?.filter(|w| *w > scope.app.secrets_version)
    {
        let (app, current) = (scope.app.name.clone(), scope.app.secrets_version);
        return Err(Refusal::SecretsTooOld { wanted, current, app });
    }
    match body.get("config") {
        None => Err(Refusal::MissingField { field: "config" }),
        Some(Value::Object(config)) => check_mounts(api, scope, config).await,
        Some(_) => Err(Refusal::BadField {
            field: "config",
            expected: "an object",
        }),
    }
}

/// Refuses a mount of a volume that belongs to another app.
async fn check_mounts(api: &Api, scope: &AppScope, config: &Map<String, Value>) -> Result<(), Refusal> {
    let mounts = match config.get("mounts") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(mounts)) => mounts,
        Some(_) => {
            return Err(Refusal::BadField {
                field: "config.mounts",
                expected: "a list",
            });
        }
    };
    for mount in mounts {
        let volume = match &mount["volume"] {
            Value::Null => continue,
            Value::String(volume) if volume.is_empty() => continue,
            Value::String(volume) => volume,
            _ => {
                return Err(Refusal::BadField {
                    field: "config.mounts[].volume",
                    expected: "a string",
                });
            }
        };
        let absent = || Refusal::MountNotFound {
            volume: volume.clone(),
            app: scope.app.name.clone(),
        };
        if !ids::is_volume(volume) {
            return Err(absent());
        }
        super::volumes::owned(api, scope, volume)
            .await
            .map_err(|refusal| {
                if matches!(refusal, Refusal::VolumeNotFound) {
                    absent()
                } else {
                    refusal
                }
            })?;
    }
    Ok(())
}

/// Streams the machine's log: JSON lines, until its end or, with `follow`, until the client leaves.
pub(super) async fn logs(
    State(api): State<Api>,
    scope: AppScope,
    query: QueryPairs,
) -> Result<Response, Refusal> {
    scope.check_machine()?;
    let follow = query.flag("follow")?.unwrap_or(false);
    let tail = query
        .number("tail")?
        .map(|tail| format!("&tail={tail}"))
        .unwrap_or_default();
    let (app, machine) = (&scope.app.name, scope.param("machine"));
    let path = format!("/v1/apps/{app}/machines/{machine}/logs?follow={follow}{tail}");
    api.machine_runner.stream(Call::new(Method::GET, &path)).await
}

fn passed_headers(headers: &HeaderMap) -> HeaderMap {
    headers
        .get(LEASE_NONCE)
        .map(|nonce| HeaderMap::from_iter([(LEASE_NONCE, nonce.clone())]))
        .unwrap_or_default()
}

/// Path and query as machine-runner knows them: the same, without a trailing slash.
fn upstream_path(uri: &http::Uri) -> String {
    let path = uri.path().trim_end_matches('/');
    uri.query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// How long machine-runner may take for a request.
fn patience(method: &Method, path: &str, query: &QueryPairs, body: Option<&Value>) -> Duration {
    let last = path.rsplit('/').next().unwrap_or_default();
    let own = match last {
        "wait" => query
            .get("timeout")
            .and_then(duration_text::parse)
            .unwrap_or(WAIT_DEFAULT),
        "exec" => match body.map(|body| &body["timeout"]) {
            Some(Value::Number(seconds)) => seconds.as_u64().map_or(WAIT_DEFAULT, Duration::from_secs),
            Some(Value::String(text)) => duration_text::parse(text).unwrap_or(WAIT_DEFAULT),
            _ => WAIT_DEFAULT,
        },
        _ if method == Method::GET => WAIT_DEFAULT,
        _ => CALL_PATIENCE,
    };
    own.min(Duration::from_secs(3600)) + MARGIN
}

#[cfg(test)]
mod tests;
