//! What the store reports of itself.

use std::time::Duration;

use daemon::metrics::Metrics as Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::store::Purpose;

/// The metrics of all stores of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<CallLabels, Histogram, fn() -> Histogram>,
    sent_bytes: Family<PurposeLabels, Counter>,
    received_bytes: Family<PurposeLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    call: &'static str,
    purpose: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    purpose: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PurposeLabels {
    purpose: &'static str,
}

/// 1 ms to 32 s, doubling.
fn latency_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Metrics {
    /// Declares the metrics in a process's registry. Once per process: clone the result for each store.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self::unregistered();
        registry.register(|registry| {
            registry.register(
                "objstore_requests",
                "Requests to the object store, each attempt counted. outcome: ok, precondition, conflict, \
                 not_found, out_of_range, damaged, outage, refused",
                metrics.requests.clone(),
            );
            registry.register(
                "objstore_request_seconds",
                "Time from request to complete answer, each attempt by itself",
                metrics.seconds.clone(),
            );
            registry.register(
                "objstore_sent_bytes",
                "Bytes of bodies sent to the object store, repeats included",
                metrics.sent_bytes.clone(),
            );
            registry.register(
                "objstore_received_bytes",
                "Bytes of bodies received from the object store",
                metrics.received_bytes.clone(),
            );
        });
        metrics
    }

    /// Makes metrics that no registry exports, for commands that end.
    #[must_use]
    pub fn unregistered() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latency_buckets),
            sent_bytes: Family::default(),
            received_bytes: Family::default(),
        }
    }

    pub(crate) fn request(
        &self,
        call: &'static str,
        purpose: Purpose,
        outcome: &'static str,
        took: Duration,
    ) {
        let purpose = purpose.0;
        self.requests
            .get_or_create(&RequestLabels {
                call,
                purpose,
                outcome,
            })
            .inc();
        self.seconds
            .get_or_create(&CallLabels { call, purpose })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn sent(&self, purpose: Purpose, bytes: u64) {
        self.sent_bytes
            .get_or_create(&PurposeLabels { purpose: purpose.0 })
            .inc_by(bytes);
    }

    pub(crate) fn received(&self, purpose: Purpose, bytes: u64) {
        self.received_bytes
            .get_or_create(&PurposeLabels { purpose: purpose.0 })
            .inc_by(bytes);
    }

    /// Requests counted so far, for tests.
    #[cfg(test)]
    pub(crate) fn requests(&self, call: &'static str, purpose: Purpose, outcome: &'static str) -> u64 {
        self.requests
            .get_or_create(&RequestLabels {
                call,
                purpose: purpose.0,
                outcome,
            })
            .get()
    }
}
