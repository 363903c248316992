use std::sync::{Arc, mpsc};

use super::Lane;

#[test]
fn jobs_wait_for_one_that_is_slow_in_their_own_lane_and_in_no_other() {
    let (slow, other) = (Arc::new(Lane::new(Vec::new())), Arc::new(Lane::new(Vec::new())));
    let (finish, finished) = mpsc::channel::<()>();
    let (done, wait) = mpsc::channel();
    slow.queue(move |order: &mut Vec<u32>| {
        finished.recv().expect("told to finish");
        order.push(1);
    });
    let then = done.clone();
    slow.queue(move |order: &mut Vec<u32>| {
        order.push(2);
        then.send("slow").expect("somebody waits");
    });
    other.queue(move |_: &mut Vec<u32>| done.send("other").expect("somebody waits"));
    assert_eq!(wait.recv(), Ok("other"));
    // Once its job has let go of it.
    assert!(other.take().is_empty());
    finish.send(()).expect("the first job waits");
    assert_eq!(wait.recv(), Ok("slow"));
    assert_eq!(*slow.take(), [1, 2]);
}

#[test]
fn who_waits_for_something_gets_it_when_it_is_so() {
    let lane = Arc::new(Lane::new(0));
    let waits = Arc::clone(&lane);
    let waiter = std::thread::spawn(move || {
        let ready = |count: &mut i32| (*count == 3).then_some("three");
        waits.take_when(ready, || false).map(|(_, what)| what)
    });
    for _ in 0..3 {
        *lane.take() += 1;
        lane.changed();
    }
    assert_eq!(waiter.join().expect("no panic"), Some("three"));
    let never = lane.take_when(|_| None::<()>, || true);
    assert!(never.is_none());
}
