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
    backups_damaged: Counter,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: daemon::metrics::Metrics) -> Self {
        let operations = Family::default();
        let family = Family::clone(&operations);
        let backups_damaged = Counter::default();
        let damaged = backups_damaged.clone();
        registry.register(|r| {
            r.register(
                "volumed_operations_begun",
                "Operations that were begun, by kind",
                family,
            );
            r.register(
                "volumed_backups_damaged",
                "Looks at backups that found damage",
                damaged,
            );
        });
        Self {
            registry,
            operations,
            backups_damaged,
        }
    }

    /// Counts an operation.
    pub(crate) fn operation_begun(&self, kind: &'static str) {
        self.operations.get_or_create(&Kind { kind }).inc();
    }

    /// Counts a look at a backup that found damage.
    pub(crate) fn backup_damaged(&self) {
        self.backups_damaged.inc();
    }

    /// Returns the route that serves them.
    pub fn router(&self) -> axum::Router {
        self.registry.router()
    }
}
