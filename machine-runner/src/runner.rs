//! All machines of this host: what they share, and a handle to each one's actor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::ApiError;
use guest_init::proto::config::NameRecord;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accel::Verdict;
use crate::catalog::{Catalog, CatalogError};
use crate::config::Config;
use crate::ids::MachineId;
use crate::images::ImageStore;
use crate::lifecycle::State;
use crate::machine_config::MachineConfig;
use crate::metrics::Metrics;
use crate::names::{Named, records};
use crate::network::Networks;
use crate::record::MachineRecord;
use crate::shim::client::ShimClient;
use crate::volumes::Volumes;

mod actor;
mod asking;
mod checking;
pub mod create;
mod ending;
mod launch;
mod naming;
mod telling;
mod usage;
mod volume_calls;
mod watch_shim;
mod wiring;

pub use actor::{Command, Outcome, StopArgs, UpdateArgs};
pub use launch::LaunchError;
pub use volume_calls::{CopyCall, GrowCall, GrowResult};

/// Commands that may wait for one machine's actor.
const COMMANDS_QUEUED: usize = 64;

/// Longest time that a drain waits for guests, below the time that its caller waits for it.
const DRAIN_LIMIT: std::time::Duration = std::time::Duration::from_secs(55);

/// What the daemon is made of.
#[derive(Debug)]
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// Catalog.
    pub catalog: Catalog,
    /// Images.
    pub images: ImageStore,
    /// volumed, where there is one.
    pub volumes: Option<Volumes>,
    /// What this host can do.
    pub verdict: Verdict,
    /// This program, for shims and switches.
    pub program: PathBuf,
    /// Counters.
    pub metrics: Metrics,
    /// Ends everything that runs in the background.
    pub shutdown: CancellationToken,
}

/// All machines of this host.
#[derive(Debug)]
pub struct Runner {
    /// Configuration.
    pub config: Config,
    /// Catalog.
    pub catalog: Catalog,
    /// Images.
    pub images: ImageStore,
    /// What this host can do.
    pub verdict: Verdict,
    volumes: Option<Volumes>,
    networks: Networks,
    program: PathBuf,
    /// Kernel, initramfs and QEMU as one digest: part of what a RAM image fits.
    vmm_digest: String,
    machines: Mutex<BTreeMap<MachineId, Handle>>,
    renamed: mpsc::Sender<String>,
    creating: tokio::sync::Mutex<()>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// What others see of a machine.
#[derive(Clone, Debug)]
pub struct View {
    /// The record.
    pub record: MachineRecord,
    /// Id of the newest event.
    pub last_event: String,
}

/// Way to a machine's actor.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Its queue; closed once the machine is destroyed.
    pub commands: mpsc::Sender<Command>,
    /// Its record.
    pub view: watch::Receiver<Arc<View>>,
}

impl Handle {
    /// The record now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }
}

