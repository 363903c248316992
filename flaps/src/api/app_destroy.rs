//! Destruction of an app: its machines by force, its volumes into their grace period, then the app itself.
//!
//! The decision is written down first and then carried out to the end, over restarts of any daemon: every step
//! can be repeated, and [`resume_destroys`] repeats them until the app is gone.

use std::time::Duration;

use axum::extract::State;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::machines::LEASE_NONCE;
use super::query::QueryPairs;
use super::scope::AppScope;
use crate::refusal::Refusal;
use crate::store::AppRow;
use crate::upstream::{Call, passed};

/// A forced stop needs no grace from the guest.
const DESTROY_PATIENCE: Duration = Duration::from_secs(120);
/// How long a volume may still count as attached after its machine is gone.
const DETACH_ATTEMPTS: u32 = 50;
const DETACH_PAUSE: Duration = Duration::from_millis(200);
/// Between two attempts to finish what a dead daemon held up.
const RESUME_PAUSE: Duration = Duration::from_secs(5);

/// Destroys an app.
///
/// Machines go by force unless `force=false` was said and one of them is not stopped; a machine that someone holds
/// a lease on is spared, and with it the app, unless `force=true`.
pub(super) async fn destroy(
    State(api): State<Api>,
    scope: AppScope,
    query: QueryPairs,
) -> Result<StatusCode, Refusal> {
    if !scope.is_root() {
        return Err(Refusal::Forbidden);
    }
    let force = query.flag("force")?;
    if !scope.app.deleting {
        check(&api, &scope.app, force).await?;
        api.store.mark_app_deleting(scope.app.id, api.clock.now()).await?;
        tracing::info!(app = scope.app.name, "app destruction began");
    }
    // In a task of its own: a client that hangs up does not stop it half-way.
    let work = daemon::spawn("app-destroy", async move { carry_out(&api, &scope.app).await });
    work.await.map_err(|_| Refusal::Internal)??;
    Ok(StatusCode::ACCEPTED)
}

/// Finishes the destructions that an earlier run began, and those that a daemon's absence holds up, until `shutdown`.
pub async fn resume_destroys(api: Api, shutdown: CancellationToken) {
    let mut pause = tokio::time::interval(RESUME_PAUSE);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = pause.tick() => {}
        }
        let apps = match api.store.apps_deleting().await {
            Ok(apps) => apps,
            Err(error) => {
                tracing::error!(error = %error, "apps being destroyed could not be listed");
                continue;
            }
        };
        for app in apps {
            if let Err(refusal) = carry_out(&api, &app).await {
                tracing::warn!(app = app.name, error = %refusal, "app destruction was held up");
            }
        }
    }
}

async fn check(api: &Api, app: &AppRow, force: Option<bool>) -> Result<(), Refusal> {
    if force == Some(true) {
        return Ok(());
    }
    let machines = machines(api, app).await?;
    if let Some(leased) = machines.iter().find(|machine| !machine["lease"].is_null()) {
        let machine = leased["id"].as_str().unwrap_or_default().to_owned();
        return Err(Refusal::AppLeased {
            app: app.name.clone(),
            machine,
        });
    }
    let idle = ["stopped", "created", "suspended", "failed", "destroyed"];
    let busy = machines
        .iter()
        .filter(|machine| !idle.iter().any(|state| machine["state"] == *state))
        .count();
    if force == Some(false) && busy > 0 {
        return Err(Refusal::AppInUse {
            app: app.name.clone(),
            machines: busy,
        });
    }
    Ok(())
}

async fn carry_out(api: &Api, app: &AppRow) -> Result<(), Refusal> {
    for machine in machines(api, app).await? {
        if let Some(id) = machine["id"].as_str() {
            destroy_machine(api, app, id).await?;
        }
    }
    let volumes: Vec<Value> = api.volumed.get(&format!("/v1/volumes?app={}", app.name)).await?;
    for volume in volumes {
        if let Some(id) = volume["id"].as_str() {
            destroy_volume(api, id).await?;
        }
    }
    api.store.remove_app(app.id).await?;
    tracing::info!(app = app.name, "app destroyed");
    Ok(())
}

async fn machines(api: &Api, app: &AppRow) -> Result<Vec<Value>, Refusal> {
    api.machine_runner
        .get(&format!("/v1/apps/{}/machines?include_leases=true", app.name))
        .await
}

async fn destroy_machine(api: &Api, app: &AppRow, id: &str) -> Result<(), Refusal> {
    let one = format!("/v1/apps/{}/machines/{id}", app.name);
    let path = format!("{one}?force=true");
    let mut reply = api
        .machine_runner
        .send(Call::new(Method::DELETE, &path).patience(DESTROY_PATIENCE))
        .await?;
    if reply.status == StatusCode::CONFLICT {
        let headers = lease_headers(api, &one).await?;
        let call = Call::new(Method::DELETE, &path)
            .headers(headers)
            .patience(DESTROY_PATIENCE);
        reply = api.machine_runner.send(call).await?;
    }
    if !reply.status.is_success() && reply.status != StatusCode::NOT_FOUND {
        return Err(passed(&reply));
    }
    let path = format!("{one}/wait?state=destroyed&timeout=60");
    let reply = api
        .machine_runner
        .send(Call::new(Method::GET, &path).patience(DESTROY_PATIENCE))
        .await?;
    if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND {
        Ok(())
    } else {
        Err(passed(&reply))
    }
}

/// The whole app goes, so a lease on one of its machines is taken over.
async fn lease_headers(api: &Api, machine_path: &str) -> Result<HeaderMap, Refusal> {
    let lease: Value = api.machine_runner.get(&format!("{machine_path}/lease")).await?;
    let nonce = lease["data"]["nonce"].as_str().unwrap_or_default();
    Ok(HeaderValue::from_str(nonce)
        .map(|nonce| HeaderMap::from_iter([(LEASE_NONCE, nonce)]))
        .unwrap_or_default())
}

async fn destroy_volume(api: &Api, id: &str) -> Result<(), Refusal> {
    let path = format!("/v1/volumes/{id}");
    for attempt in 1..=DETACH_ATTEMPTS {
        let reply = api.volumed.send(Call::new(Method::DELETE, &path)).await?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        let still_attached = [StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED].contains(&reply.status);
        if !still_attached || attempt == DETACH_ATTEMPTS {
            return Err(passed(&reply));
        }
        tokio::time::sleep(DETACH_PAUSE).await;
    }
    Ok(())
}
