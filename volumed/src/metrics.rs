//! The daemon's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Bounded: the kinds of [`crate::ops::KINDS`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Handles on the registered metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: daemon::metrics::Metrics,
    operations: Family<Kind, Counter>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: daemon::metrics::Metrics) -> Self {
        let operations = Family::default();
        let family = Family::clone(&operations);
        registry.register(|r| {
            r.register(
                "volumed_operations_begun",
                "Operations that were begun, by kind",
                family,
            )
        });
        Self { registry, operations }
    }

    /// Counts an operation.
    pub(crate) fn operation_begun(&self, kind: &'static str) {
        self.operations.get_or_create(&Kind { kind }).inc();
    }

    /// Returns the route that serves them.
    pub fn router(&self) -> axum::Router {
        self.registry.router()
    }
}
