//! How a slice comes to be, grows and goes: what thin and linear ones share.

use std::path::Path;

use super::devices::mapping;
use super::{EDGE_BYTES, LvmPool, header_bytes, lv_bytes};
use crate::bulk::{ImageSink as _, Layout};
use crate::lvm::group::Report;
use crate::lvm::report::Lv;
use crate::lvm::tags::{self, SliceTags, UNFINISHED};
use crate::pool::{PoolError, Slice, SliceId, ZeroEnd};

impl LvmPool {
    /// Says whether a finished slice of that size is there; removes an unfinished one, which an earlier try left.
    pub(super) async fn already(&self, report: &Report, slice: &Slice) -> Result<bool, PoolError> {
        let Some((lv, tags)) = self.find(report, &slice.id)? else {
            return Ok(false);
        };
        if !tags.complete {
            self.close_plain(&lv.name).await?;
            self.remove_lv(&lv.name).await?;
            return Ok(false);
        }
        if self.half_made(report, lv).await? {
            // Whoever asks was not told that it is there: it is an earlier try that LVM did not live to finish.
            tracing::warn!(
                lv = lv.name,
                "thin volume that its pool never heard of is made anew"
            );
            self.remove_lv(&lv.name).await?;
            return Ok(false);
        }
        if tags.size_bytes == slice.size_bytes && tags.header_bytes == header_bytes(&slice.layout) {
            return Ok(true);
        }
        Err(self.wrong_size(&slice.id, tags.size_bytes, slice.size_bytes))
    }

    pub(super) fn wrong_size(&self, id: &SliceId, found_bytes: u64, expected_bytes: u64) -> PoolError {
        PoolError::WrongSize {
            pool: self.config.name.clone(),
            slice: id.name(),
            found_bytes,
            expected_bytes,
        }
    }

    /// Returns the tags of a new slice.
    pub(super) fn new_tags(&self, slice: &Slice, complete: bool) -> SliceTags {
        SliceTags {
            id: slice.id.clone(),
            complete,
            size_bytes: slice.size_bytes,
            header_bytes: header_bytes(&slice.layout),
            of: None,
            lineage: None,
            growing_from: None,
        }
    }

    /// Makes a logical volume by `lvcreate` with the slice's tags.
    ///
    /// * `form`: the arguments that say what kind of volume; the group or the origin comes last.
    pub(super) async fn lvcreate(
        &self,
        tags: &[String],
        name: &str,
        form: &[&str],
    ) -> Result<Report, PoolError> {
        let mut args = vec!["-y", "-n", name];
        for tag in tags {
            args.extend(["--addtag", tag]);
        }
        args.extend(form);
        let there = |report: &Report| match report.lv(name) {
            Some(lv) if tags.iter().all(|tag| lv.has_tag(tag)) => Ok(()),
            Some(_) => Err(format!("{name} lacks a tag")),
            None => Err(format!("{name} is not there")),
        };
        let made = self.group.change_and_tell("lvcreate", &args, there).await;
        let (report, complaint) = made.map_err(|source| self.group_error("make", name, source))?;
        if let (Some(why), Some(lv)) = (complaint, report.lv(name))
            && self.half_made(&report, lv).await?
        {
            self.remove_lv(name).await?;
            return Err(self.group_error("make", name, why));
        }
        Ok(report)
    }

    /// Makes the unfinished logical volume of a new slice.
    pub(super) async fn lay_out(&self, slice: &Slice) -> Result<(), PoolError> {
        let (name, tags) = (slice.id.name(), self.new_tags(slice, false).render());
        let size = format!("{}b", lv_bytes(slice));
        let vg = self.group.name();
        match self.thin_pool() {
            Some(thin_pool) => {
                let form = ["-ky", "-V", &size, "--thinpool", thin_pool, vg];
                self.lvcreate(&tags, &name, &form).await?;
            }
            None => {
                // Anew: what an earlier try left may just have been removed.
                self.check_free(&self.report("measure").await?, lv_bytes(slice))?;
                // Zeroed by us: all of it, see `make`.
                let form = ["-ky", "-an", "-Wn", "-Zn", "-L", &size, vg];
                self.lvcreate(&tags, &name, &form).await?;
            }
        }
        Ok(())
    }

    /// Makes an empty slice.
    pub(super) async fn make(&self, slice: &Slice) -> Result<(), PoolError> {
        let report = self.report("create").await?;
        if self.already(&report, slice).await? {
            return Ok(());
        }
        self.check_zeroing(&report, slice)?;
        self.lay_out(slice).await?;
        let name = slice.id.name();
        if self.thin_pool().is_none() {
            // Extents hold what was there before: that of another tenant. Below encryption too, so that a backup can
            // tell what was never written.
            let device = self.activate_lv(&name).await?;
            self.wipe(&slice.id, &device, 0, lv_bytes(slice)).await?;
        }
        if let Layout::Luks { passphrase } = &slice.layout {
            let device = self.activate_lv(&name).await?;
            let formatted = self.crypt.format(&device, passphrase).await;
            formatted.map_err(|source| self.group_error("encrypt", &name, source))?;
            let plain = self.open_plain(&name, &slice.layout).await?;
            let edge = EDGE_BYTES.min(slice.size_bytes);
            self.zero_at(slice, &plain, 0, edge).await?;
            self.zero_at(slice, &plain, slice.size_bytes - edge, edge).await?;
        }
        self.publish(&slice.id).await
    }