impl Runner {
    /// Loads all machines and takes up each where it is: running guests are adopted, exits that happened meanwhile
    /// are recorded, half-done operations go on.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn start(parts: Parts) -> Result<Arc<Self>, CatalogError> {
        let Parts {
            config,
            catalog,
            images,
            volumes,
            verdict,
            program,
            metrics,
            shutdown,
        } = parts;
        let (renamed, renames) = mpsc::channel(256);
        let runner = Arc::new(Self {
            networks: Networks::new(config.clone(), program.clone(), shutdown.clone()),
            vmm_digest: launch::vmm_digest(&config),
            config,
            catalog,
            images,
            verdict,
            volumes,
            program,
            machines: Mutex::new(BTreeMap::new()),
            renamed,
            creating: tokio::sync::Mutex::new(()),
            metrics,
            shutdown,
        });
        for record in runner.catalog.machines().await? {
            runner.adopt(record).await?;
        }
        runner.task("names", naming::push_names(Arc::clone(&runner), renames));
        runner.task("usage", usage::report_usage(Arc::clone(&runner)));
        Ok(runner)
    }

    /// Starts a task that ends with the daemon at the latest. What it leaves half done is taken up again by the
    /// next start: all that matters is in the catalog.
    fn task(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        daemon::spawn(name, self.shutdown.clone().run_until_cancelled_owned(work));
    }

    /// Starts the actor of a machine that stands in the catalog.
    async fn adopt(self: &Arc<Self>, record: MachineRecord) -> Result<Handle, CatalogError> {
        let id = record.id.clone();
        let last_event = self
            .catalog
            .events(&id, 1)
            .await?
            .pop()
            .map(|event| event.id)
            .unwrap_or_default();
        let (commands, queue) = mpsc::channel(COMMANDS_QUEUED);
        let (publish, view) = watch::channel(Arc::new(View { record, last_event }));
        let handle = Handle { commands, view };
        self.metrics.entered(None, handle.view().record.state);
        if handle.view().record.state != State::Destroyed {
            self.task(
                "machine",
                actor::run(Arc::clone(self), handle.commands.downgrade(), queue, publish),
            );
        }
        self.lock_machines().insert(id, handle.clone());
        Ok(handle)
    }

    /// Shows a machine that has no actor: one that is being made, or was never made.
    fn reserve(&self, record: &MachineRecord) {
        let (commands, _no_actor) = mpsc::channel(1);
        let view = View {
            record: record.clone(),
            last_event: String::new(),
        };
        let (_no_changes, view) = watch::channel(Arc::new(view));
        self.lock_machines()
            .insert(record.id.clone(), Handle { commands, view });
    }

    fn lock_machines(&self) -> std::sync::MutexGuard<'_, BTreeMap<MachineId, Handle>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine with this id, destroyed ones included.
    #[must_use]
    pub fn machine(&self, id: &MachineId) -> Option<Handle> {
        self.lock_machines().get(id).cloned()
    }

    /// All machines, by id.
    #[must_use]
    pub fn machines(&self) -> Vec<Handle> {
        self.lock_machines().values().cloned().collect()
    }

    /// Stops every guest, each as it is configured, and remembers to start it with the daemon again. Returns how
    /// many were told to stop.
    ///
    /// # Errors
    /// The first record that could not be written.
    pub async fn drain(&self) -> Result<usize, ApiError> {
        let mut told = Vec::new();
        for handle in self.machines() {
            let (answer, answered) = tokio::sync::oneshot::channel();
            if handle.commands.send(Command::Drain { answer }).await.is_ok()
                && let Ok(outcome) = answered.await
                && outcome?.record.run.drained
            {
                told.push(handle);
            }
        }
        let count = told.len();
        let down = told.into_iter().map(|mut handle| async move {
            // The actor's end is an end too.
            let _down = handle.view.wait_for(|view| view.record.state.is_settled()).await;
        });
        if tokio::time::timeout(DRAIN_LIMIT, futures_util::future::join_all(down))
            .await
            .is_err()
        {
            tracing::warn!("guests were still running at the end of the drain");
        }
        self.rest_networks().await;
        Ok(count)
    }

    /// The shim of a machine.
    #[must_use]
    pub fn shim(&self, id: &MachineId) -> ShimClient {
        ShimClient::new(&self.config.machine_dir(id))
    }

    /// Adds a line of the platform's to a machine's log, once its guest has gone.
    fn say_in_log(&self, id: &MachineId, line: String) {
        let dir = self.config.machine_dir(id);
        let said = launch::make_machine_dir(&dir)
            .and_then(|()| crate::shim::logs::say(&dir.join(crate::shim::logs::LOGS_DIR), line));
        if let Err(error) = said {
            tracing::warn!(machine_id = %id, %error, "a line was not added to a machine's log");
        }
    }

    /// volumed, or the sentence that there is none.
    ///
    /// # Errors
    /// 503.
    pub fn volumes(&self) -> Result<&Volumes, ApiError> {
        self.volumes.as_ref().ok_or_else(|| {
            ApiError::unavailable(
                "this node runs no volumed; set volumed_socket in machine-runner's configuration",
            )
        })
    }

    /// Digests of the images that machines use.
    #[must_use]
    pub fn images_in_use(&self) -> Vec<String> {
        let views = self.machines().into_iter().map(|handle| handle.view());
        let alive = views.filter(|view| view.record.state != State::Destroyed);
        alive.map(|view| view.record.image.digest.clone()).collect()
    }

    /// The names of an app network now.
    #[must_use]
    pub fn names_of(&self, network: &str) -> Vec<NameRecord> {
        let named = |view: Arc<View>| {
            let record = &view.record;
            let config = MachineConfig::parse(&record.config)
                .ok()
                .filter(|config| !config.skip_dns_registration)?;
            Some(Named {
                id: record.id.to_string(),
                name: record.name.clone(),
                app: record.app.clone(),
                region: record.region.clone(),
                group: config.metadata.get("fly_process_group").cloned(),
                address: record.private_ip.parse().ok()?,
            })
        };
        let views = self.machines().into_iter().map(|handle| handle.view());
        let started =
            views.filter(|view| view.record.network == network && view.record.state == State::Started);
        records(&started.filter_map(named).collect::<Vec<_>>())
    }

    /// Notes that the names of a network have changed.
    fn rename(&self, network: &str) {
        if self.renamed.try_send(network.to_owned()).is_err() {
            tracing::warn!(network, "the queue of name changes is full");
        }
    }
}
