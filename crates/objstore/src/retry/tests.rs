use super::*;

const TIMEOUTS: Timeouts = Timeouts {
    connect_ms: 1,
    attempt_ms: 400,
    read_ms: 1_000,
    write_ms: 5_000,
};
const RETRIES: Retries = Retries {
    attempts_max: 5,
    delay_ms_min: 100,
    delay_ms_max: 300,
};

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_the_ceiling_and_end_with_the_attempts() {
    let now = Instant::now();
    let mut budget = Budget::write(now, &TIMEOUTS, RETRIES);
    let mut waits = Vec::new();
    loop {
        budget.start_attempt(now);
        match budget.pause(now, 0.5) {
            Some(wait) => waits.push(wait.as_millis()),
            None => break,
        }
    }
    assert_eq!(waits, [50, 100, 150, 150]);
    assert_eq!(budget.attempts(), 5);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_outlives_the_call_and_none_starts_after_it() {
    let start = Instant::now();
    let mut budget = Budget::read(start, &TIMEOUTS, RETRIES);
    assert_eq!(budget.start_attempt(start), Duration::from_millis(400));
    assert_eq!(
        budget.start_attempt(start + Duration::from_millis(900)),
        Duration::from_millis(100)
    );
    assert_eq!(budget.pause(start + Duration::from_millis(900), 0.9), None);
    assert!(budget.pause(start + Duration::from_millis(900), 0.1).is_some());
}
