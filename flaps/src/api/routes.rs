//! The table of endpoints.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};

use super::{Api, app_destroy, apps, edge, extensions, machines, orgs, platform, secrets, volumes};

/// Builds the router of the whole API.
pub fn router(api: Api) -> Router {
    Router::new()
        .route(edge::HEALTH, get(platform::health))
        .route("/v1/platform/regions", get(platform::regions))
        .merge(app_routes())
        .merge(machine_routes())
        .merge(volume_routes())
        .merge(extension_routes())
        .fallback(edge::no_route)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .layer(DefaultBodyLimit::max(api.config.body_bytes_max))
        .layer(from_fn_with_state(api.clone(), edge::authenticate))
        .layer(from_fn_with_state(api.clone(), edge::outermost))
        .with_state(api)
}

fn app_routes() -> Router<Api> {
    Router::new()
        .route("/v1/apps", get(apps::list).post(apps::create))
        .route("/v1/apps/{app}", get(apps::show).delete(app_destroy::destroy))
        .route("/v1/apps/{app}/deploy_token", post(apps::deploy_token))
        .route(
            "/v1/apps/{app}/ip_assignments",
            get(apps::addresses).post(apps::assign_address),
        )
        .route(
            "/v1/apps/{app}/ip_assignments/{ip}",
            delete(apps::release_address),
        )
        .route("/v1/apps/{app}/secrets", get(secrets::list).post(secrets::change))
        .route(
            "/v1/apps/{app}/secrets/{name}",
            get(secrets::show).post(secrets::set).delete(secrets::remove),
        )
        .route("/v1/orgs/{org}/machines", get(orgs::machines))
        .route("/v1/orgs/{org}/volumes", get(orgs::volumes))
}

fn machine_routes() -> Router<Api> {
    const ONE: &str = "/v1/apps/{app}/machines/{machine}";
    let one = |suffix: &str| format!("{ONE}{suffix}");
    let forward = machines::forward;
    Router::new()
        .route("/v1/apps/{app}/machines", get(forward).post(machines::create))
        .route("/v1/apps/{app}/machines/", get(forward).post(machines::create))
        .route(ONE, get(forward).post(machines::update).delete(forward))
        .route(&one("/start"), post(forward))
        .route(&one("/stop"), post(forward))
        .route(&one("/suspend"), post(forward))
        .route(&one("/restart"), post(forward))
        .route(&one("/signal"), post(forward))
        .route(&one("/exec"), post(forward))
        .route(&one("/ps"), get(forward))
        .route(&one("/wait"), get(forward))
        .route(&one("/lease"), get(forward).post(forward).delete(forward))
        .route(&one("/metadata"), get(forward).put(forward).patch(forward))
        .route(
            &one("/metadata/{key}"),
            get(forward).post(forward).delete(forward),
        )
        .route(&one("/events"), get(forward))
        .route(&one("/versions"), get(forward))
        .route(&one("/cordon"), post(forward))
        .route(&one("/uncordon"), post(forward))
        .route(&one("/memory"), get(forward).put(forward))
        .route(&one("/memory/reclaim"), post(forward))
}

fn volume_routes() -> Router<Api> {
    Router::new()
        .route("/v1/apps/{app}/volumes", get(volumes::list).post(volumes::create))
        .route(
            "/v1/apps/{app}/volumes/",
            get(volumes::list).post(volumes::create),
        )
        .route(
            "/v1/apps/{app}/volumes/{volume}",
            get(volumes::show).put(volumes::update).delete(volumes::destroy),
        )
        .route("/v1/apps/{app}/volumes/{volume}/extend", put(volumes::extend))
        .route(
            "/v1/apps/{app}/volumes/{volume}/snapshots",
            get(volumes::snapshots).post(volumes::snapshot),
        )
}

fn extension_routes() -> Router<Api> {
    Router::new()
        .route(
            "/hangar/v1/apps/{app}/volumes/{volume}/recover",
            post(volumes::recover),
        )
        .route(
            "/hangar/v1/apps/{app}/volumes/{volume}/purge",
            post(volumes::purge),
        )
        .route(
            "/hangar/v1/apps/{app}/volumes/{volume}/drain",
            post(volumes::drain).delete(volumes::give_up_drain),
        )
        .route(
            "/hangar/v1/apps/{app}/volumes/{volume}/claim",
            post(volumes::claim),
        )
        .route(
            "/hangar/v1/apps/{app}/machines/{machine}/logs",
            get(machines::logs),
        )
        .route("/hangar/v1/snapshots", get(extensions::snapshots))
        .route(
            "/hangar/v1/snapshots/{snapshot}",
            get(extensions::snapshot).delete(extensions::delete_snapshot),
        )
        .route(
            "/hangar/v1/snapshots/{snapshot}/verify",
            post(extensions::verify_snapshot),
        )
        .route(
            "/hangar/v1/images",
            get(extensions::images).post(extensions::import_image),
        )
        .route("/hangar/v1/images/{*image}", delete(extensions::remove_image))
        .route("/hangar/v1/key/export", post(extensions::export_key))
        .route("/hangar/v1/key/import", post(extensions::import_key))
        .route("/hangar/v1/node", get(extensions::node))
}
