//! App secrets: they reach machines as environment at their next create or update.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use super::Api;
use super::body::JsonBody;
use super::query::QueryPairs;
use super::scope::AppScope;
use crate::refusal::Refusal;
use crate::store::SecretRow;

/// Longest value, far above any key or certificate.
const VALUE_BYTES_MAX: usize = 64 << 10;
const NAME_RULE: &str = "letters, digits and underscores, not beginning with a digit, at most 128";

/// Lists names and digests; values only on demand.
pub(super) async fn list(
    State(api): State<Api>,
    scope: AppScope,
    query: QueryPairs,
) -> Result<Json<Value>, Refusal> {
    let wanted = query
        .number("min_version")?
        .or(query.number("version")?)
        .unwrap_or(0);
    if wanted > scope.app.secrets_version {
        let (app, current) = (scope.app.name, scope.app.secrets_version);
        return Err(Refusal::SecretsTooOld { wanted, current, app });
    }
    let with_value = query.flag("show_secrets")?.unwrap_or(false);
    let rows = api.store.secrets(scope.app.id).await?;
    let secrets: Vec<Value> = rows.iter().map(|row| secret_json(row, with_value)).collect();
    Ok(Json(json!({"secrets": secrets})))
}

/// Sets some, removes those whose value is null, all as one change.
pub(super) async fn change(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<Json<Value>, Refusal> {
    let body = body.into_object()?;
    let values = match body.get("values") {
        None => return Err(Refusal::MissingField { field: "values" }),
        Some(Value::Object(values)) => values,
        Some(_) => {
            return Err(Refusal::BadField {
                field: "values",
                expected: "an object of strings and nulls",
            });
        }
    };
    let mut changes = BTreeMap::new();
    for (name, value) in values {
        check_name(name)?;
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(checked_value(text)?),
            _ => {
                return Err(Refusal::BadField {
                    field: "values",
                    expected: "an object of strings and nulls",
                });
            }
        };
        changes.insert(name.clone(), value);
    }
    let version = if changes.is_empty() {
        scope.app.secrets_version
    } else {
        api.store
            .change_secrets(scope.app.id, changes, api.clock.now())
            .await?
    };
    let rows = api.store.secrets(scope.app.id).await?;
    let secrets: Vec<Value> = rows.iter().map(|row| secret_json(row, false)).collect();
    // The capitalised name is an older one that some clients still read.
    Ok(Json(
        json!({"secrets": secrets, "version": version, "Version": version}),
    ))
}

/// Shows one.
pub(super) async fn show(
    State(api): State<Api>,
    scope: AppScope,
    query: QueryPairs,
) -> Result<Json<Value>, Refusal> {
    let with_value = query.flag("show_secrets")?.unwrap_or(false);
    let row = find(&api, &scope).await?;
    Ok(Json(secret_json(&row, with_value)))
}

/// Sets one.
pub(super) async fn set(
    State(api): State<Api>,
    scope: AppScope,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let name = scope.param("name").to_owned();
    check_name(&name)?;
    let body = body.into_object()?;
    let value = match body.get("value") {
        None => return Err(Refusal::MissingField { field: "value" }),
        Some(Value::String(text)) => checked_value(text)?,
        Some(_) => {
            return Err(Refusal::BadField {
                field: "value",
                expected: "a string",
            });
        }
    };
    let changes = BTreeMap::from([(name, Some(value))]);
    let version = api
        .store
        .change_secrets(scope.app.id, changes, api.clock.now())
        .await?;
    let row = find(&api, &scope).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"name": row.name, "digest": row.digest, "version": version})),
    ))
}

/// Removes one.
pub(super) async fn remove(State(api): State<Api>, scope: AppScope) -> Result<Json<Value>, Refusal> {
    let row = find(&api, &scope).await?;
    let changes = BTreeMap::from([(row.name, None)]);
    let version = api
        .store
        .change_secrets(scope.app.id, changes, api.clock.now())
        .await?;
    Ok(Json(json!({"version": version, "Version": version})))
}

async fn find(api: &Api, scope: &AppScope) -> Result<SecretRow, Refusal> {
    let name = scope.param("name");
    let rows = api.store.secrets(scope.app.id).await?;
    rows.into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| Refusal::SecretNotFound {
            name: name.to_owned(),
        })
}

fn secret_json(row: &SecretRow, with_value: bool) -> Value {
    let mut secret = json!({
        "name": row.name,
        "digest": row.digest,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    });
    if with_value {
        secret["value"] = Value::String(row.value.clone());
    }
    secret
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let holds_well = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if starts_well && holds_well && name.len() <= 128 {
        return Ok(());
    }
    Err(Refusal::OutOfRange {
        field: "the secret's name",
        expected: NAME_RULE,
    })
}

fn checked_value(text: &str) -> Result<String, Refusal> {
    let field = "the secret's value";
    if text.len() > VALUE_BYTES_MAX {
        return Err(Refusal::OutOfRange {
            field,
            expected: "at most 64 KiB",
        });
    }
    if text.contains('\0') {
        return Err(Refusal::OutOfRange {
            field,
            expected: "text without NUL, as it becomes environment",
        });
    }
    Ok(text.to_owned())
}
