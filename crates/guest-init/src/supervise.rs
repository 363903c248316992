//! A machine's life: configured, prepared, running, stopped, off.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use guest_init::proto::{Event, message::Phase};

use crate::cgroup::{self, Group};
use crate::guest::{Guest, StopOrder};
use crate::prepare::{self, Started};
use crate::reaper::Ended;
use crate::{console, power, sys};

/// Time for killed processes to go.
const KILL_BUDGET: Duration = Duration::from_secs(2);

/// Time for the last of the workload's output to reach the host.
const LOG_BUDGET: Duration = Duration::from_secs(1);

/// Time for each volume to become free.
const UNMOUNT_BUDGET: Duration = Duration::from_secs(3);

/// Time for the host to store the last event.
const ACK_BUDGET: Duration = Duration::from_secs(1);

/// Lives the machine's life. Afterwards there is nothing left but to power off.
pub(crate) async fn run(guest: Rc<Guest>) {
    live(&guest).await;
    guest.enter(Phase::Stopping);
    tear_down(&guest).await;
    power::off();
}

async fn live(guest: &Rc<Guest>) {
    let config = loop {
        if guest.orders.take_stop().is_some() {
            return;
        }
        if let Some(config) = guest.orders.take_config() {
            break config;
        }
        guest.orders.changed().await;
    };
    match prepare::start(guest, &config).await {
        Ok(started) => watch(guest, started).await,
        Err(error) => {
            let message = console::chain(&error);
            console::say(&message);
            guest.events.tell(Event::Failed {
                message,
                code: error.code(),
            });
        }
    }
}

/// Waits for the workload's end, or brings it about.
async fn watch(guest: &Guest, mut started: Started) {
    guest.enter(Phase::Running);
    guest.events.tell(Event::Started { pid: started.pid });
    let (ended, requested_stop) = loop {
        tokio::select! {
            ended = &mut started.ended => break (ended.ok(), false),
            () = guest.orders.changed() => if let Some(order) = guest.orders.take_stop() {
                break (stop(guest, &mut started, order).await, true);
            },
        }
    };
    guest.enter(Phase::Stopping);
    guest.workload.borrow_mut().take();
    let ended = ended.unwrap_or(Ended {
        code: None,
        signal: None,
    });
    let by_kill = ended.signal == Some(libc::SIGKILL) || ended.code == Some(128 + libc::SIGKILL);
    guest.events.tell(Event::Exited {
        code: ended.code,
        signal: ended.signal,
        oom_killed: by_kill && started.group.oom_kills() > 0,
        requested_stop,
    });
}

/// Asks the workload to end; kills it when it does not in time. A later order replaces the earlier one.
async fn stop(guest: &Guest, started: &mut Started, mut order: StopOrder) -> Option<Ended> {
    guest.enter(Phase::Stopping);
    loop {
        if let Err(error) = sys::kill(started.pid, order.signal) {
            console::say(&format!("signal {} to the workload: {error}", order.signal));
        }
        let patience = tokio::time::sleep(Duration::from_millis(order.timeout_ms));
        tokio::select! {
            ended = &mut started.ended => return ended.ok(),
            () = patience => break,
            () = guest.orders.changed() => if let Some(later) = guest.orders.take_stop() { order = later },
        }
    }
    started.group.kill();
    (&mut started.ended).await.ok()
}

/// Ends everything that still runs, and leaves every volume clean.
async fn tear_down(guest: &Guest) {
    for name in [cgroup::WORKLOAD, cgroup::EXEC] {
        if let Ok(group) = Group::create(name) {
            group.kill();
            if timeout(KILL_BUDGET, group.emptied()).await.is_err() {
                console::say(&format!("group {name} still has processes"));
            }
        }
    }
    if timeout(LOG_BUDGET, guest.logs.drained()).await.is_err() {
        console::say("not all of the workload's output reached the host");
    }
    let volumes = guest.volumes.take();
    let mut busy = Vec::new();
    for volume in volumes.iter().rev() {
        if !volume.unmount(UNMOUNT_BUDGET).await {
            busy.push(volume.mount.serial.clone());
        }
    }
    guest.events.tell(Event::PoweringOff { busy });
    let told = async {
        guest.events.all_acked().await;
        guest.link.flushed().await;
    };
    if timeout(ACK_BUDGET, told).await.is_err() {
        console::say("the host did not take the last events");
    }
}
