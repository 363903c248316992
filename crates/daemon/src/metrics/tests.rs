use prometheus_client::metrics::counter::Counter;

use super::*;

#[test]
fn a_registered_counter_shows_its_value_under_its_name() {
    let metrics = Metrics::new();
    let counter = metrics.register(|registry| {
        let counter = Counter::<u64>::default();
        registry.register("volumed_operations", "Operations begun", counter.clone());
        counter
    });
    counter.inc_by(3);
    let text = metrics.clone().encode();
    assert!(text.contains("volumed_operations_total 3\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}
