//! What the host asks on the agent port, and who answers.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::{spawn_blocking, spawn_local};

use guest_init::proto::message::{ErrorKind, Phase};
use guest_init::proto::{Channel, Event, Incoming, Reply, Request, StreamId};

use crate::device::DeviceError;
use crate::guest::{Guest, StopOrder};
use crate::port::Port;
use crate::volume::VolumeError;
use crate::{clock, console, exec, sys};

/// Time between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Difference from the host's clock that is left alone after a resume.
const CLOCK_TOLERANCE_MS: u64 = 20;

/// Drives the agent port for ever.
pub(crate) async fn serve(guest: Rc<Guest>, port: Port) {
    let link = Rc::clone(&guest.link);
    let error = link.drive(&port, |incoming| hear(&guest, incoming)).await;
    console::say(&format!("agent port: {error}"));
}

/// Tells the host for ever that we live.
pub(crate) async fn beat(guest: Rc<Guest>) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        guest.link.event(
            0,
            &Event::Heartbeat {
                uptime_ms: clock::uptime_ms(),
            },
        );
    }
}

fn hear(guest: &Rc<Guest>, incoming: Option<Incoming>) {
    let Some(incoming) = incoming else {
        // Nobody is left who wants to know what they say.
        guest.execs.cancel_all();
        return;
    };
    match incoming {
        Incoming::HostHello(hello) => {
            guest.execs.cancel_all();
            if guest.link.accept(&hello, guest.boot_id(), guest.phase()) {
                guest.events.repeat_after(hello.events_after);
            }
        }
        Incoming::Request { call, request } => answer(guest, call, request),
        Incoming::Data { stream, bytes } => guest.execs.input(stream.call(), bytes),
        Incoming::End(stream) => {
            if stream == StreamId::new(stream.call(), Channel::Stdin) {
                guest.execs.input_end(stream.call());
            }
        }
        Incoming::Ack(seq) => guest.events.acked(seq),
        Incoming::Cancel(call) => guest.execs.cancel(call),
        // The link wakes who waits for credit; the rest is for hosts.
        Incoming::Writable(_)
        | Incoming::Hello(_)
        | Incoming::Reply { .. }
        | Incoming::Event(_)
        | Incoming::Panic(_) => {}
    }
}

fn answer(guest: &Rc<Guest>, call: u32, request: Request) {
    let epoch = guest.link.epoch();
    let reply = match request {
        Request::Config(config) => {
            if guest.phase() == Phase::Waiting {
                guest.enter(Phase::Preparing);
                guest.orders.start(config);
                Reply::Done
            } else {
                refuse(ErrorKind::WrongPhase, "the workload was configured already")
            }
        }
        Request::Exec(exec) => {
            spawn_local(exec::serve(Rc::clone(guest), epoch, call, exec));
            return;
        }
        Request::Signal { signal } => send_signal(guest, signal),
        Request::Stop { signal, timeout_ms } => {
            guest.orders.stop(StopOrder { signal, timeout_ms });
            Reply::Done
        }
        Request::Grow { serial, min_bytes } => {
            let guest = Rc::clone(guest);
            spawn_local(async move {
                let reply = grow(&guest, &serial, min_bytes).await;
                guest.link.reply(epoch, call, &reply);
            });
            return;
        }
        Request::Usage => usage(guest),
        Request::Names { records } => {
            for name in guest.zone.replace(&records) {
                console::say(&format!("not a name: {name:?}"));
            }
            Reply::Done
        }
        Request::PrepareSuspend => {
            let guest = Rc::clone(guest);
            spawn_local(async move {
                // A task that only syncs has no way to fail.
                let _ = spawn_blocking(rustix::fs::sync).await;
                guest.link.reply(epoch, call, &Reply::Done);
            });
            return;
        }
        Request::Resumed {
            wall_clock_unix_ms,
            entropy,
        } => resumed(wall_clock_unix_ms, &entropy),
    };
    guest.link.reply(epoch, call, &reply);
}

fn refuse(kind: ErrorKind, message: impl Into<String>) -> Reply {
    Reply::Error {
        kind,
        message: message.into(),
    }
}

fn send_signal(guest: &Guest, signal: i32) -> Reply {
    let Some(pid) = guest.workload.borrow().as_ref().map(|workload| workload.pid) else {
        return refuse(ErrorKind::WrongPhase, "no workload runs");
    };
    match sys::kill(pid, signal) {
        Ok(()) => Reply::Done,
        Err(error) => refuse(ErrorKind::Invalid, format!("signal {signal}: {error}")),
    }
}

async fn grow(guest: &Guest, serial: &str, min_bytes: u64) -> Reply {
    let Some(volume) = guest.volume(serial) else {
        return refuse(ErrorKind::NotFound, format!("no volume {serial:?} is mounted"));
    };
    match volume.grow(min_bytes).await {
        Ok((fs_bytes, device_bytes)) => Reply::Grown {
            fs_bytes,
            device_bytes,
        },
        Err(error) => {
            let late = matches!(error, VolumeError::Device(DeviceError::TooSmall { .. }));
            let kind = if late { ErrorKind::Timeout } else { ErrorKind::Io };
            refuse(kind, console::chain(&error))
        }
    }
}

fn usage(guest: &Guest) -> Reply {
    let volumes = guest.volumes.borrow();
    let usages: Result<Vec<_>, VolumeError> = volumes.iter().map(crate::volume::Volume::usage).collect();
    match usages {
        Ok(usages) => Reply::Usage(usages),
        Err(error) => refuse(ErrorKind::Io, console::chain(&error)),
    }
}

fn resumed(wall_clock_unix_ms: u64, entropy: &str) -> Reply {
    let done = clock::step(wall_clock_unix_ms, CLOCK_TOLERANCE_MS).and_then(|_| clock::add_entropy(entropy));
    match done {
        Ok(()) => Reply::Done,
        Err(error) => refuse(ErrorKind::Io, format!("set the clock and reseed: {error}")),
    }
}
