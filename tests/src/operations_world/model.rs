//! What the world should look like, as far as its requests were answered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use sim::SimDisk;
use volumed::bulk::{ImageSink as _, Layout};

use super::host::{Content, SPOTS, images, stamped};

/// Whether a volume is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    No,
    Maybe,
    Yes,
}

/// What became of the deletion of a volume that was not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Early {
    /// The answer was lost, or was an error.
    Maybe,
    /// It had just become ready and was deleted as any other.
    Yes,
    /// It never becomes ready, and goes.
    Doomed,
}

/// Where a copy's content must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// An empty volume.
    Empty,
    /// One of the contents that the source had from this point of its history on.
    Volume { id: String, from: usize },
    /// A snapshot's content.
    Snapshot { id: String },
}

/// How a guest opens its volume.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) path: PathBuf,
    pub(super) layout: Layout,
    pub(super) size_bytes: u64,
}

/// A volume.
#[derive(Debug, Clone)]
pub(super) struct Vol {
    /// Its contents, oldest first; the last is the newest. Never empty.
    pub(super) history: Vec<Content>,
    /// Not read yet: what the first content must be.
    pub(super) base: Option<Base>,
    /// Sizes that it may have.
    pub(super) size_gb: (u32, u32),
    pub(super) generation: u64,
    /// Who holds it; both, when an answer was lost.
    pub(super) holders: Vec<Option<String>>,
    pub(super) device: Option<Device>,
    pub(super) deletion: Deletion,
    /// Gone for good; kept for its history.
    pub(super) gone: bool,
    /// Ready, as an answer said or a look showed.
    pub(super) ready: bool,
    /// Somebody was told that it goes before it was ready.
    pub(super) doomed: bool,
    /// Spots whose last write met an error.
    pub(super) unsure: Vec<usize>,
}

impl Vol {
    pub(super) fn new(size_gb: u32, base: Base) -> Self {
        Self {
            history: vec![Content::new()],
            base: Some(base),
            size_gb: (size_gb, size_gb),
            generation: 0,
            holders: vec![None],
            device: None,
            deletion: Deletion::No,
            gone: false,
            ready: false,
            doomed: false,
            unsure: Vec::new(),
        }
    }

    /// Returns the machine that surely holds it.
    pub(super) fn holder(&self) -> Option<&str> {
        match self.holders.as_slice() {
            [Some(one)] => Some(one),
            _ => None,
        }
    }

    /// Says whether it is surely free.
    pub(super) fn free(&self) -> bool {
        self.holders == [None]
    }

    pub(super) fn now(&self) -> usize {
        self.history.len() - 1
    }
}

/// A snapshot.
#[derive(Debug, Clone)]
pub(super) struct Snap {
    pub(super) volume: String,
    /// The range of the volume's history that it may hold.
    pub(super) from: usize,
    pub(super) to: Option<usize>,
    /// Read from the bucket: what it holds.
    pub(super) content: Option<Content>,
    /// From when on volumed may remove it by itself.
    pub(super) expires_at: Timestamp,
    pub(super) deleted: bool,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) volumes: BTreeMap<String, Vol>,
    pub(super) snapshots: BTreeMap<String, Snap>,
    /// Requests for volumes whose answer was lost, or has not come.
    pub(super) lost_creates: Vec<Base>,
    /// Requests for snapshots of a volume, from a point of its history on.
    pub(super) lost_snapshots: Vec<(String, usize)>,
    /// Deletions of volumes that were not ready, by volume, until it is looked at.
    pub(super) early: BTreeMap<String, Early>,
    pub(super) stamp: u64,
    pub(super) names: u64,
}

impl Model {
    /// Returns the volumes that are not gone.
    pub(super) fn living(&self) -> impl Iterator<Item = &String> {
        self.volumes.iter().filter(|(_, v)| !v.gone).map(|(id, _)| id)
    }

    /// Returns the snapshots that nobody deleted.
    pub(super) fn restorable(&self) -> impl Iterator<Item = &String> {
        self.snapshots
            .iter()
            .filter(|(_, s)| !s.deleted)
            .map(|(id, _)| id)
    }

    /// Notes the deletions of volumes that were not ready, now that these are known.
    pub(super) fn note_early(&mut self) {
        let volumes = &mut self.volumes;
        self.early.retain(|id, early| {
            let Some(vol) = volumes.get_mut(id) else {
                return true;
            };
            match early {
                Early::Maybe if vol.deletion == Deletion::No => vol.deletion = Deletion::Maybe,
                Early::Maybe => {}
                Early::Yes => vol.deletion = Deletion::Yes,
                Early::Doomed => (vol.deletion, vol.doomed) = (Deletion::Yes, true),
            }
            false
        });
    }

    pub(super) fn vol(&mut self, id: &str, edit: impl FnOnce(&mut Vol)) {
        if let Some(vol) = self.volumes.get_mut(id) {
            edit(vol);
        }
    }

    pub(super) fn snap(&mut self, id: &str, edit: impl FnOnce(&mut Snap)) {
        if let Some(snap) = self.snapshots.get_mut(id) {
            edit(snap);
        }
    }

    /// Lets the guest of a volume write a stamp and sync. Whatever the power does, the model knows what may be there.
    pub(super) async fn write(&mut self, disk: &SimDisk, id: &str, spot: usize) -> Result<(), String> {
        let Some(vol) = self.volumes.get_mut(id) else {
            return Ok(());
        };
        let Some(device) = vol.device.clone() else {
            return Ok(());
        };
        self.stamp += 1;
        let stamp = self.stamp;
        let written = async {
            let image = images(disk)
                .open_sink(&device.path, device.size_bytes, &device.layout)
                .await;
            let image = image.map_err(std::io::Error::other)?;
            image.write_at(SPOTS[spot], stamped(stamp).into()).await?;
            image.sync().await
        };
        match written.await {
            Ok(()) => {
                vol.unsure.retain(|s| *s != spot);
                let mut next = vol.history[vol.now()].clone();
                next.insert(spot, stamp);
                vol.history.push(next);
                Ok(())
            }
            Err(_) if !disk.is_powered() => {
                vol.unsure.push(spot);
                Ok(())
            }
            Err(error) => Err(format!("guest of {id} cannot write: {error}")),
        }
    }

    /// Writes what power cuts left unsure again, before anybody looks at it.
    pub(super) async fn mend(&mut self, disk: &SimDisk) -> Result<(), String> {
        let unsure: Vec<(String, Vec<usize>)> = self
            .volumes
            .iter()
            .map(|(id, v)| (id.clone(), v.unsure.clone()))
            .collect();
        for (id, spots) in unsure {
            for spot in spots {
                self.write(disk, &id, spot).await?;
            }
        }
        Ok(())
    }
}
