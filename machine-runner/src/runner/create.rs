//! Creating a machine, and what create and update check alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::ApiError;
use http::StatusCode;
use serde_json::Value;

use super::launch::{attached, mountable};
use super::{Handle, Runner, UpdateArgs};
use crate::catalog::{CatalogError, Change};
use crate::guest::{ImageDefaults, StartFacts, guest_config};
use crate::ids::{MachineId, fresh_ulid};
use crate::images::{Image, ImportError};
use crate::lifecycle::State;
use crate::machine_config::MachineConfig;
use crate::record::{Event, ImageRef, MachineRecord, RunState, Version};
use crate::switch::address::{HostId, NetworkId, allocate, written};

/// Memory of the host that stays with the host, in MiB.
const HOST_MEMORY_MB: u64 = 512;

/// A machine to make.
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// App.
    pub app: String,
    /// Organization.
    pub org: String,
    /// App network.
    pub network: String,
    /// Name; made up when missing.
    pub name: Option<String>,
    /// Region; the node's when missing.
    pub region: Option<String>,
    /// Configuration as sent.
    pub config: Value,
    /// Secrets of the app.
    pub secrets: BTreeMap<String, String>,
}

/// What of an image matters for its guests.
#[must_use]
pub fn defaults_of(image: &Image) -> ImageDefaults {
    let config = &image.config;
    ImageDefaults {
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        user: config.user.clone(),
        working_dir: config.working_dir.clone(),
        stop_signal: config.stop_signal.clone(),
    }
}

fn unprocessable(error: impl std::fmt::Display) -> ApiError {
    ApiError::unprocessable(error.to_string())
}

fn catalog(error: CatalogError) -> ApiError {
    tracing::error!(%error, "the catalog refused");
    ApiError::internal("the machine's record could not be written")
}

/// Says why an image cannot be used: the request's fault (422) unless asking again may help (503).
fn image_refusal(reference: &str, error: &ImportError) -> ApiError {
    let words = error.with_causes();
    if error.is_transient() {
        return ApiError::unavailable(format!(
            "image {reference} is not in this node's store and its registry cannot be asked now ({words}); try again, or bring \
             the image with `hangar images import`"
        ));
    }
    match error.status() {
        status if status.is_server_error() && status != StatusCode::BAD_GATEWAY => {
            ApiError::new(status, words)
        }
        _ => ApiError::unprocessable(format!("image {reference} cannot be used: {words}")),
    }
}

impl Runner {
    /// Checks a configuration and finds its image, in the store or in its registry.
    ///
    /// # Errors
    /// 422 for what is wrong with the configuration or the image, 503 when the image's registry cannot be asked.
    pub async fn check_config(&self, config: &Value) -> Result<(MachineConfig, Image, ImageRef), ApiError> {
        let parsed = MachineConfig::parse(config).map_err(unprocessable)?;
        if !parsed.mounts.is_empty() {
            self.volumes()?;
        }
        let image = self.images.ensure(&parsed.image, Arc::new(|_| {})).await;
        let image = image.map_err(|error| image_refusal(&parsed.image, &error))?;
        let reference = image.image_ref(&parsed.image);
        let reference = ImageRef {
            registry: reference.registry,
            repository: reference.repository,
            tag: reference.tag,
            digest: reference.digest,
            labels: reference.labels,
        };
        Ok((parsed, image, reference))
    }

    /// Checks an update against the machine it is for.
    ///
    /// # Errors
    /// As [`Runner::check_config`], and 422 for a change of volumes.
    pub async fn check_update(
        &self,
        record: &MachineRecord,
        config: Value,
        secrets: Option<BTreeMap<String, String>>,
    ) -> Result<UpdateArgs, ApiError> {
        let (parsed, image, reference) = self.check_config(&config).await?;
        let volumes = |config: &MachineConfig| {
            let mut volumes: Vec<_> = config.mounts.iter().map(|mount| mount.volume.clone()).collect();
            volumes.sort();
            volumes
        };
        let present = MachineConfig::parse(&record.config)
            .map(|config| volumes(&config))
            .unwrap_or_default();
        if volumes(&parsed) != present {
            return Err(unprocessable(format!(
                "the volumes of a machine cannot be changed (it has {present:?}); create a new machine for another volume"
            )));
        }
        let mut changed = record.clone();
        changed.config.clone_from(&config);
        changed.secrets = secrets.clone().unwrap_or(changed.secrets);
        guest_config(&changed, &parsed, &defaults_of(&image), StartFacts::default())
            .map_err(unprocessable)?;
        Ok(UpdateArgs {
            config,
            image: reference,
            secrets,
        })
    }

