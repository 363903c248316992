//! Apps: create, list, show, and what little of addresses a node without a proxy can say.

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde_json::{Value, json};

use super::Api;
use super::body::{self, JsonBody};
use super::query::QueryPairs;
use super::scope::{AppScope, NodeScope};
use crate::refusal::Refusal;
use crate::store::{AppRow, CreateApp, NewApp};
use crate::{app_name, duration_text, network, token};

/// How many apps are asked about at once when all of them are listed.
const APPS_AT_ONCE: usize = 8;

/// Makes an app.
pub(super) async fn create(
    State(api): State<Api>,
    _scope: NodeScope,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let body = body.into_object()?;
    let field = if body.contains_key("name") {
        "name"
    } else {
        "app_name"
    };
    if !body.contains_key(field) {
        return Err(Refusal::MissingField { field: "name" });
    }
    let name = body::text(&body, field)?.unwrap_or_default().to_owned();
    if !app_name::is_valid(&name) {
        return Err(Refusal::BadName {
            what: "app name",
            name,
        });
    }
    let slug = body::text(&body, "org_slug")?.ok_or(Refusal::MissingField { field: "org_slug" })?;
    if slug != api.organization.slug {
        return Err(unknown_organization(&api, slug));
    }
    let network = body::text(&body, "network")?
        .unwrap_or(network::DEFAULT)
        .to_owned();
    if !app_name::is_valid(&network) {
        return Err(Refusal::BadName {
            what: "network",
            name: network,
        });
    }
    let key = body::text(&body, "idempotency_key")?.map(str::to_owned);
    let new = NewApp {
        name: name.clone(),
        organization_id: api.organization.id,
        network,
        app_role: body::text(&body, "app_role_id")?.unwrap_or_default().to_owned(),
        idempotency_key: key.clone(),
    };
    match api.store.create_app(new, api.clock.now()).await? {
        CreateApp::Made(row) => Ok((StatusCode::CREATED, Json(app_json(&row, Counts::of_a_new_app())))),
        CreateApp::NameTaken => Err(Refusal::NameTaken { name }),
        CreateApp::KeyReused { other } => Err(Refusal::KeyReused {
            key: key.unwrap_or_default(),
            other,
        }),
    }
}

/// Lists an organization's apps.
pub(super) async fn list(
    State(api): State<Api>,
    _scope: NodeScope,
    query: QueryPairs,
) -> Result<Json<Value>, Refusal> {
    let slug = query
        .get("org_slug")
        .ok_or(Refusal::MissingField { field: "org_slug" })?;
    if slug != api.organization.slug {
        return Err(Refusal::OrganizationNotFound {
            slug: slug.to_owned(),
            known: api.organization.slug.clone(),
        });
    }
    let role = query.get("app_role");
    let rows = api.store.apps(api.organization.id).await?;
    let wanted = rows
        .into_iter()
        .filter(|row| role.is_none_or(|role| row.app_role == role));
    let apps: Vec<Value> = stream::iter(wanted)
        .map(|row| {
            let api = api.clone();
            async move {
                let counts = count(&api, &row).await;
                app_json(&row, counts)
            }
        })
        .buffered(APPS_AT_ONCE)
        .collect()
        .await;
    Ok(Json(json!({"total_apps": apps.len(), "apps": apps})))
}

/// Shows one app.
pub(super) async fn show(State(api): State<Api>, scope: AppScope) -> Json<Value> {
    let counts = count(&api, &scope.app).await;
    Json(app_json(&scope.app, counts))
}

/// Makes a token that is good for this app alone.
pub(super) async fn deploy_token(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Json<Value>, Refusal> {
    if !scope.is_root() {
        return Err(Refusal::Forbidden);
    }
    let body = body.into_object()?;
    let expected = "a duration like \"720h\" or a number of seconds";
    let lifetime = match body.get("expiry") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(duration_text::parse(text).ok_or(Refusal::BadField {
            field: "expiry",
            expected,
        })?),
        Some(Value::Number(seconds)) => Some(duration_text::parse(&seconds.to_string()).ok_or(
            Refusal::BadField {
                field: "expiry",
                expected,
            },
        )?),
        Some(_) => {
            return Err(Refusal::BadField {
                field: "expiry",
                expected,
            });
        }
    };
    let now = api.clock.now();
    let expires_at = lifetime
        .map(|lifetime| {
            now.checked_add(lifetime).map_err(|_| Refusal::OutOfRange {
                field: "expiry",
                expected: "below 100 years",
            })
        })
        .transpose()?;
    let text = token::generate();
    api.store
        .add_app_token(token::hash(&text), scope.app.id, now, expires_at)
        .await?;
    Ok(Json(json!({"token": text})))
}

/// Lists the app's public addresses: without a proxy there are none.
pub(super) async fn addresses(_scope: AppScope) -> Json<Value> {
    Json(json!({"ips": []}))
}

/// Refuses to assign an address, and says what there is instead.
pub(super) async fn assign_address(scope: AppScope, body: JsonBody) -> Result<(), Refusal> {
    body.into_object()?;
    Err(Refusal::NoAddresses { app: scope.app.name })
}

/// There is no address to release.
pub(super) async fn release_address(scope: AppScope) -> Refusal {
    let ip = scope.param("ip").to_owned();
    Refusal::AddressNotFound {
        ip,
        app: scope.app.name,
    }
}

fn unknown_organization(api: &Api, slug: &str) -> Refusal {
    Refusal::OrganizationNotFound {
        slug: slug.to_owned(),
        known: api.organization.slug.clone(),
    }
}

/// What the daemons say about an app; None where one of them does not answer.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    machine_states: Option<Vec<String>>,
    volumes: Option<usize>,
}

impl Counts {
    fn of_a_new_app() -> Self {
        Self {
            machine_states: Some(Vec::new()),
            volumes: Some(0),
        }
    }
}

async fn count(api: &Api, row: &AppRow) -> Counts {
    let machines_path = format!("/v1/apps/{}/machines", row.name);
    let volumes_path = format!("/v1/volumes?app={}", row.name);
    let (machines, volumes) = tokio::join!(
        api.machine_runner.get::<Vec<Value>>(&machines_path),
        api.volumed.get::<Vec<Value>>(&volumes_path)
    );
    let state = |machine: &Value| machine["state"].as_str().unwrap_or_default().to_owned();
    Counts {
        machine_states: machines.ok().map(|machines| machines.iter().map(state).collect()),
        volumes: volumes.ok().map(|volumes| volumes.len()),
    }
}

/// Writes the App object.
pub(super) fn app_json(row: &AppRow, counts: Counts) -> Value {
    json!({
        "id": row.name,
        "name": row.name,
        "internal_numeric_id": row.id,
        "organization": {
            "name": row.organization.name,
            "slug": row.organization.slug,
            "internal_numeric_id": row.organization.id,
        },
        "network": row.network,
        "network_cidr": "",
        "status": status(row, &counts),
        "machine_count": counts.machine_states.as_ref().map(Vec::len),
        "volume_count": counts.volumes,
        "cname_target": "",
        "app_role": row.app_role,
        "created_at": row.created_at,
    })
}

fn status(row: &AppRow, counts: &Counts) -> &'static str {
    let states = counts.machine_states.as_deref().unwrap_or_default();
    if row.deleting || states.is_empty() {
        "pending"
    } else if states
        .iter()
        .all(|state| state == "stopped" || state == "suspended")
    {
        "suspended"
    } else {
        "deployed"
    }
}

#[cfg(test)]
mod tests;