    async fn zero_at(&self, slice: &Slice, device: &Path, offset: u64, len: u64) -> Result<(), PoolError> {
        let sink = self.sink_at(slice, device, false).await?;
        let zeroed = async {
            sink.zero(offset, len).await?;
            sink.sync().await
        };
        let zeroed = zeroed.await;
        zeroed.map_err(|source| self.io("zero an edge of", &slice.id.name(), source))
    }

    /// Finishes a slice: from here on it counts.
    pub(super) async fn publish(&self, id: &SliceId) -> Result<(), PoolError> {
        let name = id.name();
        self.close_plain(&name).await?;
        let path = self.group.path(&name);
        let finished = |report: &Report| match report.lv(&name) {
            Some(lv) if !lv.has_tag(UNFINISHED) => Ok(()),
            Some(_) => Err(format!("{name} is still tagged unfinished")),
            None => Err(format!("{name} is not there")),
        };
        let changed = self
            .group
            .change("lvchange", &["-y", "--deltag", UNFINISHED, &path], finished)
            .await;
        changed
            .map(drop)
            .map_err(|source| self.group_error("finish", &name, source))
    }

    pub(super) async fn finish_copy(&self, slice: &Slice, source_layout: &Layout) -> Result<(), PoolError> {
        let report = self.report("finish").await?;
        let found = self.find(&report, &slice.id)?;
        if found.is_some_and(|(_, tags)| tags.complete) {
            return Ok(());
        }
        if let (Layout::Luks { passphrase: old }, Layout::Luks { passphrase: new }) =
            (source_layout, &slice.layout)
        {
            let name = slice.id.name();
            let device = self.activate_lv(&name).await?;
            let rekeyed = self.crypt.rekey(&device, old, new).await;
            rekeyed.map_err(|source| self.group_error("re-key", &name, source))?;
        }
        self.publish(&slice.id).await
    }

    /// Grows a slice. The tag that it is growing comes before and goes after everything else.
    pub(super) async fn lengthen(
        &self,
        slice: &Slice,
        from_bytes: u64,
        zero_end: ZeroEnd,
    ) -> Result<(), PoolError> {
        let report = self.report("grow").await?;
        let (lv, tags) = self.finished(&report, &slice.id)?;
        let header = header_bytes(&slice.layout);
        let target = lv_bytes(slice);
        if lv.size_bytes < from_bytes + header || lv.size_bytes > target || tags.header_bytes != header {
            // Shrinking would cut off what a guest may have written.
            return Err(self.wrong_size(&slice.id, lv.size_bytes, target));
        }
        let unfinished = tags.growing_from;
        if lv.size_bytes == target && tags.size_bytes == slice.size_bytes && unfinished.is_none() {
            return match zero_end {
                ZeroEnd::Always => self.zero_end_of(slice, lv.active).await,
                ZeroEnd::Never | ZeroEnd::IfGrownNow => Ok(()),
            };
        }
        let was_active = lv.active;
        let old_bytes = unfinished.unwrap_or(lv.size_bytes);
        if lv.size_bytes < target {
            if self.thin_pool().is_none() {
                self.check_growable(&report, &slice.id).await?;
                self.check_free(&report, target - lv.size_bytes)?;
            }
            self.extend(&slice.id, old_bytes, target).await?;
        }
        if self.thin_pool().is_none() {
            let device = match was_active {
                true => self.group.device(&lv.name),
                false => self.activate_lv(&lv.name).await?,
            };
            self.wipe(&slice.id, &device, old_bytes, target).await?;
        }
        self.resize_mapping(slice).await?;
        // Nobody was handed a device of the new size yet.
        if zero_end != ZeroEnd::Never {
            self.zero_end_of(slice, was_active).await?;
        } else if !was_active {
            self.close_plain(&lv.name).await?;
        }
        self.grown(slice, &tags, old_bytes).await
    }

    async fn extend(&self, id: &SliceId, old_bytes: u64, target: u64) -> Result<(), PoolError> {
        let name = id.name();
        let (path, growing) = (self.group.path(&name), tags::growing(old_bytes));
        let tagged = |report: &Report| match report.lv(&name) {
            Some(lv) if lv.has_tag(&growing) => Ok(()),
            Some(_) | None => Err(format!("{name} lacks the tag {growing}")),
        };
        let marked = self
            .group
            .change_first("lvchange", &["-y", "--addtag", &growing, &path], tagged)
            .await;
        marked.map_err(|source| self.group_error("grow", &name, source))?;
        let size = format!("{target}b");
        let extended = |report: &Report| match report.lv(&name) {
            Some(lv) if lv.size_bytes == target => tagged(report),
            Some(lv) => Err(format!("{name} has {} bytes", lv.size_bytes)),
            None => Err(format!("{name} is not there")),
        };
        let grown = self
            .group
            .change("lvextend", &["-y", "-L", &size, &path], extended)
            .await;
        grown
            .map(drop)
            .map_err(|source| self.group_error("grow", &name, source))
    }