    /// Makes a machine: checks everything, writes it down, attaches its volumes. It rests in `created`.
    ///
    /// # Errors
    /// 422 for what is wrong, 412 for what does not fit this host, volumed's own status for a volume.
    pub async fn create(self: &Arc<Self>, new: NewMachine) -> Result<Handle, ApiError> {
        if new
            .region
            .as_ref()
            .is_some_and(|region| !region.is_empty() && *region != self.config.raw.region)
        {
            let (asked, here) = (new.region.unwrap_or_default(), &self.config.raw.region);
            return Err(unprocessable(format!(
                "unknown region {asked:?}; this host is in {here}"
            )));
        }
        let (parsed, image, reference) = self.check_config(&new.config).await?;
        self.check_memory(&parsed)?;
        let name = match new.name.filter(|name| !name.is_empty()) {
            Some(name) => check_name(name)?,
            None => made_up_name(daemon::random::bytes()),
        };
        // Names, addresses and ids are chosen one machine at a time.
        let creating = self.creating.lock().await;
        self.check_name_free(&new.app, &name)?;
        let id = MachineId::from_random(daemon::random::bytes());
        let address = self.free_address(&new.org, &new.network, &id);
        let now = daemon::wall_clock::now();
        let mut record = MachineRecord {
            id: id.clone(),
            app: new.app,
            org: new.org,
            name,
            region: self.config.raw.region.clone(),
            instance_id: fresh_ulid(now),
            state: State::Creating,
            config: new.config,
            image: reference,
            secrets: new.secrets,
            network: new.network,
            private_ip: written(address),
            created_at: now,
            updated_at: now,
            cordoned: false,
            run: RunState::default(),
        };
        guest_config(&record, &parsed, &defaults_of(&image), StartFacts::default()).map_err(unprocessable)?;
        self.commit(&record, Vec::new()).await?;
        // Name and address are taken from here on; what takes long need not hold others up.
        self.reserve(&record);
        drop(creating);
        if let Err(error) = self.attach_all(&mut record, &parsed).await {
            self.undo_create(record).await;
            return Err(error);
        }
        record.state = State::Created;
        self.commit(&record, vec![launch_event(now)]).await?;
        self.adopt(record).await.map_err(catalog)
    }

    async fn commit(&self, record: &MachineRecord, events: Vec<Event>) -> Result<(), ApiError> {
        let version = (record.state == State::Created).then(|| Version {
            version: record.instance_id.clone(),
            user_config: record.config.clone(),
        });
        let change = Change {
            machine: Some(record.clone()),
            events,
            version,
        };
        self.catalog.commit(&record.id, change).await.map_err(catalog)
    }

    async fn attach_all(&self, record: &mut MachineRecord, config: &MachineConfig) -> Result<(), ApiError> {
        for mount in &config.mounts {
            let attachment = self
                .volumes()?
                .attach(&mount.volume, record.id.as_str())
                .await
                .map_err(|error| {
                    let error = ApiError::from(error);
                    ApiError {
                        error: naming(&mount.volume, error.error),
                        ..error
                    }
                })?;
            record
                .run
                .volumes
                .insert(mount.volume.clone(), attached(&attachment));
            mountable(&mount.volume, &attachment).map_err(unprocessable)?;
        }
        Ok(())
    }

    /// A create call that failed after it was written down leaves nothing: the record ends as destroyed.
    async fn undo_create(&self, mut record: MachineRecord) {
        if let Err(error) = self.remove_leftovers(&record).await {
            // The next start of the daemon finds the record in `creating` and tries again.
            tracing::warn!(machine_id = %record.id, error, "a create call could not be undone yet");
            return;
        }
        record.state = State::Destroyed;
        record.run = RunState::default();
        record.secrets.clear();
        let _logged = self.commit(&record, Vec::new()).await;
        self.reserve(&record);
    }

