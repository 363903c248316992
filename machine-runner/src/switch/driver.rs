//! Follows the directory of ports, and moves frames between their sockets as the engine decides.

mod port;
mod watch_dir;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State as Shown;
use axum::routing::get;
use bytes::Bytes;
use crashsafe::{Disk, LockFile, OpenOptions, RealDisk};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Counters, Engine, PortId, Verdict};
use super::frame::PortAddresses;
use super::{PortFile, SwitchError, ports_dir};
use port::{Delivery, OpenPort};
use watch_dir::WatchDir;

/// The largest port file that is read.
const PORT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A switch that runs.
#[derive(Debug)]
pub(super) struct Driver {
    dir: PathBuf,
    shared: Arc<Shared>,
    ports: BTreeMap<String, (PortFile, OpenPort)>,
    changes: WatchDir,
    /// The ports that are open, for whoever waits for one.
    open: watch::Sender<BTreeSet<String>>,
    shutdown: CancellationToken,
    _lock: LockFile,
}

/// What the tasks of all ports share.
#[derive(Debug)]
pub(super) struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    engine: Engine,
    deliveries: BTreeMap<PortId, Delivery>,
    names: BTreeMap<PortId, String>,
}

/// A port, as the control socket shows it.
#[derive(Debug, Serialize)]
struct PortReport {
    machine_id: String,
    #[serde(flatten)]
    counters: Counters,
    delivered: u64,
    /// Frames for this port that its guest was too slow for, or that found no guest.
    lost: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of one task leaves counters at worst one short.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Decides about a frame and hands it on; never waits.
    fn receive(&self, from: PortId, frame: &[u8]) {
        let now = self.now();
        let mut state = self.state();
        match state.engine.forward(now, from, frame) {
            Verdict::To(to) => {
                if let Some(delivery) = state.deliveries.get(&to) {
                    delivery.offer(Bytes::copy_from_slice(frame));
                }
            }
            Verdict::Flood => {
                let frame = Bytes::copy_from_slice(frame);
                let others = state
                    .engine
                    .others(from)
                    .filter_map(|to| state.deliveries.get(&to));
                others.for_each(|delivery| delivery.offer(frame.clone()));
            }
            Verdict::Drop(refusal) => tracing::trace!(%refusal, "frame dropped"),
        }
    }

    fn report(&self) -> Vec<PortReport> {
        let state = self.state();
        let reports = state.names.iter().map(|(id, name)| {
            let delivery = state.deliveries.get(id);
            PortReport {
                machine_id: name.clone(),
                counters: state.engine.counters(*id).cloned().unwrap_or_default(),
                delivered: delivery.map_or(0, Delivery::delivered),
                lost: delivery.map_or(0, Delivery::lost),
            }
        });
        reports.collect()
    }
}

impl Driver {
    /// Takes the directory and opens the ports that are there.
    pub(super) fn start(dir: &Path, shutdown: CancellationToken) -> Result<Self, SwitchError> {
        let ports = ports_dir(dir);
        RealDisk
            .create_dir_all("switch:start", &ports)
            .map_err(SwitchError::io(&ports))?;
        let lock = LockFile::acquire(dir.join("switch.lock"))?;
        // Watched before it is read: no change falls in between.
        let changes = WatchDir::new(&ports).map_err(SwitchError::io(&ports))?;
        let shared = Shared {
            started: Instant::now(),
            state: Mutex::default(),
        };
        let mut driver = Self {
            dir: dir.to_owned(),
            shared: Arc::new(shared),
            ports: BTreeMap::new(),
            changes,
            open: watch::Sender::default(),
            shutdown,
            _lock: lock,
        };
        driver.follow()?;
        Ok(driver)
    }

    /// Returns a view of the names of the open ports.
    #[cfg(test)]
    pub(super) fn open_ports(&self) -> watch::Receiver<BTreeSet<String>> {
        self.open.subscribe()
    }

