use super::{Metrics, Registry};
use crate::lifecycle::State;
use crate::shim::facts::ExitCause;

#[test]
fn a_machine_is_counted_in_one_state_at_a_time_and_not_when_destroyed() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry);
    metrics.entered(None, State::Created);
    metrics.entered(Some(State::Created), State::Started);
    metrics.entered(None, State::Started);
    metrics.entered(Some(State::Started), State::Destroyed);
    metrics.started(true, 0.3);
    metrics.ended(ExitCause::NotStarted);
    let text = registry.encode();
    for line in [
        "machine_runner_machines{state=\"created\"} 0",
        "machine_runner_machines{state=\"started\"} 1",
        "machine_runner_starts_total{kind=\"resume\"} 1",
        "machine_runner_exits_total{cause=\"not_started\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("destroyed"));
}
