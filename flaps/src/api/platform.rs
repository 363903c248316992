//! The platform's own answers: health and regions.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;

/// Says that the API is up. Needs no token and tells nothing else.
pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Lists the regions, the default one as nearest.
pub(super) async fn regions(State(api): State<Api>) -> Json<Value> {
    let regions: Vec<Value> = api
        .config
        .regions
        .iter()
        .map(|region| {
            json!({
                "code": region.code,
                "name": if region.name.is_empty() { &region.code } else { &region.name },
                "latitude": region.latitude,
                "longitude": region.longitude,
                "gateway_available": false,
                "requires_paid_plan": false,
                "deprecated": false,
                "capacity": 0,
                "geo_region": region.geo_region,
            })
        })
        .collect();
    Json(json!({"Regions": regions, "Nearest": api.default_region().code}))
}
