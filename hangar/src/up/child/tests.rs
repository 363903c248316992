use super::*;

fn spec(layout: &Layout, script: &str) -> Spec {
    for directory in ["run", "log"] {
        std::fs::create_dir_all(layout.below(directory)).unwrap();
    }
    Spec::new(
        layout,
        "worker",
        "/bin/sh".into(),
        vec!["-c".into(), script.into()],
    )
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_ends_is_started_again() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let child = Child::start(spec(&layout, "echo here"));
    until(|| child.ends() >= 2).await;
    let log = child.log().to_owned();
    child.stop(Duration::from_secs(5)).await;
    assert!(std::fs::read_to_string(log).unwrap().lines().count() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_it_and_forgets_it() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let child = Child::start(spec(&layout, "echo up; exec sleep 1000"));
    let record = orphans::record_path(&layout, "worker");
    until(|| record.exists()).await;
    child.stop(Duration::from_secs(5)).await;
    assert!(!record.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ignores_the_term_signal_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    let child = Child::start(spec(&layout, "trap '' TERM; echo deaf; while true; do :; done"));
    let log = child.log().to_owned();
    until(|| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("deaf"))).await;
    child.stop(Duration::from_millis(50)).await;
    assert!(!orphans::record_path(&layout, "worker").exists());
}

#[test]
fn the_tail_of_a_log_is_its_last_lines() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: String = (0..100).map(|i| format!("line {i}\n")).collect();
    std::io::Write::write_all(&mut file.as_file(), lines.as_bytes()).unwrap();
    assert!(tail(file.path()).starts_with("line 88\n"));
    assert!(tail(file.path()).ends_with("line 99"));
    assert_eq!(tail(Path::new("/nowhere")), "");
}