    async fn resize_mapping(&self, slice: &Slice) -> Result<(), PoolError> {
        let Layout::Luks { passphrase } = &slice.layout else {
            return Ok(());
        };
        let name = slice.id.name();
        let active = self.crypt.active().await;
        let active = active.map_err(|source| self.group_error("list", "encrypted devices", source))?;
        if !active.contains(&mapping(&name)) {
            return Ok(()); // opened next time, it has the device's size
        }
        let resized = self.crypt.resize(&mapping(&name), passphrase).await;
        resized.map_err(|source| self.group_error("resize the encryption of", &name, source))
    }

    /// Makes the last MiB read as zeros: on fresh chunks and wiped extents it does, unless there is encryption on them.
    async fn zero_end_of(&self, slice: &Slice, keep_active: bool) -> Result<(), PoolError> {
        let name = slice.id.name();
        if matches!(slice.layout, Layout::Luks { .. }) {
            let plain = self.open_plain(&name, &slice.layout).await?;
            self.zero_at(slice, &plain, slice.size_bytes - EDGE_BYTES, EDGE_BYTES)
                .await?;
        }
        if keep_active {
            return Ok(());
        }
        self.close_plain(&name).await
    }

    /// Ends a grow: the slice says its new size and that nothing is going on.
    async fn grown(&self, slice: &Slice, before: &SliceTags, old_bytes: u64) -> Result<(), PoolError> {
        let name = slice.id.name();
        let path = self.group.path(&name);
        let (growing, old, new) = (
            tags::growing(old_bytes),
            tags::size(before.size_bytes),
            tags::size(slice.size_bytes),
        );
        let mut args = vec!["-y", "--deltag", &growing];
        if old != new {
            args.extend(["--deltag", &old, "--addtag", &new]);
        }
        args.push(&path);
        let settled = |report: &Report| match report.lv(&name).and_then(|lv| SliceTags::parse(&lv.tags)) {
            Some(tags) if tags.growing_from.is_none() && tags.size_bytes == slice.size_bytes => Ok(()),
            Some(_) | None => Err(format!("{name} has not the tags of its new size")),
        };
        let changed = self.group.change("lvchange", &args, settled).await;
        changed
            .map(drop)
            .map_err(|source| self.group_error("grow", &name, source))
    }

    /// Removes a slice with its helpers.
    pub(super) async fn remove(&self, id: &SliceId) -> Result<(), PoolError> {
        let report = self.report("delete").await?;
        if self.thin_pool().is_none() {
            self.remove_helpers(&report, id).await?;
        }
        let Some((lv, _)) = self.find(&report, id)? else {
            return Ok(());
        };
        let captures: Vec<&str> = report
            .cow_snapshots(&lv.name)
            .filter(|snapshot| tags::temporary_owner(&snapshot.tags).is_none())
            .map(|snapshot| snapshot.name.as_str())
            .collect();
        if !captures.is_empty() {
            return Err(self.busy(id, format!("{} of it is being uploaded", captures.join(", "))));
        }
        if lv.active {
            self.take_down(lv).await?;
        }
        self.remove_lv(&lv.name).await
    }

    /// Removes a logical volume of ours by its name.
    pub(super) async fn remove_lv(&self, name: &str) -> Result<(), PoolError> {
        let Err(error) = self.try_remove_lv(name).await else {
            return Ok(());
        };
        let report = self.read("remove").await?;
        match report.lv(name) {
            Some(lv) if self.half_made(&report, lv).await? => {
                self.make_unheard(lv).await;
                self.try_remove_lv(name).await
            }
            Some(_) | None => Err(error),
        }
    }

    async fn try_remove_lv(&self, name: &str) -> Result<(), PoolError> {
        let path = self.group.path(name);
        let gone = |report: &Report| match report.lv(name) {
            Some(_) => Err(format!("{name} is still there")),
            None => Ok(()),
        };
        let removed = self.group.change("lvremove", &["-y", "-f", &path], gone).await;
        removed
            .map(drop)
            .map_err(|source| self.group_error("remove", name, source))
    }

    /// Returns the bytes of the pool that a slice takes; of a thin one without a device LVM does not know it.
    pub(super) fn allocated_bytes(&self, lv: &Lv) -> u64 {
        match self.thin_pool() {
            Some(_) => lv.allocated_bytes.unwrap_or_default(),
            None => lv.size_bytes,
        }
    }
}
