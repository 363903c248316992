//! The process's metric registry and `GET /metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::IntoResponse as _;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// OpenMetrics text, the format that `prometheus-client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A handle on one registry; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Creates an empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers metrics; `declare` is a crate's own `metrics.rs`, called once at start.
    pub fn register<T>(&self, declare: impl FnOnce(&mut Registry) -> T) -> T {
        declare(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Renders all metrics as OpenMetrics text.
    ///
    /// # Panics
    /// When a collector of the registry reports a formatting error; writing into a string cannot.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )
        .expect("metrics format into a string");
        text
    }

    /// Returns the answer to `GET /metrics`, for a daemon that first takes its figures over.
    pub fn answer(&self) -> axum::response::Response {
        ([(CONTENT_TYPE, OPENMETRICS)], self.encode()).into_response()
    }

    /// Returns a router with `GET /metrics`, to be merged into a daemon's own.
    pub fn router(&self) -> axum::Router {
        let metrics = self.clone();
        let handler = move || async move { metrics.answer() };
        axum::Router::new().route("/metrics", axum::routing::get(handler))
    }
}

#[cfg(test)]
mod tests;