    /// Detaches volumes, frees the port, removes the directory. Idempotent.
    pub(super) async fn remove_leftovers(&self, record: &MachineRecord) -> Result<(), String> {
        for (volume, attached) in &record.run.volumes {
            let volumes = self.volumes().map_err(|error| error.to_string())?;
            let detached = volumes
                .detach(volume, record.id.as_str(), attached.generation)
                .await;
            detached.map_err(|error| format!("volume {volume}: {error}"))?;
        }
        let number = self
            .catalog
            .network_number(&record.network)
            .await
            .map_err(|error| error.to_string())?;
        self.networks
            .unplug(number, &record.id)
            .map_err(|error| error.to_string())?;
        match std::fs::remove_dir_all(self.config.machine_dir(&record.id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("machine's directory: {error}"))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sees that the switch of a network runs, for guests that are adopted.
    pub(super) async fn ensure_network(&self, network: &str) {
        let result = match self.catalog.network_number(network).await {
            Ok(number) => {
                let dir = self.config.network_dir(number);
                self.networks
                    .ensure_switch(&dir)
                    .await
                    .map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            tracing::warn!(network, error, "an app network's switch does not run");
        }
    }

    /// Ends the switches of networks in which nothing runs.
    pub(super) async fn rest_networks(&self) {
        let views: Vec<_> = self.machines().into_iter().map(|handle| handle.view()).collect();
        let networks: std::collections::BTreeSet<_> =
            views.iter().map(|view| view.record.network.clone()).collect();
        for network in networks {
            let mut machines = views.iter().filter(|view| view.record.network == network);
            let quiet =
                machines.all(|view| view.record.state.is_settled() && view.record.state != State::Started);
            if let (true, Ok(number)) = (quiet, self.catalog.network_number(&network).await) {
                self.networks.rest(number).await;
            }
        }
    }

    /// Ends the switch of a network that has no machines any more.
    pub(super) async fn retire_network(&self, network: &str) {
        // No machine may be made in it meanwhile.
        let _creating = self.creating.lock().await;
        let views = self.machines().into_iter().map(|handle| handle.view());
        let mut alive = views.filter(|view| view.record.state != State::Destroyed);
        if alive.any(|view| view.record.network == network) {
            return;
        }
        let result = match self.catalog.network_number(network).await {
            Ok(number) => self
                .networks
                .retire(number)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            tracing::warn!(network, error, "an app network was not removed");
        }
    }

    /// Memory is not promised twice: guests that run or may be started have theirs.
    fn check_memory(&self, config: &MachineConfig) -> Result<(), ApiError> {
        let host_mb = host_memory_mb().unwrap_or(u64::MAX);
        let wanted = u64::from(config.guest.memory_mb);
        if wanted + HOST_MEMORY_MB > host_mb {
            let sentence = format!(
                "insufficient resources: the machine wants {wanted} MB of memory, this host has {host_mb} MB in all"
            );
            return Err(ApiError::precondition_failed(sentence).with_code("insufficient_capacity"));
        }
        Ok(())
    }

    fn check_name_free(&self, app: &str, name: &str) -> Result<(), ApiError> {
        let views = self.machines().into_iter().map(|handle| handle.view());
        let mut taken = views.filter(|view| {
            let record = &view.record;
            record.state != State::Destroyed && record.app == app && record.name == name
        });
        match taken.next() {
            None => Ok(()),
            Some(view) => Err(unprocessable(format!(
                "name {name} is taken by machine {} of this app",
                view.record.id
            ))
            .with_code("name_taken")),
        }
    }

    fn free_address(&self, org: &str, network: &str, id: &MachineId) -> std::net::Ipv6Addr {
        let handles = self.machines();
        let taken = |address: std::net::Ipv6Addr| {
            let text = written(address);
            handles.iter().any(|handle| {
                let view = handle.view();
                view.record.state != State::Destroyed && view.record.private_ip == text
            })
        };
        let host = HostId::of(&self.config.raw.host_number.to_string());
        allocate(NetworkId::of(org, network), host, id.as_str(), &taken)
    }
}

/// Names the volume that volumed spoke of, unless its sentence does.
fn naming(volume: &str, sentence: String) -> String {
    if sentence.contains(volume) {
        sentence
    } else {
        format!("volume {volume}: {sentence}")
    }
}

fn launch_event(now: jiff::Timestamp) -> Event {
    Event {
        id: fresh_ulid(now),
        kind: "launch".to_owned(),
        status: State::Created.to_string(),
        source: "user".to_owned(),
        timestamp: now.as_millisecond(),
        request: None,
    }
}

fn host_memory_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_ascii_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}

fn check_name(name: String) -> Result<String, ApiError> {
    let good = name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !name.starts_with(['-', '_']);
    if good {
        Ok(name)
    } else {
        let sentence = format!(
            "machine name must be at most 63 letters, digits, - and _, and begin with a letter or digit, got {name:?}"
        );
        Err(unprocessable(sentence))
    }
}

const FIRST_WORDS: [&str; 16] = [
    "amber", "bold", "calm", "dry", "early", "fair", "green", "holy", "icy", "late", "misty", "old", "quiet",
    "red", "still", "wild",
];
const SECOND_WORDS: [&str; 16] = [
    "brook", "cloud", "dawn", "field", "fog", "forest", "hill", "lake", "leaf", "meadow", "moon", "river",
    "sea", "stone", "tree", "wind",
];

/// Two words and a number, as the field's names are.
fn made_up_name(random: [u8; 4]) -> String {
    let [first, second, high, low] = random;
    let number = u16::from_be_bytes([high, low]) % 10_000;
    let (first, second) = (
        FIRST_WORDS[usize::from(first % 16)],
        SECOND_WORDS[usize::from(second % 16)],
    );
    format!("{first}-{second}-{number}")
}

#[cfg(test)]
mod tests;
