use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::memory_log::MemoryLog;
use crate::outcome::Fault;
use crate::probe::NoProbe;
use crate::record::Status;

const STEPS: &[StepSpec] = &[StepSpec::new("a"), StepSpec::new("b"), StepSpec::new("c")];
const FORWARD: &[StepSpec] = &[StepSpec::new("a"), StepSpec::pivot("b"), StepSpec::new("c")];

/// The outside world: effects in place, kept apart from the log as a disk would be.
#[derive(Default)]
struct World {
    effects: Mutex<BTreeSet<String>>,
    runs: Mutex<Vec<String>>,
    failures: AtomicU32,
    abort_at: Option<&'static str>,
    panic_at: Option<&'static str>,
    hang_at: Option<&'static str>,
}

#[async_trait]
impl StepSet for World {
    type Change = Option<String>;

    fn steps(&self, kind: &str, _version: u32) -> Option<&'static [StepSpec]> {
        match kind {
            "make" => Some(STEPS),
            "forward" => Some(FORWARD),
            _ => None,
        }
    }

    async fn run(
        &self,
        record: &Record,
        step: &'static str,
        cancelled: &CancellationToken,
    ) -> Outcome<Option<String>> {
        self.runs.lock().unwrap().push(step.to_owned());
        tokio::task::yield_now().await;
        if self.hang_at == Some(step) {
            cancelled.cancelled().await;
            return Outcome::retry("given up");
        }
        assert!(self.panic_at != Some(step), "as the test asked");
        if step == "b" && self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Outcome::retry("not yet");
        }
        self.effects
            .lock()
            .unwrap()
            .insert(format!("{}/{step}", record.subject));
        if self.abort_at == Some(step) {
            return Outcome::refuse("no");
        }
        Outcome::Done {
            patch: json!({ step: true }),
            change: Some(format!("{}/{step}", record.subject)),
        }
    }

    async fn undo(&self, record: &Record, step: &'static str) -> Undone<Option<String>> {
        self.runs.lock().unwrap().push(format!("undo {step}"));
        self.effects
            .lock()
            .unwrap()
            .remove(&format!("{}/{step}", record.subject));
        Undone::Done {
            change: Some(format!("-{}/{step}", record.subject)),
        }
    }
}

type Kept = MemoryLog<Option<String>, BTreeSet<String>>;

fn log() -> Arc<Kept> {
    Arc::new(MemoryLog::new(
        BTreeSet::new(),
        |set, change: Option<String>| match change {
            Some(c) if c.starts_with('-') => {
                set.remove(&c[1..]);
            }
            Some(c) => {
                set.insert(c);
            }
            None => {}
        },
    ))
}

fn rec(id: &str, subject: &str, kind: &str) -> Record {
    Record::new(OperationId::new(id), subject, kind, 1, json!({}))
}

fn start(log: &Arc<Kept>, world: &Arc<World>, probe: Arc<dyn Probe>) -> (Runner<World>, Driver<World>) {
    let log: Arc<dyn Log<Option<String>>> = Arc::clone(log) as _;
    Runner::new(log, Arc::clone(world), probe, Backoff::default(), 8)
}

