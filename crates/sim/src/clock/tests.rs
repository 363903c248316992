use super::*;

#[tokio::test(start_paused = true)]
async fn wall_time_runs_with_paused_time_and_jumps_alone() {
    let clock = SimClock::new();
    let begin = clock.now();
    assert_eq!(begin.to_string(), "2026-01-01T00:00:00Z");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(clock.now().to_string(), "2026-01-01T01:00:00Z");
    clock.jump(SignedDuration::from_hours(-2));
    assert_eq!(clock.now().to_string(), "2025-12-31T23:00:00Z");
    assert_eq!(clock.elapsed(), Duration::from_secs(3600));
}
