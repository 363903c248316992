//! What the tasks of PID 1 share. All of them run on one thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::Notify;

use guest_init::proto::GuestConfig;
use guest_init::proto::message::Phase;

use crate::dns::zone::Zone;
use crate::events::Events;
use crate::exec::Execs;
use crate::link::Link;
use crate::logs::Logs;
use crate::reaper::Reaper;
use crate::volume::Volume;

/// The machine, from inside.
#[derive(Debug)]
pub(crate) struct Guest {
    boot_id: String,
    phase: Cell<Phase>,
    /// The agent port.
    pub(crate) link: Rc<Link>,
    /// What the host is told.
    pub(crate) events: Events,
    /// The log port.
    pub(crate) logs: Logs,
    /// Ended processes.
    pub(crate) reaper: Reaper,
    /// Names of the app network.
    pub(crate) zone: Rc<Zone>,
    /// What the host wants.
    pub(crate) orders: Orders,
    /// Mounted volumes, in the order of mounting.
    pub(crate) volumes: RefCell<Vec<Volume>>,
    /// The workload, once it runs.
    pub(crate) workload: RefCell<Option<Workload>>,
    /// Commands that run beside the workload.
    pub(crate) execs: Execs,
}

impl Guest {
    /// Returns the guest as it is right after the boot.
    pub(crate) fn new(boot_id: String) -> Rc<Self> {
        let link = Link::new();
        Rc::new(Self {
            boot_id,
            phase: Cell::new(Phase::Waiting),
            events: Events::new(Rc::clone(&link)),
            link,
            logs: Logs::new(),
            reaper: Reaper::default(),
            zone: Rc::default(),
            orders: Orders::default(),
            volumes: RefCell::default(),
            workload: RefCell::default(),
            execs: Execs::default(),
        })
    }

    /// Returns the kernel's id of this boot.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Returns how far the guest is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Goes on to the next phase.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Returns the mounted volume with this serial.
    pub(crate) fn volume(&self, serial: &str) -> Option<Volume> {
        self.volumes
            .borrow()
            .iter()
            .find(|volume| volume.mount.serial == serial)
            .cloned()
    }
}

/// The running workload, and what commands beside it inherit.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// Its process.
    pub(crate) pid: i32,
    /// Its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Its user, as the host spelled it.
    pub(crate) user: Option<String>,
    /// Its working directory.
    pub(crate) cwd: PathBuf,
}

/// What the host wants, for the task that does it.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    config: RefCell<Option<Box<GuestConfig>>>,
    stop: Cell<Option<StopOrder>>,
    changed: Notify,
}

/// How to end the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// Signal to begin with.
    pub(crate) signal: i32,
    /// Time until everything is killed, in milliseconds.
    pub(crate) timeout_ms: u64,
}

impl Orders {
    /// Notes what to start.
    pub(crate) fn start(&self, config: Box<GuestConfig>) {
        *self.config.borrow_mut() = Some(config);
        self.changed.notify_one();
    }

    /// Notes that the end is wanted; a later order replaces an earlier one.
    pub(crate) fn stop(&self, order: StopOrder) {
        self.stop.set(Some(order));
        self.changed.notify_one();
    }

    /// Takes the order to stop, if there is one.
    pub(crate) fn take_stop(&self) -> Option<StopOrder> {
        self.stop.take()
    }

    /// Takes the configuration, if there is one.
    pub(crate) fn take_config(&self) -> Option<Box<GuestConfig>> {
        self.config.borrow_mut().take()
    }

    /// Waits until something new may have been ordered.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
