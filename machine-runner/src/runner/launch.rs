//! Everything between the decision to start a machine and a shim that holds it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use daemon::unix_http::CallError;
use guest_init::proto::config::FsType;
use guest_init::proto::serial_of;
use sha2::{Digest as _, Sha256};

use super::Runner;
use super::wiring::{choose_forwards, fits, world_mac};
use crate::catalog::CatalogError;
use crate::config::Config;
use crate::guest::{GuestError, ImageDefaults, StartFacts, guest_config};
use crate::ids::MachineId;
use crate::machine_config::{InvalidConfig, MachineConfig};
use crate::network::NetworkError;
use crate::record::{AttachedVolume, Forward, MachineRecord, RamKey};
use crate::shim::client::ShimClient;
use crate::shim::facts::{RAM_FILE, RunSpec};
use crate::vmm::SavedImage;
use crate::vmm::spec::{Accel, AppNic, VmSpec, VolumeDisk};
use crate::volumes::Attachment;

/// Seconds until a guest must have said hello, on hardware and by emulation.
const BOOT_LIMIT_S: (u64, u64) = (30, 180);
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The stored configuration is not accepted by this version.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The image's root file system is not here any more.
    #[error("image {digest} is not in the store any more; update the machine to import it again")]
    ImageGone {
        /// Digest.
        digest: String,
    },
    /// The image and configuration make no guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// There is no volumed.
    #[error("machine has volumes, but this node runs no volumed")]
    NoVolumes,
    /// volumed refused or is not there.
    #[error("volume {volume}: {source}")]
    Volume {
        /// Volume.
        volume: String,
        /// What volumed said.
        #[source]
        source: CallError,
    },
    /// Guests cannot mount such a volume.
    #[error(
        "volume {volume} has the file system {found:?}, which machines cannot mount; use one of ext4 or xfs"
    )]
    VolumeKind {
        /// Volume.
        volume: String,
        /// Its file system.
        found: String,
    },
    /// The app network.
    #[error("app network")]
    Network(#[from] NetworkError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file or process.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it went wrong.
        #[source]
        source: std::io::Error,
    },
}

impl LaunchError {
    /// Whether another start ends the same way until someone changes the machine.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Config(_) | Self::ImageGone { .. } | Self::Guest(_) | Self::VolumeKind { .. } => true,
            Self::NoVolumes | Self::Volume { .. } | Self::Network(_) | Self::Catalog(_) | Self::Io { .. } => {
                false
            }
        }
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}

/// What a start found out.
#[derive(Debug)]
pub struct Launched {
    /// Volumes as they are now.
    pub volumes: std::collections::BTreeMap<String, AttachedVolume>,
    /// Ports of the guest that are reachable.
    pub forwards: Vec<Forward>,
    /// Accelerator of this boot.
    pub accelerator: Accel,
    /// Why a RAM image was discarded, if one was.
    pub discarded: Option<String>,
    /// Whether the machine starts from its RAM image.
    pub resumed: bool,
}

