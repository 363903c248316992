//! Lists over all apps of an organization, page by page.

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::Api;
use super::query::QueryPairs;
use super::scope::NodeScope;
use crate::page::{self, LIMIT_MAX, PageRequest};
use crate::refusal::Refusal;

/// How many apps are asked about at once.
const APPS_AT_ONCE: usize = 8;

/// Lists the machines of all apps.
pub(super) async fn machines(
    State(api): State<Api>,
    scope: NodeScope,
    query: QueryPairs,
) -> Result<Json<Value>, Refusal> {
    check_organization(&api, &scope)?;
    let request = page_request(&query)?;
    let deleted = query.flag("include_deleted")?.unwrap_or(false);
    let summary = query.flag("summary")?.unwrap_or(false);
    let apps = api.store.apps(api.organization.id).await?;
    let lists: Vec<Vec<Value>> = stream::iter(apps)
        .map(|app| {
            let api = api.clone();
            async move {
                let path = format!(
                    "/v1/apps/{}/machines?include_deleted={deleted}&summary={summary}",
                    app.name
                );
                let mut machines: Vec<Value> = api.machine_runner.get(&path).await?;
                name_app(&mut machines, &app.name);
                Ok::<_, Refusal>(machines)
            }
        })
        .buffered(APPS_AT_ONCE)
        .try_collect()
        .await?;
    let page = page::cut(lists.into_iter().flatten().collect(), &request);
    Ok(Json(json!({
        "machines": page.items,
        "next_cursor": page.next_cursor,
        "last_machine_id": page.last_id,
        "last_updated_at": page.last_updated_at,
        "error_regions": [],
    })))
}

/// Lists the volumes of all apps.
pub(super) async fn volumes(
    State(api): State<Api>,
    scope: NodeScope,
    query: QueryPairs,
) -> Result<Json<Value>, Refusal> {
    check_organization(&api, &scope)?;
    let request = page_request(&query)?;
    let deleted = query.flag("include_deleted")?.unwrap_or(false);
    let names: Vec<String> = api
        .store
        .apps(api.organization.id)
        .await?
        .into_iter()
        .map(|app| app.name)
        .collect();
    let all: Vec<Value> = api
        .volumed
        .get(&format!("/v1/volumes?include_destroyed={deleted}"))
        .await?;
    let volumes = all
        .into_iter()
        .filter_map(|mut volume| {
            let app = volume["app"]
                .as_str()
                .filter(|app| names.iter().any(|name| name == app))?
                .to_owned();
            name_app(std::slice::from_mut(&mut volume), &app);
            Some(volume)
        })
        .collect();
    let page = page::cut(volumes, &request);
    Ok(Json(json!({
        "volumes": page.items,
        "next_cursor": page.next_cursor,
        "last_volume_id": page.last_id,
        "last_updated_at": page.last_updated_at,
    })))
}

fn name_app(items: &mut [Value], app: &str) {
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.insert("app_name".to_owned(), Value::String(app.to_owned()));
        if item.get("updated_at").is_none_or(Value::is_null) {
            let created = item.get("created_at").cloned().unwrap_or(Value::Null);
            item.insert("updated_at".to_owned(), created);
        }
    }
}

fn check_organization(api: &Api, scope: &NodeScope) -> Result<(), Refusal> {
    let slug = scope.param("org");
    if slug == api.organization.slug {
        return Ok(());
    }
    Err(Refusal::OrganizationNotFound {
        slug: slug.to_owned(),
        known: api.organization.slug.clone(),
    })
}

fn page_request(query: &QueryPairs) -> Result<PageRequest, Refusal> {
    let limit = match query.number("limit")? {
        None => LIMIT_MAX,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or(Refusal::BadField {
                field: "limit",
                expected: "1 to 1000",
            })?,
    };
    let expected = "a next_cursor of an earlier answer";
    let after_id = query
        .get("cursor")
        .map(|cursor| {
            page::read_cursor(cursor).ok_or(Refusal::BadField {
                field: "cursor",
                expected,
            })
        })
        .transpose()?;
    let expected = "a time like 2026-01-31T12:00:00Z";
    let updated_after = query
        .get("updated_after")
        .map(|text| {
            text.parse().map_err(|_| Refusal::BadField {
                field: "updated_after",
                expected,
            })
        })
        .transpose()?;
    let (regions, states) = (query.list("region"), query.list("state"));
    Ok(PageRequest {
        after_id,
        limit,
        updated_after,
        regions,
        states,
    })
}