    pub(super) async fn run(mut self) -> Result<(), SwitchError> {
        let control = self.dir.join("control.sock");
        let routes = axum::Router::new()
            .route(
                "/v1/ports",
                get(|Shown(shared): Shown<Arc<Shared>>| async move { axum::Json(shared.report()) }),
            )
            .with_state(Arc::clone(&self.shared));
        let serving = daemon::unix_http::serve(&control, routes, self.shutdown.clone());
        let following = async {
            let shutdown = self.shutdown.clone();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok::<(), SwitchError>(()),
                    changed = self.changes.changed() => {
                        changed.map_err(SwitchError::io(&ports_dir(&self.dir)))?;
                        self.follow()?;
                    }
                }
            }
        };
        tokio::select! {
            served = serving => served.map_err(SwitchError::io(&control))?,
            followed = following => followed?,
        }
        for (_, (_, port)) in std::mem::take(&mut self.ports) {
            port.close().await;
        }
        Ok(())
    }

    /// Makes the open ports those of the directory. A port that cannot be opened does not disturb the others.
    fn follow(&mut self) -> Result<(), SwitchError> {
        let wanted = read_ports(&ports_dir(&self.dir))?;
        let gone: Vec<String> = self
            .ports
            .iter()
            .filter(|(name, (file, _))| wanted.get(*name) != Some(file))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.remove(&name);
        }
        for (name, file) in wanted {
            if !self.ports.contains_key(&name) {
                self.add(name, file);
            }
        }
        self.open.send_replace(self.ports.keys().cloned().collect());
        Ok(())
    }

    fn add(&mut self, name: String, file: PortFile) {
        let addresses = PortAddresses {
            mac: file.mac,
            addresses: file.addresses.clone(),
        };
        let added = self.shared.state().engine.add(self.shared.now(), addresses);
        let id = match added {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(machine_id = name, %error, "port refused");
                return;
            }
        };
        let (delivery, frames) = Delivery::new();
        match OpenPort::open(
            id,
            &file,
            &self.shared,
            &delivery,
            frames,
            self.shutdown.child_token(),
        ) {
            Ok(port) => {
                let mut state = self.shared.state();
                state.deliveries.insert(id, delivery);
                state.names.insert(id, name.clone());
                drop(state);
                tracing::info!(machine_id = name, mac = %file.mac, "port opened");
                self.ports.insert(name, (file, port));
            }
            Err(error) => {
                self.shared.state().engine.remove(id);
                tracing::warn!(machine_id = name, %error, "port not opened");
            }
        }
    }

    fn remove(&mut self, name: &str) {
        let Some((file, port)) = self.ports.remove(name) else {
            return;
        };
        // A stale socket would only be replaced later.
        let _replaced_later = std::fs::remove_file(&file.switch_socket);
        let mut state = self.shared.state();
        state.engine.remove(port.id());
        state.deliveries.remove(&port.id());
        state.names.remove(&port.id());
        drop(state);
        // The tasks end by themselves; the next port of that name binds its own sockets.
        port.cancel();
        tracing::info!(machine_id = name, "port closed");
    }
}

/// Reads the port files; one that does not parse counts as absent.
fn read_ports(dir: &Path) -> Result<BTreeMap<String, PortFile>, SwitchError> {
    let mut ports = BTreeMap::new();
    for entry in RealDisk.list(dir).map_err(SwitchError::io(dir))? {
        let Some(name) = entry
            .name
            .strip_suffix(".json")
            .filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        match read_port(&dir.join(&entry.name)) {
            Ok(Some(file)) => drop(ports.insert(name.to_owned(), file)),
            Ok(None) => {}
            Err(error) => tracing::warn!(machine_id = name, %error, "port file ignored"),
        }
    }
    Ok(ports)
}

/// `None` when the file went away meanwhile.
fn read_port(path: &Path) -> std::io::Result<Option<PortFile>> {
    let file = match RealDisk.open("switch:follow", path, OpenOptions::READ) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?.min(PORT_FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(len).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(std::io::Error::other)
}

type Frames = mpsc::Receiver<Bytes>;
