//! Who may do what: the token's grant, and the app that a path names.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, RawPathParams};
use http::Method;
use http::request::Parts;

use super::Api;
use crate::refusal::Refusal;
use crate::store::AppRow;
use crate::token::Grant;
use crate::{app_name, ids};

/// A request below one app: the app exists and the token reaches it.
#[derive(Debug, Clone)]
pub(super) struct AppScope {
    /// The app.
    pub(super) app: AppRow,
    /// What the token may do.
    pub(super) grant: Grant,
    params: HashMap<String, String>,
}

/// A request about the whole node, with the other parts of its path.
#[derive(Debug, Clone)]
pub(super) struct NodeScope {
    params: HashMap<String, String>,
}

impl FromRequestParts<Api> for AppScope {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let params = path_params(parts).await?;
        let grant = grant(parts)?;
        let name = params.get("app").cloned().unwrap_or_default();
        if !app_name::is_valid(&name) {
            return Err(Refusal::AppNotFound { name });
        }
        let app = api
            .store
            .app(name.clone())
            .await?
            .ok_or_else(|| Refusal::AppNotFound { name: name.clone() })?;
        match grant {
            Grant::Root => {}
            Grant::App { app_id } if app_id == app.id => {}
            // Another app's existence is none of this token's business.
            Grant::App { .. } => return Err(Refusal::AppNotFound { name }),
        }
        if app.deleting && parts.method != Method::GET && parts.method != Method::DELETE {
            return Err(Refusal::AppDeleting { name });
        }
        Ok(Self { app, grant, params })
    }
}

impl FromRequestParts<Api> for NodeScope {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, Refusal> {
        match grant(parts)? {
            Grant::Root => Ok(Self {
                params: path_params(parts).await?,
            }),
            Grant::App { .. } => Err(Refusal::Forbidden),
        }
    }
}

impl AppScope {
    /// The volume id of the path.
    pub(super) fn volume(&self) -> Result<&str, Refusal> {
        self.params
            .get("volume")
            .map(String::as_str)
            .filter(|id| ids::is_volume(id))
            .ok_or(Refusal::VolumeNotFound)
    }

    /// Refuses a machine id that cannot exist; paths without one pass.
    pub(super) fn check_machine(&self) -> Result<(), Refusal> {
        match self.params.get("machine") {
            Some(id) if !ids::is_machine(id) => Err(Refusal::MachineNotFound),
            _ => Ok(()),
        }
    }

    /// Any other part of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Tells whether the token is good for the whole node.
    pub(super) fn is_root(&self) -> bool {
        self.grant == Grant::Root
    }
}

impl NodeScope {
    /// A part of the path.
    pub(super) fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The snapshot id of the path.
    pub(super) fn snapshot(&self) -> Result<&str, Refusal> {
        Some(self.param("snapshot"))
            .filter(|id| ids::is_snapshot(id))
            .ok_or(Refusal::SnapshotNotFound)
    }
}

fn grant(parts: &Parts) -> Result<Grant, Refusal> {
    parts
        .extensions
        .get::<Grant>()
        .cloned()
        .ok_or(Refusal::Unauthorized)
}

async fn path_params(parts: &mut Parts) -> Result<HashMap<String, String>, Refusal> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| Refusal::BadField {
            field: "the path",
            expected: "valid UTF-8",
        })?;
    Ok(params
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
