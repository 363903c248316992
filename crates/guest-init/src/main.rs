//! PID 1 of a guest: brings the machine up as its host says, runs the workload, reports, powers off.
//!
//! One thread, many tasks; blocking calls that may take long go to a second thread. It never ends by itself:
//! an error is told and the machine powers off, a bug does so with a report of its own kind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod boot;
mod cgroup;
mod clock;
mod console;
mod device;
mod dns;
mod events;
mod exec;
mod files;
mod format;
mod grow;
mod guest;
mod link;
mod logs;
mod modules;
mod network;
mod port;
mod power;
mod prepare;
mod program;
mod reaper;
mod rootfs;
mod stream;
mod supervise;
mod swap;
mod sys;
mod tool;
mod user;
mod volume;

use std::process::ExitCode;
use std::rc::Rc;

use tokio::task::{LocalSet, spawn_local};

use guest_init::proto::{AGENT_PORT, LOG_PORT};

use crate::device::DeviceError;
use crate::guest::Guest;
use crate::port::Port;
use crate::reaper::Reaper;

/// Why the guest never got to talk to its host.
#[derive(Debug, thiserror::Error)]
enum InitError {
    /// The first steps failed.
    #[error("boot")]
    Boot(#[from] boot::BootError),
    /// A port is missing.
    #[error("find a port")]
    Port(#[from] DeviceError),
    /// A port or the runtime cannot be opened.
    #[error("open ports and runtime")]
    Open(#[from] std::io::Error),
}

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("guest-init is the first process of a Hangar guest; it has no use anywhere else");
        return ExitCode::from(2);
    }
    power::report_bugs();
    if let Err(error) = run() {
        console::say(&console::chain(&error));
    }
    power::off();
    ExitCode::FAILURE
}

fn run() -> Result<(), InitError> {
    let boot_id = boot::set_up()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    LocalSet::new().block_on(&runtime, serve(boot_id))
}

async fn serve(boot_id: String) -> Result<(), InitError> {
    let guest = Guest::new(boot_id);
    let children = Reaper::listen()?;
    let agent_port = Port::open(&device::port(AGENT_PORT).await?)?;
    power::keep_for_last_words(agent_port.duplicate()?);
    let log_port = Port::open(&device::port(LOG_PORT).await?)?;
    let reaping = Rc::clone(&guest);
    spawn_local(async move { reaping.reaper.run(children).await });
    let logging = Rc::clone(&guest);
    spawn_local(async move { logging.logs.serve(&logging, &log_port).await });
    spawn_local(agent::serve(Rc::clone(&guest), agent_port));
    spawn_local(agent::beat(Rc::clone(&guest)));
    supervise::run(guest).await;
    Ok(())
}
