//! What a guest is told at its start: command, environment, files, mounts. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guest_init::proto::config::{
    AppNet, Dns, File, FsType, Host, Mount, NameRecord, Network, Rootfs, UserNet,
};
use guest_init::proto::{GuestConfig, serial_of};

use crate::machine_config::{FileSource, MachineConfig};
use crate::record::MachineRecord;

/// What of an image matters for its guests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    /// `K=V` lines.
    pub env: Vec<String>,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Command.
    pub cmd: Vec<String>,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Working directory, empty for `/`.
    pub working_dir: String,
    /// Name or number of the stop signal.
    pub stop_signal: Option<String>,
}

/// Why no guest can be made of this configuration and image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// Neither names a program.
    #[error("the image names no command; set config.init.entrypoint or config.init.cmd")]
    NoCommand,
    /// A file's secret is missing.
    #[error("config.files: the app has no secret {0}; set it first")]
    NoSecret(String),
    /// A file's secret is not base64.
    #[error("config.files: the secret {0} must be base64")]
    SecretEncoding(String),
    /// The private address is none.
    #[error("the machine has no private address: {0}")]
    Address(String),
}

/// The facts of one start that do not stand in the record.
#[derive(Clone, Debug, Default)]
pub struct StartFacts {
    /// Volumes: id, file system, whether a blank one may be formatted.
    pub volumes: Vec<(String, FsType, bool)>,
    /// MAC address of the interface to the world.
    pub world_mac: String,
    /// MAC address of the app network's interface.
    pub app_mac: Option<String>,
    /// Names known now.
    pub names: Vec<NameRecord>,
    /// Wall clock in milliseconds.
    pub wall_clock_unix_ms: u64,
    /// Randomness in hexadecimal.
    pub entropy: String,
}

/// The command of a machine.
///
/// # Errors
/// [`GuestError::NoCommand`].
pub fn argv(config: &MachineConfig, image: &ImageDefaults) -> Result<Vec<String>, GuestError> {
    let init = &config.init;
    if !init.exec.is_empty() {
        return Ok(init.exec.clone());
    }
    let mut argv = init
        .entrypoint
        .clone()
        .unwrap_or_else(|| image.entrypoint.clone());
    argv.extend(init.cmd.clone().unwrap_or_else(|| image.cmd.clone()));
    if argv.is_empty() {
        Err(GuestError::NoCommand)
    } else {
        Ok(argv)
    }
}

/// The environment of a machine: the image's, the app's secrets, the configuration's, then what the platform
/// promises.
#[must_use]
pub fn environment(
    record: &MachineRecord,
    config: &MachineConfig,
    image: &ImageDefaults,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.extend(
        image
            .env
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    env.extend(record.secrets.clone());
    env.extend(config.env.clone());
    let group = config
        .metadata
        .get("fly_process_group")
        .or_else(|| config.metadata.get("process_group"));
    let reference = &record.image;
    let image_ref = format!(
        "{}/{}:{}",
        reference.registry, reference.repository, reference.tag
    );
    let platform = [
        ("FLY_APP_NAME", record.app.clone()),
        ("FLY_MACHINE_ID", record.id.to_string()),
        ("FLY_ALLOC_ID", record.id.to_string()),
        ("FLY_REGION", record.region.clone()),
        ("FLY_PUBLIC_IP", String::new()),
        ("FLY_IMAGE_REF", image_ref),
        ("FLY_MACHINE_VERSION", record.instance_id.clone()),
        ("FLY_PRIVATE_IP", record.private_ip.clone()),
        ("FLY_PROCESS_GROUP", group.cloned().unwrap_or_default()),
        ("FLY_VM_MEMORY_MB", config.guest.memory_mb.to_string()),
    ];
    env.extend(platform.map(|(name, value)| (name.to_owned(), value)));
    env.entry("PRIMARY_REGION".to_owned())
        .or_insert_with(|| record.region.clone());
    env
}

fn files(record: &MachineRecord, config: &MachineConfig) -> Result<Vec<File>, GuestError> {
    let file = |spec: &crate::machine_config::FileSpec| {
        let content = match &spec.source {
            FileSource::Raw(bytes) => STANDARD.encode(bytes),
            FileSource::Secret(name) => {
                let secret = record
                    .secrets
                    .get(name)
                    .ok_or_else(|| GuestError::NoSecret(name.clone()))?;
                let bytes = STANDARD
                    .decode(secret.trim())
                    .map_err(|_| GuestError::SecretEncoding(name.clone()))?;
                STANDARD.encode(bytes)
            }
        };
        Ok(File {
            guest_path: spec.guest_path.clone(),
            content,
            mode: Some(spec.mode),
        })
    };
    config.files.iter().map(file).collect()
}

/// The stop signal's number: the configuration's, the image's, or `SIGINT`.
#[must_use]
pub fn stop_signal(config: &MachineConfig, image_signal: Option<&str>) -> i32 {
    let of_image = || {
        let text = image_signal?;
        text.parse()
            .ok()
            .or_else(|| crate::machine_config::signal_number(text))
    };
    config.stop_signal.or_else(of_image).unwrap_or(2)
}

/// Everything that the guest is told.
///
/// # Errors
/// [`GuestError`].
pub fn guest_config(
    record: &MachineRecord,
    config: &MachineConfig,
    image: &ImageDefaults,
    facts: StartFacts,
) -> Result<GuestConfig, GuestError> {
    let mount = |(volume, fstype, format_allowed): &(String, FsType, bool)| {
        let path = config
            .mounts
            .iter()
            .find(|mount| mount.volume == *volume)
            .map(|mount| mount.path.clone())?;
        Some(Mount {
            serial: serial_of(volume).to_owned(),
            path,
            fstype: *fstype,
            format_allowed: *format_allowed,
            options: Vec::new(),
        })
    };
    let address = record
        .private_ip
        .parse()
        .map_err(|_| GuestError::Address(record.private_ip.clone()))?;
    let hostname = config.hostname.clone().unwrap_or_else(|| record.id.to_string());
    let own = Host {
        address: std::net::IpAddr::V6(address),
        names: vec![
            format!("{}.vm.{}.internal", record.id, record.app),
            "fly-local-6pn".to_owned(),
        ],
    };
    let user = config
        .init
        .user
        .clone()
        .or_else(|| Some(image.user.clone()).filter(|user| !user.is_empty()));
    Ok(GuestConfig {
        hostname,
        machine_id: record.id.to_string(),
        argv: argv(config, image)?,
        env: environment(record, config, image),
        user,
        cwd: Some(image.working_dir.clone()).filter(|dir| !dir.is_empty()),
        tty: config.init.tty,
        rootfs: Rootfs::default(),
        mounts: facts.volumes.iter().filter_map(mount).collect(),
        files: files(record, config)?,
        hosts: vec![own],
        dns: Dns::default(),
        swap: (config.init.swap_mb > 0).then(|| "swap".to_owned()),
        network: Network {
            user_net: Some(UserNet::new(facts.world_mac)),
            app_net: facts.app_mac.map(|mac| AppNet {
                mac,
                address,
                prefix: 48,
                mtu: AppNet::MTU,
            }),
        },
        names: facts.names,
        wall_clock_unix_ms: Some(facts.wall_clock_unix_ms),
        entropy: Some(facts.entropy),
    })
}

#[cfg(test)]
mod tests;
