//! What this daemon counts.
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `machine_runner_machines` | `state`: the states of the life cycle | machines in each state, destroyed ones left out |
//! | `machine_runner_starts_total` | `kind`: `start`, `resume` | guests that came up |
//! | `machine_runner_start_seconds` | `kind` | from the decision to start until the workload ran |
//! | `machine_runner_exits_total` | `cause`: as in exit events | guests that ended |
//! | `machine_runner_snapshots_discarded_total` | | RAM images that did not fit any more |

use daemon::metrics::Metrics as Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::lifecycle::State;

/// Label of a state.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Label of a kind of start.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Label of a cause of an end.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: String,
}

/// The daemon's counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    machines: Family<StateLabel, Gauge>,
    starts: Family<KindLabel, Counter>,
    start_seconds: Family<KindLabel, Histogram>,
    exits: Family<CauseLabel, Counter>,
    discarded: Counter,
}

impl Metrics {
    /// Registers all of them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            machines: Family::default(),
            starts: Family::default(),
            start_seconds: Family::new_with_constructor(|| {
                Histogram::new([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0])
            }),
            exits: Family::default(),
            discarded: Counter::default(),
        };
        registry.register(|registry| {
            registry.register(
                "machine_runner_machines",
                "machines in each state",
                metrics.machines.clone(),
            );
            registry.register(
                "machine_runner_starts",
                "guests that came up",
                metrics.starts.clone(),
            );
            let help = "seconds from the decision to start until the workload ran";
            registry.register(
                "machine_runner_start_seconds",
                help,
                metrics.start_seconds.clone(),
            );
            registry.register("machine_runner_exits", "guests that ended", metrics.exits.clone());
            let help = "RAM images that did not fit any more";
            registry.register(
                "machine_runner_snapshots_discarded",
                help,
                metrics.discarded.clone(),
            );
        });
        metrics
    }

    /// A machine is in a state, where it was not before.
    pub(crate) fn entered(&self, from: Option<State>, to: State) {
        let gauge = |state: State| {
            self.machines
                .get_or_create(&StateLabel {
                    state: state.as_str(),
                })
                .clone()
        };
        if let Some(from) = from.filter(|from| *from != State::Destroyed) {
            gauge(from).dec();
        }
        if to != State::Destroyed {
            gauge(to).inc();
        }
    }

    /// A guest came up.
    pub(crate) fn started(&self, resumed: bool, seconds: f64) {
        let label = KindLabel {
            kind: if resumed { "resume" } else { "start" },
        };
        self.starts.get_or_create(&label).inc();
        self.start_seconds.get_or_create(&label).observe(seconds);
    }

    /// A guest ended.
    pub(crate) fn ended(&self, cause: crate::shim::facts::ExitCause) {
        let cause = serde_json::to_value(cause)
            .ok()
            .and_then(|cause| cause.as_str().map(str::to_owned));
        self.exits
            .get_or_create(&CauseLabel {
                cause: cause.unwrap_or_default(),
            })
            .inc();
    }

    /// A RAM image was discarded.
    pub(crate) fn discarded(&self) {
        self.discarded.inc();
    }
}

#[cfg(test)]
mod tests;
