//! What can be said of a disk while it opens, is served, and after it ended.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::driver::Orders;
use super::settings::Settings;

/// Where a disk's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The journal and the bucket are being read.
    Opening,
    /// Clients are answered.
    Serving,
    /// Another host owns the disk.
    Fenced,
    /// It ended; `why` says how.
    Stopped,
}

/// The files of one disk on a host: the directory `disks/<volume id>` below the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDir(PathBuf);

impl DiskDir {
    /// Returns the directory of a volume's disk.
    #[must_use]
    pub fn new(data_dir: &Path, volume: &crate::volume::VolumeId) -> Self {
        Self(data_dir.join("disks").join(volume.as_str()))
    }

    /// Returns the directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `settings.json`: see [`Settings`].
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.0.join("settings.json")
    }

    /// `lock`: held by the process that serves the disk, with its id in it.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// `nbd.sock`: the export.
    #[must_use]
    pub fn export(&self) -> PathBuf {
        self.0.join("nbd.sock")
    }

    /// `control.sock`: HTTP.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// `told.json`: what was last said of the volume in the bucket.
    #[must_use]
    pub fn told(&self) -> PathBuf {
        self.0.join("told.json")
    }

    /// `force`: the epoch over which the disk may be claimed although it was not given up, in decimal digits.
    #[must_use]
    pub fn force(&self) -> PathBuf {
        self.0.join("force")
    }

    /// `probed.json`: with which store the probe was content, and when.
    #[must_use]
    pub fn probed(&self) -> PathBuf {
        self.0.join("probed.json")
    }
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    why: Option<String>,
    orders: Option<Orders>,
    settings: Settings,
}

/// What the control socket tells, and the way to the disk while it is served.
#[derive(Debug)]
pub(super) struct State(Mutex<Inner>);

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Mutex::new(Inner {
            phase: Phase::Opening,
            why: None,
            orders: None,
            settings,
        }))
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn serve(&self, orders: Orders) {
        let mut inner = self.inner();
        inner.phase = Phase::Serving;
        inner.orders = Some(orders);
    }

    pub(super) fn end(&self, phase: Phase, why: String) {
        let mut inner = self.inner();
        inner.phase = phase;
        inner.why = Some(why);
        inner.orders = None;
    }

    pub(super) fn phase(&self) -> (Phase, Option<String>) {
        let inner = self.inner();
        (inner.phase, inner.why.clone())
    }

    pub(super) fn orders(&self) -> Option<Orders> {
        self.inner().orders.clone()
    }

    pub(super) fn settings(&self) -> Settings {
        self.inner().settings.clone()
    }

    pub(super) fn set_settings(&self, settings: Settings) {
        self.inner().settings = settings;
    }
}