async fn with_driver<T>(driver: Driver<World>, body: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = driver.run(std::future::pending()) => panic!("driver ended: {ended:?}"),
        value = body => value,
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_runs_to_its_end_and_commits_its_changes() {
    let (log, world) = (log(), Arc::new(World::default()));
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    let record = with_driver(driver, async {
        runner
            .submit(rec("1", "v", "make"), None)
            .await
            .unwrap()
            .end()
            .await
    })
    .await;
    assert_eq!(record.status, Status::Done);
    assert_eq!(log.with_state(Clone::clone), *world.effects.lock().unwrap());
    assert_eq!(record.state, json!({"a": true, "b": true, "c": true}));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_operation_leaves_no_effect_and_no_change() {
    let (log, world) = (
        log(),
        Arc::new(World {
            abort_at: Some("b"),
            ..World::default()
        }),
    );
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    let record = with_driver(driver, async {
        runner
            .submit(rec("1", "v", "make"), None)
            .await
            .unwrap()
            .end()
            .await
    })
    .await;
    assert_eq!(
        record.status,
        Status::Aborted {
            fault: Fault::User,
            why: "no".into()
        }
    );
    assert!(world.effects.lock().unwrap().is_empty());
    assert!(log.with_state(BTreeSet::is_empty));
}

#[tokio::test(start_paused = true)]
async fn one_subject_runs_one_operation_at_a_time() {
    let (log, world) = (
        log(),
        Arc::new(World {
            failures: AtomicU32::new(3),
            ..World::default()
        }),
    );
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    with_driver(driver, async {
        let mut first = runner.submit(rec("1", "v", "make"), None).await.unwrap();
        let refused = runner.submit(rec("2", "v", "make"), None).await.unwrap_err();
        assert!(
            matches!(refused, SubmitError::Log(LogError::Busy { .. })),
            "{refused}"
        );
        runner
            .submit(rec("3", "w", "make"), None)
            .await
            .unwrap()
            .end()
            .await;
        first.end().await;
        runner.submit(rec("4", "v", "make"), None).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_and_never_beyond_the_maximum() {
    let (log, world) = (
        log(),
        Arc::new(World {
            failures: AtomicU32::new(12),
            ..World::default()
        }),
    );
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    let began = tokio::time::Instant::now();
    with_driver(driver, async {
        runner
            .submit(rec("1", "v", "make"), None)
            .await
            .unwrap()
            .end()
            .await
    })
    .await;
    let backoff = Backoff::default();
    let expected: Duration = (1..=12).map(|n| backoff.delay(n)).sum();
    assert_eq!(began.elapsed().as_millis() / 100, expected.as_millis() / 100);
    assert_eq!(backoff.delay(60), backoff.max);
}

async fn wait_ends_by(nudge: impl FnOnce(&Runner<World>)) {
    let (log, world) = (
        log(),
        Arc::new(World {
            failures: AtomicU32::new(1),
            ..World::default()
        }),
    );
    let log_dyn: Arc<dyn Log<Option<String>>> = Arc::clone(&log) as _;
    let hour = Backoff {
        first: Duration::from_secs(3600),
        max: Duration::from_secs(3600),
    };
    let (runner, driver) = Runner::new(log_dyn, Arc::clone(&world), Arc::new(NoProbe), hour, 8);
    let began = tokio::time::Instant::now();
    with_driver(driver, async {
        let mut handle = runner.submit(rec("1", "v", "make"), None).await.unwrap();
        handle.until(|r| r.attempts == 1).await;
        nudge(&runner);
        handle.end().await;
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_nudge_ends_the_wait() {
    wait_ends_by(|runner| runner.nudge("v")).await;
    wait_ends_by(|runner| runner.nudge_all()).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_operation_is_undone_but_not_past_its_pivot() {
    for (kind, fail_first, status) in [("make", true, "aborted"), ("forward", false, "done")] {
        let (log, world) = (log(), Arc::new(World::default()));
        world
            .failures
            .store(if fail_first { 1000 } else { 0 }, Ordering::SeqCst);
        let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
        let record = with_driver(driver, async {
            let mut handle = runner.submit(rec("1", "v", kind), None).await.unwrap();
            handle
                .until(|r| if fail_first { r.attempts > 2 } else { r.next == 2 })
                .await;
            assert!(runner.cancel(handle.id(), "asked", None).await.unwrap());
            handle.end().await
        })
        .await;
        assert_eq!(record.status.name(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_operation_is_undone_after_a_crash_at_any_step() {
    // The wish comes while "b" hangs; the crash comes at any probe after that, in the step or in the undo.
    for point in 0.. {
        let log = log();
        let world = Arc::new(World {
            hang_at: Some("b"),
            ..World::default()
        });
        let skip_to_the_wish = 3;
        let probe = CrashAt(AtomicU32::new(skip_to_the_wish + point));
        let (runner, driver) = start(&log, &world, Arc::new(probe));
        let crashed = tokio::select! {
            biased;
            _dropped = driver.run(std::future::pending()) => true,
            () = async {
                let mut handle = runner.submit(rec("1", "v", "make"), None).await.unwrap();
                handle.until(|r| r.next == 1).await;
                let change = Some("wish".to_owned());
                assert!(runner.cancel(handle.id(), "asked", change).await.unwrap());
                handle.end().await;
            } => false,
        };
        let world = Arc::new(World {
            effects: Mutex::new(world.effects.lock().unwrap().clone()),
            ..World::default()
        });
        let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
        with_driver(driver, settle(&runner, &log)).await;
        let record = log.record(&OperationId::new("1")).unwrap();
        assert_eq!(record.status.name(), "aborted", "crash {point} after the wish");
        assert_eq!(log.with_state(Clone::clone), BTreeSet::from(["wish".to_owned()]));
        assert!(world.effects.lock().unwrap().is_empty());
        if !crashed {
            assert_eq!(point, 5, "the end of b, and both undos");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_has_ended_is_not_cancelled() {
    let (log, world) = (log(), Arc::new(World::default()));
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    with_driver(driver, async {
        let mut handle = runner.submit(rec("1", "v", "make"), None).await.unwrap();
        handle.end().await;
        let change = Some("wish".to_owned());
        assert!(!runner.cancel(handle.id(), "asked", change).await.unwrap());
    })
    .await;
    assert!(!log.with_state(|state| state.contains("wish")));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_step_stops_the_driver_and_is_resumed() {
    let log = log();
    let world = Arc::new(World {
        panic_at: Some("b"),
        ..World::default()
    });
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    let (ended, _) = tokio::join!(
        driver.run(std::future::pending()),
        runner.submit(rec("1", "v", "make"), None)
    );
    assert!(matches!(ended, Err(DriveError::Panicked { .. })));
    let world = Arc::new(World::default());
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    with_driver(driver, async { settle(&runner, &log).await }).await;
    assert_eq!(log.record(&OperationId::new("1")).unwrap().status, Status::Done);
}

#[tokio::test(start_paused = true)]
async fn an_operation_goes_on_when_its_submitter_has_gone() {
    let (log, world) = (log(), Arc::new(World::default()));
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    with_driver(driver, async {
        {
            let submit = runner.submit(rec("1", "v", "make"), None);
            tokio::pin!(submit);
            // Polled once: it is in the queue; then the client hangs up.
            assert!(futures_poll_once(submit.as_mut()).await.is_none());
        }
        while log
            .record(&OperationId::new("1"))
            .is_none_or(|r| !r.status.ended())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(v) => Some(v),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

async fn settle(runner: &Runner<World>, log: &Arc<Kept>) {
    while !log.pending().await.unwrap().is_empty() || !runner.shared.live().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Crashes at the n-th probe of a run.
#[derive(Debug)]
struct CrashAt(AtomicU32);

impl Probe for CrashAt {
    fn at(&self, _kind: &str, _step: &str, _moment: Moment) -> Verdict {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
            Verdict::Drop
        } else {
            Verdict::Continue
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_run_or_undo_converges_after_resume() {
    for abort_at in [None, Some("a"), Some("b"), Some("c")] {
        for point in 0.. {
            let log = log();
            let world = Arc::new(World {
                abort_at,
                ..World::default()
            });
            let (runner, driver) = start(&log, &world, Arc::new(CrashAt(AtomicU32::new(point))));
            let crashed = tokio::select! {
                biased;
                ended = driver.run(std::future::pending()) => {
                    assert!(matches!(ended, Err(DriveError::Dropped)));
                    true
                }
                () = async { runner.submit(rec("1", "v", "make"), None).await.unwrap().end().await; settle(&runner, &log).await } => false,
            };
            let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
            with_driver(driver, settle(&runner, &log)).await;
            let record = log.record(&OperationId::new("1")).unwrap();
            assert_eq!(
                record.status.name(),
                if abort_at.is_some() { "aborted" } else { "done" }
            );
            assert_eq!(
                log.with_state(Clone::clone),
                *world.effects.lock().unwrap(),
                "crash at {point}"
            );
            if !crashed {
                assert!(point >= 4, "every probe was tried");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_of_a_newer_program_is_left_alone() {
    let (log, world) = (log(), Arc::new(World::default()));
    log.begin(&rec("1", "v", "unheard_of"), None).await.unwrap();
    let (runner, driver) = start(&log, &world, Arc::new(NoProbe));
    with_driver(driver, async {
        runner
            .submit(rec("2", "w", "make"), None)
            .await
            .unwrap()
            .end()
            .await;
    })
    .await;
    assert_eq!(
        log.record(&OperationId::new("1")).unwrap().status,
        Status::Running
    );
}

#[test]
fn a_kill_specification_needs_three_known_parts() {
    fn never() {}
    assert!(crate::KillProbe::parse("create/format/after", never).is_ok());
    for bad in [
        "",
        "create",
        "create/format",
        "create/format/later",
        "a/b/after/d",
    ] {
        assert!(crate::KillProbe::parse(bad, never).is_err(), "{bad}");
    }
}
