use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_process_is_ended_and_another_of_the_same_id_is_not() {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path().to_owned());
    std::fs::create_dir(layout.below("run")).unwrap();
    let mut process = tokio::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = process.id().unwrap();
    let record = record_path(&layout, "volumed");

    crashsafe::write_atomic(
        &crashsafe::RealDisk,
        "test",
        &record,
        format!("{pid} 1\n").as_bytes(),
        0o600,
    )
    .unwrap();
    end(&layout).await.unwrap();
    assert!(
        process.try_wait().unwrap().is_none(),
        "a process with another start time was ended"
    );

    remember(&record, pid).unwrap();
    let reaper = daemon::spawn("reaper", async move { process.wait().await });
    end(&layout).await.unwrap();
    assert!(!reaper.await.unwrap().unwrap().success());
    assert!(!record.exists());
}
