//! Linear slices: extents of their own, captured by temporary copy-on-write snapshots.

use super::{LvmKind, LvmPool, header_bytes, lv_bytes};
use crate::bulk::{self, ImageSource, Layout};
use crate::lvm::group::Report;
use crate::lvm::report::Lv;
use crate::lvm::status::SnapshotStatus;
use crate::lvm::{tags, thin_pool};
use crate::pool::{Fault, Gauge, PoolError, Reading, Slice, SliceId};

/// Least room of a temporary snapshot, in extents.
const SNAPSHOT_EXTENTS_MIN: u64 = 4;

impl LvmPool {
    /// Refuses more bytes than the group has in free extents.
    pub(super) fn check_free(&self, report: &Report, wanted_bytes: u64) -> Result<(), PoolError> {
        if wanted_bytes <= report.vg.free_bytes {
            return Ok(());
        }
        Err(PoolError::NoSpace {
            pool: self.config.name.clone(),
            wanted_bytes,
        })
    }

    /// Returns the fault of a group in which LVM changes nothing.
    pub(super) fn read_only_group(&self, report: &Report) -> Option<Fault> {
        (!report.vg.writable).then(|| Fault {
            state: "read_only",
            sentence: format!(
                "volume group {} takes no changes: see vgs, and docs/operating/lvm-pools.md",
                self.group.name()
            ),
        })
    }

    pub(super) fn linear_reading(&self, report: &Report) -> Reading {
        let fault = match report.vg.missing_pvs {
            0 => self.read_only_group(report),
            _ => Some(thin_pool::missing_pv()),
        };
        let used_bytes = report.vg.size_bytes.saturating_sub(report.vg.free_bytes);
        Reading {
            gauges: vec![Gauge {
                what: "data",
                used_bytes,
                room_bytes: report
                    .vg
                    .size_bytes
                    .saturating_sub(self.config.capacity.reserve_bytes),
            }],
            fault,
        }
    }

    /// Says that a capture of a linear volume still has everything it should.
    pub(super) async fn check_cow(&self, lv: &Lv) -> Result<(), PoolError> {
        let lost = lv.overflowed
            || (lv.active && {
                let status = self.group.snapshot_status(&lv.name).await;
                let status = status.map_err(|source| self.group_error("look at", &lv.name, source))?;
                status == SnapshotStatus::Lost
            });
        if !lost {
            return Ok(());
        }
        Err(PoolError::Overflowed {
            pool: self.config.name.clone(),
            slice: lv.name.clone(),
        })
    }

    /// LVM cannot grow a volume that has snapshots and is in use.
    pub(super) async fn check_growable(&self, report: &Report, id: &SliceId) -> Result<(), PoolError> {
        let name = id.name();
        for snapshot in report.cow_snapshots(&name) {
            if tags::temporary_owner(&snapshot.tags).is_some() {
                // Left by a copy that a crash ended: a running one holds the volume's lock.
                self.remove_lv(&snapshot.name).await?;
            } else {
                return Err(self.busy(
                    id,
                    format!(
                        "{} of it is being uploaded, and it grows after that",
                        snapshot.name
                    ),
                ));
            }
        }
        Ok(())
    }

    pub(super) async fn remove_helpers(&self, report: &Report, id: &SliceId) -> Result<(), PoolError> {
        for lv in &report.lvs {
            let of_it = tags::temporary_owner(&lv.tags).as_ref() == Some(id)
                || (lv.origin.as_deref() == Some(id.name().as_str())
                    && tags::temporary_owner(&lv.tags).is_some());
            if of_it {
                self.remove_lv(&lv.name).await?;
            }
        }
        Ok(())
    }

    /// Takes a copy-on-write snapshot of a volume, with room for a share of it.
    async fn snapshot(&self, source: &Slice, name: &str, tags: &[String]) -> Result<(), PoolError> {
        let LvmKind::Linear { snapshot_percent } = self.config.kind else {
            unreachable!("thin pools take thin snapshots")
        };
        let report = self.report("measure").await?;
        let extent = report.vg.extent_bytes;
        let share = lv_bytes(source) / 100 * snapshot_percent;
        let room = (share.div_ceil(extent) * extent).max(SNAPSHOT_EXTENTS_MIN * extent);
        self.check_free(&report, room)?;
        let origin = self.group.path(&source.id.name());
        // Without a device of its origin a snapshot has none either.
        self.activate_lv(&source.id.name()).await?;
        let room = format!("{room}b");
        self.lvcreate(tags, name, &["-s", "-L", &room, &origin])
            .await
            .map(drop)
    }

    pub(super) async fn copy_linear(&self, source: &Slice, target: &Slice) -> Result<(), PoolError> {
        if let (SliceId::Capture(_), SliceId::Volume(of)) = (&target.id, &source.id) {
            // Read as long as it is uploaded, then removed: the snapshot itself is the capture.
            let mut tags = self.new_tags(target, true);
            tags.of = Some(of.clone());
            return self.snapshot(source, &target.id.name(), &tags.render()).await;
        }
        let helper = format!("t-{}", target.id.name());
        let report = self.report("copy").await?;
        self.remove_helpers(&report, &target.id).await?;
        self.lay_out(target).await?;
        self.snapshot(source, &helper, &tags::temporary(&target.id))
            .await?;
        let copied = self.copy_bytes(source, target, &helper).await;
        let still_whole = match (&copied, self.report("copy").await?.lv(&helper)) {
            (Ok(()), Some(lv)) => self.check_cow(lv).await,
            (Ok(()), None) => Err(self.busy(&target.id, "its snapshot is gone".to_owned())),
            (Err(_), _) => Ok(()),
        };
        self.remove_lv(&helper).await?;
        // An overflow is the cause of errors that a read met.
        still_whole?;
        copied?;
        self.finish_copy(target, &source.layout).await
    }

    /// Copies all bytes of a snapshot, header included, into an unfinished slice.
    async fn copy_bytes(&self, source: &Slice, target: &Slice, helper: &str) -> Result<(), PoolError> {
        let bytes = lv_bytes(source);
        let from = self
            .images
            .open_source(&self.group.device(helper), bytes, &Layout::Raw)
            .await;
        let from = from.map_err(|error| self.image(&source.id, error))?;
        let device = self.activate_lv(&target.id.name()).await?;
        let whole = Slice {
            size_bytes: bytes,
            layout: Layout::Raw,
            ..target.clone()
        };
        // Extents hold what was there before, so zeros are written too.
        let to = self.sink_at(&whole, &device, false).await?;
        assert_eq!(
            from.size_bytes(),
            header_bytes(&source.layout) + source.size_bytes
        );
        let copied = bulk::copy(&from, &to).await;
        copied
            .map(drop)
            .map_err(|error| self.io("copy into", &target.id.name(), error))
    }
}
