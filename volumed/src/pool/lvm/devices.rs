//! Devices of slices: activation, dm-crypt mappings, and the views through them.

use std::io;
use std::path::{Path, PathBuf};

use crashsafe::OpenOptions;

use super::image::{Sink, Source};
use super::{LvmPool, header_bytes};
use crate::bulk::{ImageSource, Layout};
use crate::lvm::group::Report;
use crate::lvm::report::Lv;
use crate::lvm::tags;
use crate::pool::{Device, PoolError, Slice, SliceId};

/// Bytes that are zeroed by one call.
const WIPE_STEP_BYTES: u64 = 1 << 30;
/// Zeros that are written at a time where the device cannot zero by itself.
const ZEROS_LEN: usize = 4 << 20;

/// Returns the name of a slice's dm-crypt mapping.
pub(super) fn mapping(lv: &str) -> String {
    format!("volumed-{lv}")
}

impl LvmPool {
    /// Gives a logical volume of ours a device.
    pub(super) async fn activate_lv(&self, lv: &str) -> Result<PathBuf, PoolError> {
        let path = self.group.path(lv);
        let active = |report: &Report| match report.lv(lv) {
            Some(found) if found.active => Ok(()),
            Some(_) | None => Err(format!("{lv} has no device")),
        };
        let changed = self
            .group
            .change("lvchange", &["-y", "-ay", "-K", &path], active)
            .await;
        changed.map_err(|source| self.group_error("activate", lv, source))?;
        Ok(self.group.device(lv))
    }

    /// Takes a logical volume's device away; an error while somebody uses it.
    pub(super) async fn deactivate_lv(&self, lv: &str) -> Result<(), PoolError> {
        let path = self.group.path(lv);
        let inactive = |report: &Report| match report.lv(lv) {
            Some(found) if found.active => Err(format!("{lv} has a device still")),
            Some(_) | None => Ok(()),
        };
        let changed = self
            .group
            .change("lvchange", &["-y", "-an", &path], inactive)
            .await;
        changed
            .map(drop)
            .map_err(|source| self.group_error("deactivate", lv, source))
    }

    /// Makes the plaintext device of a logical volume.
    pub(super) async fn open_plain(&self, lv: &str, layout: &Layout) -> Result<PathBuf, PoolError> {
        let device = self.activate_lv(lv).await?;
        self.plain_of(lv, device, layout).await
    }

    async fn plain_of(&self, lv: &str, device: PathBuf, layout: &Layout) -> Result<PathBuf, PoolError> {
        match layout {
            Layout::Raw => Ok(device),
            Layout::Luks { passphrase } => {
                let opened = self.crypt.open(&device, &mapping(lv), passphrase).await;
                opened.map_err(|source| self.group_error("open the encryption of", lv, source))
            }
        }
    }

    /// Ends the plaintext device of a logical volume.
    pub(super) async fn close_plain(&self, lv: &str) -> Result<(), PoolError> {
        let closed = self.crypt.close(&mapping(lv)).await;
        closed.map_err(|source| self.group_error("close the encryption of", lv, source))?;
        self.deactivate_lv(lv).await
    }

    /// Ends the devices of a slice. A copy-on-write snapshot keeps its own: LVM would take its volume's away too.
    pub(super) async fn take_down(&self, lv: &Lv) -> Result<(), PoolError> {
        if lv.is_cow_snapshot() {
            let closed = self.crypt.close(&mapping(&lv.name)).await;
            return closed.map_err(|source| self.group_error("close the encryption of", &lv.name, source));
        }
        self.close_plain(&lv.name).await
    }

    pub(super) async fn open_device(&self, slice: &Slice) -> Result<Device, PoolError> {
        let report = self.report("activate").await?;
        let (lv, tags) = self.finished(&report, &slice.id)?;
        if tags.growing_from.is_some() {
            return Err(self.busy(&slice.id, "it is being extended".to_owned()));
        }
        if tags.header_bytes != header_bytes(&slice.layout) {
            return Err(self.unfit(format!(
                "slice {} has a header of {} bytes, its volume says {}",
                slice.id.name(),
                tags.header_bytes,
                header_bytes(&slice.layout)
            )));
        }
        let device = match lv.active {
            true => self.group.device(&lv.name),
            false => self.activate_lv(&lv.name).await?,
        };
        Ok(Device {
            path: self.plain_of(&lv.name, device, &slice.layout).await?,
            // dm-crypt has dealt with the encryption.
            layout: Layout::Raw,
            export: None,
        })
    }

