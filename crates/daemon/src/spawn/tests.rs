use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test]
async fn waiting_names_the_tasks_that_outlive_the_grace_period() {
    let handle = Handle::current();
    let tasks = Tasks::track(&handle);
    let release = CancellationToken::new();
    let quick = spawn("quick", async {});
    let slow = spawn("slow", release.clone().cancelled_owned());
    quick.await.unwrap();

    assert_eq!(tasks.wait(Duration::from_millis(5)).await, Err(vec!["slow"]));
    release.cancel();
    assert_eq!(tasks.wait(Duration::from_secs(60)).await, Ok(()));
    slow.await.unwrap();
    Tasks::untrack(&handle);
    assert!(Tasks::of_current_runtime().is_none());
}

#[tokio::test]
async fn an_aborted_task_leaves_the_table() {
    let handle = Handle::current();
    let tasks = Tasks::track(&handle);
    let task = spawn("endless", std::future::pending::<()>());
    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(tasks.wait(Duration::from_secs(60)).await, Ok(()));
    assert!(tasks.names.lock().unwrap().running.is_empty());
    Tasks::untrack(&handle);
}

#[tokio::test]
async fn a_task_outside_run_still_runs() {
    assert_eq!(spawn("adder", async { 40 + 2 }).await.unwrap(), 42);
}
