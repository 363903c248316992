//! The HTTP API: the machine half of the Machines API, images, and what volumed asks.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use daemon::ApiError;
use http::HeaderMap;

use crate::catalog::CatalogError;
use crate::ids::MachineId;
use crate::lease::{self, LeaseError};
use crate::lifecycle::Request;
use crate::runner::{Command, Handle, Outcome, Runner, StopArgs, UpdateArgs};

mod exec;
mod images;
mod leases;
mod logs;
mod machines;
mod metadata;
mod requests;
mod volumes;
mod wait;
mod wire;

/// Header that carries a lease's nonce.
const NONCE_HEADER: &str = "fly-machine-lease-nonce";
/// Header that names the app's network.
const NETWORK_HEADER: &str = "x-hangar-network";

type Shared = axum::extract::State<Arc<Runner>>;

/// The API of `runner`.
pub fn router(runner: Arc<Runner>) -> Router {
    let machine = Router::new()
        .route(
            "/",
            get(machines::show)
                .post(machines::update)
                .delete(machines::destroy),
        )
        .route("/start", post(machines::start))
        .route("/stop", post(machines::stop))
        .route("/restart", post(machines::restart))
        .route("/suspend", post(machines::suspend))
        .route("/signal", post(machines::signal))
        .route("/cordon", post(machines::cordon))
        .route("/uncordon", post(machines::uncordon))
        .route("/exec", post(exec::exec))
        .route("/wait", get(wait::wait))
        .route("/events", get(machines::events))
        .route("/versions", get(machines::versions))
        .route("/logs", get(logs::logs))
        .route(
            "/lease",
            get(leases::show).post(leases::acquire).delete(leases::release),
        )
        .route(
            "/metadata",
            get(metadata::all).put(metadata::replace).patch(metadata::patch),
        )
        .route(
            "/metadata/{key}",
            get(metadata::one).post(metadata::set).delete(metadata::remove),
        );
    let router = Router::new()
        .route("/v1/health", get(machines::health))
        .route("/v1/doctor", get(machines::doctor))
        .route("/v1/drain", post(machines::drain))
        .route(
            "/v1/apps/{app}/machines",
            get(machines::list).post(machines::create),
        )
        .route(
            "/v1/apps/{app}/machines/",
            get(machines::list).post(machines::create),
        )
        .nest("/v1/apps/{app}/machines/{id}", machine)
        .route("/v1/machines", get(machines::list_all))
        .route("/v1/images", get(images::list).post(images::import))
        .route("/v1/images/{*name}", delete(images::remove))
        .route("/v1/volumes/{volume}/grow", post(volumes::grow))
        .route("/v1/volumes/{volume}/copy", post(volumes::copy))
        .layer(axum::extract::DefaultBodyLimit::max(16 << 20))
        .with_state(runner);
    daemon::api_error::with_json_fallbacks(router)
}

fn not_found() -> ApiError {
    ApiError::not_found("machine not found")
}

/// The machine of a path, which must belong to the app of the path.
fn find(runner: &Runner, app: &str, id: &str) -> Result<Handle, ApiError> {
    let id = MachineId::parse(id).ok_or_else(not_found)?;
    let handle = runner.machine(&id).ok_or_else(not_found)?;
    if handle.view().record.app == app {
        Ok(handle)
    } else {
        Err(not_found())
    }
}

/// Both kinds of refusal of a lease call.
#[derive(Debug, thiserror::Error)]
enum LeaseCallError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<LeaseCallError> for ApiError {
    fn from(error: LeaseCallError) -> Self {
        match error {
            LeaseCallError::Lease(error) => lease_refusal(&error),
            LeaseCallError::Catalog(error) => catalog_refusal(&error),
        }
    }
}

fn lease_refusal(error: &LeaseError) -> ApiError {
    let status = http::StatusCode::from_u16(error.status()).unwrap_or(http::StatusCode::CONFLICT);
    ApiError::new(status, error.to_string())
}

fn catalog_refusal(error: &CatalogError) -> ApiError {
    tracing::error!(%error, "the catalog refused");
    ApiError::internal("the catalog could not be read or written")
}

fn nonce_of(headers: &HeaderMap) -> Option<String> {
    headers
        .get(NONCE_HEADER)?
        .to_str()
        .ok()
        .filter(|nonce| !nonce.is_empty())
        .map(str::to_owned)
}

/// Lets a change through that the machine's lease allows.
async fn allow(runner: &Runner, handle: &Handle, headers: &HeaderMap) -> Result<(), ApiError> {
    let held = runner
        .catalog
        .lease(&handle.view().record.id)
        .await
        .map_err(|error| catalog_refusal(&error))?;
    let now = daemon::wall_clock::now().as_second();
    lease::check(held, nonce_of(headers).as_deref(), now).map_err(|error| lease_refusal(&error))
}

/// Sends a request to the machine's actor and waits for its decision.
async fn ask(
    handle: &Handle,
    request: Request,
    stop: StopArgs,
    update: Option<UpdateArgs>,
) -> Result<Outcome, ApiError> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let command = Command::Ask {
        request,
        stop,
        update: update.map(Box::new),
        answer,
    };
    if handle.commands.send(command).await.is_ok()
        && let Ok(result) = answered.await
    {
        return result;
    }
    // The actor is gone: so is the machine, and the life cycle knows what to say about that; or the daemon is going.
    let record = handle.view().record.clone();
    match crate::lifecycle::plan(record.state, request) {
        Ok(_) if record.state == crate::lifecycle::State::Destroyed => Ok(Outcome {
            previous: record.state,
            record,
        }),
        Ok(_) => Err(ApiError::unavailable(
            "machine-runner is stopping; try again when it is back",
        )),
        Err(refused) => {
            let status = http::StatusCode::from_u16(refused.status);
            Err(ApiError::new(
                status.unwrap_or(http::StatusCode::PRECONDITION_FAILED),
                refused.to_string(),
            ))
        }
    }
}

/// Changes the record in a way that no guest notices.
async fn edit(
    handle: &Handle,
    edit: impl FnOnce(&mut crate::record::MachineRecord) -> Result<(), ApiError> + Send + 'static,
) -> Result<Outcome, ApiError> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let command = Command::Edit {
        edit: Box::new(edit),
        answer,
    };
    if handle.commands.send(command).await.is_ok()
        && let Ok(result) = answered.await
    {
        return result;
    }
    Err(not_found())
}