    pub(super) async fn close_device(&self, id: &SliceId) -> Result<(), PoolError> {
        let report = self.report("deactivate").await?;
        match self.find(&report, id)? {
            Some((lv, _)) if lv.active => self.take_down(lv).await,
            Some(_) | None => Ok(()),
        }
    }

    pub(super) async fn source(&self, slice: &Slice) -> Result<Box<dyn ImageSource>, PoolError> {
        let report = self.report("open").await?;
        let (lv, _) = self.finished(&report, &slice.id)?;
        if lv.is_cow_snapshot() {
            self.check_cow(lv).await?;
        }
        let name = slice.id.name();
        let device = self.open_device(slice).await?.path;
        let open = |path: PathBuf, bytes: u64| async move {
            let opened = self.images.open_source(&path, bytes, &Layout::Raw).await;
            opened.map_err(|source| self.image(&slice.id, source))
        };
        let header = header_bytes(&slice.layout);
        let encrypted = match header {
            0 => None,
            _ => Some(open(self.group.device(&name), header + slice.size_bytes).await?),
        };
        let plain = open(device, slice.size_bytes).await?;
        Ok(Box::new(Source { plain, encrypted }))
    }

    pub(super) async fn sink(&self, slice: &Slice) -> Result<Sink, PoolError> {
        let device = self.open_device(slice).await?.path;
        self.sink_at(slice, &device, matches!(slice.layout, Layout::Raw))
            .await
    }

    /// Opens a device of the size of a slice to be filled.
    pub(super) async fn sink_at(&self, slice: &Slice, device: &Path, blank: bool) -> Result<Sink, PoolError> {
        let opened = self
            .images
            .open_sink(device, slice.size_bytes, &Layout::Raw)
            .await;
        Ok(Sink {
            image: opened.map_err(|source| self.image(&slice.id, source))?,
            blank,
        })
    }

    /// Makes a range of a device read as zeros, by the device's own means where it has them.
    pub(super) async fn wipe(
        &self,
        slice: &SliceId,
        device: &Path,
        from: u64,
        to: u64,
    ) -> Result<(), PoolError> {
        let (disk, path) = (self.disk.clone(), device.to_owned());
        let wiped = self.workers.run(move || {
            let file = disk.open("pool:wipe", &path, OpenOptions::READ_WRITE)?;
            let mut at = from;
            while at < to {
                let len = (to - at).min(WIPE_STEP_BYTES);
                match file.punch_hole(at, len) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(&*file, at, len)?,
                    other => other?,
                }
                at += len;
            }
            file.sync_data()
        });
        wiped
            .await
            .map_err(|source| self.io("wipe", &slice.name(), source))
    }

    /// Ends what a crash left: helper volumes go, devices that nobody uses are taken down.
    pub(super) async fn tidy(&self) -> Result<(), PoolError> {
        let report = self.read("tidy").await?;
        for lv in &report.lvs {
            let mine = !lv.hidden && lv.pool.as_deref() == self.thin_pool();
            if mine
                && tags::temporary_owner(&lv.tags).is_some()
                && let Err(error) = self.remove_lv(&lv.name).await
            {
                // In a group that lacks a disk nothing can be removed; what is whole works all the same.
                tracing::warn!(lv = lv.name, error = %crate::ops::chain(&error), "helper volume not removed");
            }
        }
        let encrypted = self.crypt.active().await;
        let encrypted = encrypted.map_err(|source| self.group_error("list", "encrypted devices", source))?;
        for (lv, _) in self.ours(&report).filter(|(lv, _)| lv.active) {
            let mapped = encrypted.contains(&mapping(&lv.name));
            if lv.open && !mapped {
                continue; // a guest has it
            }
            // A mapping that a guest has open stays too: closing it is refused.
            if let Err(error) = self.take_down(lv).await {
                tracing::debug!(lv = lv.name, error = %crate::ops::chain(&error), "device in use left alone");
            }
        }
        Ok(())
    }
}

fn write_zeros(file: &dyn crashsafe::DiskFile, from: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_LEN];
    let (mut at, end) = (from, from + len);
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
        file.write_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}