/// Kernel, initramfs and QEMU as one digest of their sizes and times.
pub(super) fn vmm_digest(config: &Config) -> String {
    let mut digest = Sha256::new();
    let assets = &config.raw.assets_dir;
    for path in [
        &config.raw.qemu,
        &assets.join("vmlinux"),
        &assets.join("initramfs.cpio"),
    ] {
        let metadata = std::fs::metadata(path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        digest.update(format!(
            "{path:?} {:?} {modified:?}\n",
            metadata.map(|metadata| metadata.len())
        ));
    }
    hex::encode(&digest.finalize()[..16])
}

impl Runner {
    /// What a RAM image of this machine would have to fit.
    pub(super) fn ram_key(&self, record: &MachineRecord, boot_id: &str) -> RamKey {
        RamKey {
            instance_id: record.instance_id.clone(),
            boot_id: boot_id.to_owned(),
            digest: record.image.digest.clone(),
            vmm: self.vmm_digest.clone(),
            accelerator: self.verdict.accelerator.as_str().to_owned(),
            generations: record
                .run
                .volumes
                .iter()
                .map(|(id, volume)| (id.clone(), volume.generation))
                .collect(),
        }
    }

    /// Starts a machine: volumes, network, files, shim. `resume` asks for its RAM image when that still fits.
    pub(super) async fn launch(
        &self,
        mut record: MachineRecord,
        boot_id: &str,
        resume: bool,
    ) -> Result<Launched, LaunchError> {
        let config = MachineConfig::parse(&record.config)?;
        let (rootfs, image) = self.image_of(&record)?;
        let attachments = self.attachments(&record.id, &config).await?;
        record.run.volumes = attachments
            .iter()
            .map(|(id, attachment)| (id.clone(), attached(attachment)))
            .collect();
        let dir = self.config.machine_dir(&record.id);
        make_machine_dir(&dir).map_err(io("make the directory"))?;
        let (saved, discarded) = if resume {
            self.choose_ram(&record, &dir)
        } else {
            (None, None)
        };
        if saved.is_none() {
            remove(&dir.join(RAM_FILE)).map_err(io("remove an old RAM image"))?;
        }
        let number = self.catalog.network_number(&record.network).await?;
        let address = record.private_ip.parse();
        let address = address.map_err(|_| GuestError::Address(record.private_ip.clone()))?;
        let nic = self.networks.plug(number, &record.id, address).await?;
        let forwards = choose_forwards(&record.id, &config.forwarded_ports(), &record.run.forwards);
        let guest = guest_config(
            &record,
            &config,
            &image,
            self.start_facts(&record, &nic, &attachments)?,
        )?;
        let resumed = saved.is_some();
        let (hardware, emulated) = BOOT_LIMIT_S;
        let accelerator = self.verdict.accelerator;
        let spec = RunSpec {
            boot_id: boot_id.to_owned(),
            vm: self.vm_spec(&record.id, &config, &rootfs, nic, forwards.clone(), &attachments),
            guest,
            resume: saved,
            boot_limit_s: if accelerator == Accel::Kvm {
                hardware
            } else {
                emulated
            },
        };
        let shim = ShimClient::spawn(&self.program, &dir, &spec).await;
        let mut shim = shim.map_err(io("start the shim"))?;
        self.task("shim_reaper", async move { drop(shim.wait().await) });
        Ok(Launched {
            volumes: record.run.volumes,
            forwards,
            accelerator,
            discarded,
            resumed,
        })
    }

    fn choose_ram(&self, record: &MachineRecord, dir: &Path) -> (Option<SavedImage>, Option<String>) {
        let Some(key) = &record.run.ram else {
            return (None, None);
        };
        if let Err(reason) = fits(key, &self.ram_key(record, &key.boot_id)) {
            return (None, Some(reason));
        }
        let status = ShimClient::new(dir)
            .last_status()
            .filter(|status| status.boot_id == key.boot_id);
        match status
            .and_then(|status| status.saved)
            .filter(|_| dir.join(RAM_FILE).exists())
        {
            Some(saved) => (Some(saved), None),
            None => (
                None,
                Some("the RAM image was used already or is incomplete".to_owned()),
            ),
        }
    }

    fn image_of(&self, record: &MachineRecord) -> Result<(std::path::PathBuf, ImageDefaults), LaunchError> {
        let gone = || LaunchError::ImageGone {
            digest: record.image.digest.clone(),
        };
        let image = self
            .images
            .resolve(&record.image.digest)
            .ok()
            .flatten()
            .ok_or_else(gone)?;
        let defaults = super::create::defaults_of(&image);
        Ok((image.rootfs, defaults))
    }

    async fn attachments(
        &self,
        id: &MachineId,
        config: &MachineConfig,
    ) -> Result<Vec<(String, Attachment)>, LaunchError> {
        let mut attachments = Vec::new();
        for mount in &config.mounts {
            let volumes = self.volumes.as_ref().ok_or(LaunchError::NoVolumes)?;
            // Attaching again as the same machine is idempotent and says where the volume is now; it refuses when
            // someone else has taken it meanwhile.
            let attachment = volumes.attach(&mount.volume, id.as_str()).await;
            let attachment = attachment.map_err(|source| LaunchError::Volume {
                volume: mount.volume.clone(),
                source,
            })?;
            attachments.push((mount.volume.clone(), attachment));
        }
        Ok(attachments)
    }

    fn start_facts(
        &self,
        record: &MachineRecord,
        nic: &AppNic,
        attachments: &[(String, Attachment)],
    ) -> Result<StartFacts, LaunchError> {
        let mut volumes = Vec::new();
        for (id, attachment) in attachments {
            volumes.push((id.clone(), mountable(id, attachment)?, attachment.format_allowed));
        }
        Ok(StartFacts {
            volumes,
            world_mac: world_mac(&record.id),
            app_mac: Some(nic.mac.clone()),
            names: self.names_of(&record.network),
            wall_clock_unix_ms: u64::try_from(daemon::wall_clock::now().as_millisecond()).unwrap_or(0),
            entropy: daemon::random::hex(64),
        })
    }

    fn vm_spec(
        &self,
        id: &MachineId,
        config: &MachineConfig,
        rootfs: &Path,
        nic: AppNic,
        forwards: Vec<Forward>,
        attachments: &[(String, Attachment)],
    ) -> VmSpec {
        let raw = &self.config.raw;
        let disk = |(volume, attachment): &(String, Attachment)| VolumeDisk {
            serial: serial_of(volume).to_owned(),
            path: attachment.device.path.clone(),
            export: attachment.device.export.clone(),
            passphrase: attachment.device.passphrase.clone(),
            direct: takes_direct(&attachment.device.path),
            block_device: is_block_device(&attachment.device.path),
            size_bytes: attachment.size_bytes,
        };
        VmSpec {
            name: id.to_string(),
            qemu: raw.qemu.clone(),
            kernel: raw.assets_dir.join("vmlinux"),
            initrd: raw.assets_dir.join("initramfs.cpio"),
            bios: raw.assets_dir.join("qboot.rom"),
            board: self.verdict.board,
            accel: self.verdict.accelerator,
            tsc_khz: self.verdict.tsc_khz,
            cpus: config.guest.cpus,
            memory_mb: config.guest.memory_mb,
            kernel_args: config.guest.kernel_args.clone(),
            rootfs: rootfs.to_path_buf(),
            overlay_bytes: u64::from(config.rootfs_gb) * GIB,
            swap_bytes: u64::from(config.init.swap_mb) * MIB,
            volumes: attachments.iter().map(disk).collect(),
            io_uring: self.verdict.io_uring,
            world_mac: world_mac(id),
            forwards,
            app_nic: Some(nic),
        }
    }
}

/// The file system that a guest mounts, or makes where there is none yet.
///
/// # Errors
/// [`LaunchError::VolumeKind`] for one that guests cannot mount, such as `raw`.
pub(super) fn mountable(volume: &str, attachment: &Attachment) -> Result<FsType, LaunchError> {
    match attachment.volume.fstype.as_deref() {
        None | Some("" | "ext4") => Ok(FsType::Ext4),
        Some("xfs") => Ok(FsType::Xfs),
        Some(other) => Err(LaunchError::VolumeKind {
            volume: volume.to_owned(),
            found: other.to_owned(),
        }),
    }
}

/// What the record keeps of an attachment.
pub(super) fn attached(attachment: &Attachment) -> AttachedVolume {
    AttachedVolume {
        generation: attachment.generation,
        name: attachment.volume.name.clone(),
        size_gb: attachment.volume.size_gb,
        encrypted: attachment.volume.encrypted,
    }
}

/// Makes a machine's directory, private, unless it is there.
pub(super) fn make_machine_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Whether the file system takes `O_DIRECT` for this file.
fn takes_direct(path: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    open(
        path,
        OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .is_ok()
}
